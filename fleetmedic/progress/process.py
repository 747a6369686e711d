"""Identify a process by its pid, pid namespace and start time. Standard library only and fast to import."""

from __future__ import annotations

import os

INITIAL_NAMESPACE = 0xEFFFFFFC  # the inode of the initial pid namespace on every Linux


def pid_namespace() -> int:
    """Return the inode of the pid namespace of this process; 0 if unknown."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - pathlib is slow to import
    except OSError:
        return 0


def start_ticks(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot; 0 if the process does not run.

    Also 0 for a zombie, and for a process that cannot be inspected. The kernel reuses a pid, but
    not together with its start time.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read(4096).rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0
