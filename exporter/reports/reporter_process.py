"""Checks whether the process that wrote a report still exists."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from exporter.reports.report import Report


@cache
def _namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def has_exited(report: Report) -> bool:
    """Return whether the report's process has certainly ended.

    A process in another namespace, or one that the exporter may not inspect, counts as running.
    """
    if not report.pid or not report.pid_ns or report.pid_ns != _namespace():
        return False
    if report.pid > 2**31 - 1:
        return False
    try:
        os.kill(report.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    began = _began(report.pid)
    return bool(began and report.pid_start and began != report.pid_start)


def _began(pid: int) -> int:
    """Return the start time of the process in clock ticks since boot; 0 if unknown."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
