"""Checks whether the process that wrote a report still exists."""

from __future__ import annotations

import os
from functools import cache

from exporter.reports.report import Report
from fleetmedic.progress.process import pid_namespace, start_ticks

_own_namespace = cache(pid_namespace)


def has_exited(report: Report) -> bool:
    """Return whether the report's process has certainly ended.

    A process in another namespace, or one that the exporter may not inspect, counts as running.
    """
    if not report.pid or not report.pid_ns or report.pid_ns != _own_namespace():
        return False
    if report.pid > 2**31 - 1:
        return False
    try:
        os.kill(report.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    began = start_ticks(report.pid)
    return bool(began and report.pid_start and began != report.pid_start)
