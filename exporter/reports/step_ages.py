"""Measures how long ago each training job completed its latest step.

A job reports the time of its step by its own clock, and a node's clock can be wrong by hours. So
the age is measured on the monotonic clock of this process, from the moment at which the number of
the step changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from exporter.reports.report import Key, TrainingReport


class _StepSeen(NamedTuple):
    """A reporter's latest step number, and the monotonic time (seconds) at which it was first seen."""

    step: int
    at: float


class StepAges:
    """The age of the latest step of each reporter."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[Key, _StepSeen] = {}

    def age(self, report: TrainingReport, report_age: float) -> float | None:
        """Return the age of the latest step in seconds; None before the first step.

        If this is the first report of the job, the time at which the number of the step changed is
        unknown. In this case the result is the age of the report (`report_age`, seconds), because a
        job sends a report for each step.
        """
        if not report.step_at:
            return None
        now = self._monotonic()
        seen = self._seen.get(report.key)
        if seen is None or seen.step != report.step:
            first = seen is None
            seen = _StepSeen(report.step, now - max(0.0, report_age) if first else now)
            self._seen[report.key] = seen
        return now - seen.at

    def keep(self, keys: Iterable[Key]) -> None:
        """Remove the ages of all reporters that are not in the argument."""
        kept = set(keys)
        self._seen = {key: seen for key, seen in self._seen.items() if key in kept}
