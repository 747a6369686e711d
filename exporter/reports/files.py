"""Reads progress reports from a directory to which jobs write."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exporter.reports.permissions import ReportPermissions
from exporter.reports.report import (
    MAX_BYTES,
    Reason,
    Report,
    ReportRejected,
    TrainingReport,
    parse,
)
from exporter.reports.report_disk import ReportDisk

MAX_FILES = 1000
MAX_ENTRIES = 20_000  # maximum number of folder entries to scan


class StoredReport(NamedTuple):
    """A progress report and its arrival time in Unix seconds."""

    report: Report
    at: float


class _ReportFile(NamedTuple):
    """A report file at its latest read.

    `mark` identifies the version of the file. `modified` is in Unix seconds.
    """

    mark: tuple[int, int, int, int]
    uid: int
    modified: float
    found: Report | ReportRejected


class ReportFiles:
    """Reads the files with progress reports that have changed.

    `rejected` is the number of rejected files. `count` is called once per rejected file, and again
    if the file has changed. While jobs cannot write to the file system, reports of training jobs are rejected.
    Otherwise a job that cannot write its report would look like a job that makes no progress.
    """

    def __init__(
        self, folder: Path, permissions: ReportPermissions, count: Callable[[Reason], None]
    ) -> None:
        self._folder = folder
        self._disk = ReportDisk(folder)
        self._permissions = permissions
        self._count = count
        self._seen: dict[str, _ReportFile] = {}
        self._counted: dict[str, tuple[object, Reason]] = {}
        self.rejected = 0

    def read(self) -> Iterator[StoredReport]:
        """Yield all valid reports, by file name. If the directory is missing, no job has started
        yet."""
        names = self._names()
        unwritable = self._disk.unwritable()
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        counted: dict[str, tuple[object, Reason]] = {}
        for name in names:
            mark: object = None
            try:
                seen = self._read_file(name)
                mark = seen.mark
                if isinstance(seen.found, ReportRejected):
                    raise seen.found
                self._permissions.check(seen.found.key, seen.uid)
                if unwritable and isinstance(seen.found, TrainingReport):
                    raise ReportRejected("unwritable", "its file system is full or read-only")
            except ReportRejected as error:
                counted[name] = (mark, error.reason)
                continue
            yield StoredReport(seen.found, seen.modified)
        for name, why in counted.items():
            if self._counted.get(name) != why:
                self._count(why[1])
        self._counted, self.rejected = counted, len(counted)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                scanned = islice(entries, MAX_ENTRIES)
                names = [e.name for e in scanned if e.name.endswith(".json") and e.name[0] != "."]
        except FileNotFoundError:
            return []
        return sorted(names)[:MAX_FILES]

    def _read_file(self, name: str) -> _ReportFile:
        """Return the parsed progress report file. The file is read again only if it changed.

        Raises ReportRejected if it is unreadable or not a regular file. Does not block on a FIFO
        and follows no link.
        """
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._folder / name, flags)
        except OSError as error:
            raise ReportRejected("unreadable", error.strerror or "") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ReportRejected("kind", "not a regular file")
            mark = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            before = self._seen.get(name)
            if before is not None and before.mark == mark:
                return before
            if status.st_size > MAX_BYTES:
                raise ReportRejected("size", "more than 64 KiB")
            data = os.read(descriptor, MAX_BYTES)
        except OSError as error:
            raise ReportRejected("unreadable", error.strerror or "") from None
        finally:
            os.close(descriptor)
        try:
            found: Report | ReportRejected = parse(data, name.removesuffix(".json"))
        except ReportRejected as error:
            found = error
        seen = self._seen[name] = _ReportFile(mark, status.st_uid, status.st_mtime, found)
        return seen
