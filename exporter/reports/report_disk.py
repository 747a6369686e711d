"""Checks whether jobs can write to the directory of progress reports."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.reports.report import MAX_BYTES

_MOUNTS = Path("/proc/self/mountinfo")


class ReportDisk:
    """The file system of the report directory.

    A container may mount the directory read-only although jobs write to it from outside. So a
    read-only mount counts as unwritable only if it was writable before, or if the file system
    itself is read-only.
    """

    def __init__(self, directory: Path, mounts: Path = _MOUNTS) -> None:
        self._directory = directory
        self._mounts = mounts
        self._was_writable = False

    def unwritable(self) -> bool:
        """Return whether jobs cannot write reports: the file system is full or read-only."""
        try:
            status = os.statvfs(self._directory)
            device = self._directory.stat().st_dev
        except OSError:
            return False
        if not status.f_flag & os.ST_RDONLY:
            self._was_writable = True
            no_inode = status.f_files > 0 and status.f_favail == 0
            return status.f_bavail * status.f_frsize < MAX_BYTES or no_inode
        return self._was_writable or self._file_system_is_read_only(device)

    def _file_system_is_read_only(self, device: int) -> bool:
        """Read the options of the file system: the last field of its line in mountinfo."""
        number = f"{os.major(device)}:{os.minor(device)}"
        try:
            lines = self._mounts.read_text(errors="replace").splitlines()
        except OSError:
            return False
        fields = [line.split() for line in lines]
        return any(len(f) > 9 and f[2] == number and "ro" in f[-1].split(",") for f in fields)
