"""Clocks for the current time, which tests can replace.

Decision functions take `now` as an argument; only the outer layers use a Clock.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Any source of the current time."""

    def now(self) -> float:
        """Return the current Unix time in seconds."""
        ...


class SystemClock:
    """The real clock of this machine."""

    def now(self) -> float:
        return time.time()


class SteppedClock:
    """A clock that only `step` moves, for tests and replay."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def step(self, seconds: float) -> None:
        """Move the clock forward by `seconds`."""
        self._at += seconds
