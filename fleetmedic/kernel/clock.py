"""Time as an argument: decisions take `now`; only shells hold a Clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a shell reads the time. Unix seconds."""

    def now(self) -> float:
        """The current Unix time in seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()


class SteppedClock:
    """A clock that moves only when told to: for tests and replay."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def step(self, seconds: float) -> None:
        """Move forward by that many seconds."""
        self._at += seconds
