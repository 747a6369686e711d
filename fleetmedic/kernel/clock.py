"""The clock. Decision functions take `now` as an argument; only the outer layers hold a Clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> float:
        """The current Unix time in seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


class SteppedClock:
    """A clock that only moves by `step`, for tests and replay."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def step(self, seconds: float) -> None:
        """Move the clock forward."""
        self._at += seconds
