"""The wall clock, watched: after a jump, times in the journal and of alerts cannot be compared for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("remediator")
# A jump of this many seconds is no correction of a clock that runs a little fast or slow.
JUMP = 30.0
# For so long (seconds) after a jump nothing disruptive is done. Neither is divided by any factor.
FREEZE = 600.0
# How much a clock that is being corrected may move, in seconds a second.
SLEW = 0.001


class WallClock:
    """Unix seconds, and whether they have been steady. `wall` and `steady` are its two sources."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._looked = steady()
        self._offset = wall() - self._looked
        self._trusted_from = -1e18
        self._jumped = 0.0

    def now(self) -> float:
        """The wall clock's time; each look compares it with the clock that never jumps."""
        steady = self._steady()
        wall = self._wall()
        moved = wall - steady - self._offset
        if abs(moved) >= JUMP:
            self._jump(moved, steady)
            self._offset += moved
        else:
            # A clock that is being corrected moves slowly; several small jumps add up to a large one.
            slew = SLEW * (steady - self._looked)
            self._offset += max(-slew, min(slew, moved))
        self._looked = steady
        return wall

    def resumes_from(self, last: float) -> None:
        """Compare with the last entry of the journal (Unix seconds), which cannot lie in the future."""
        if last - self.now() >= JUMP:
            self._jump(self.now() - last, self._steady())

    def left(self) -> float:
        """For how many seconds the wall clock is not trusted yet; 0 when it is."""
        self.now()
        return max(0.0, self._trusted_from - self._steady())

    def doubt(self) -> str:
        """Why the wall clock is not trusted now; empty when it is."""
        if self.left() <= 0:
            return ""
        return (
            f"The wall clock jumped by {self._jumped:+.0f} s. Nothing disruptive is done until it has "
            f"been steady for {FREEZE / 60:.0f} minutes."
        )

    def _jump(self, seconds: float, steady: float) -> None:
        self._jumped = seconds
        self._trusted_from = steady + FREEZE
        log.warning("clock_jumped", seconds=round(seconds, 1), frozen_for=FREEZE)
