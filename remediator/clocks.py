"""Detects jumps of the wall clock, after which times in the journal and of alerts cannot be compared."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("remediator")
# A change of this many seconds is a jump, not a clock correction (slew).
JUMP = 30.0
# No disruptive step starts for this long (seconds) after a jump. No time factor changes JUMP or FREEZE.
FREEZE = 600.0
# The fastest clock correction (slew) that does not count as a jump, in seconds per second.
SLEW = 0.001


class WallClock:
    """The wall clock, compared with the monotonic clock. `wall` and `steady` are the two sources."""

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
        """The wall clock's time (Unix seconds); each call compares it with the monotonic clock."""
        steady = self._steady()
        wall = self._wall()
        moved = wall - steady - self._offset
        if abs(moved) >= JUMP:
            self._jump(moved, steady)
            self._offset += moved
        else:
            # Tolerate a slow correction; several small jumps still add up to a large one.
            slew = SLEW * (steady - self._looked)
            self._offset += max(-slew, min(slew, moved))
        self._looked = steady
        return wall

    def resumes_from(self, last: float) -> None:
        """Compare with the time of the journal's last event (Unix seconds), which cannot lie in the future."""
        if last - self.now() >= JUMP:
            self._jump(self.now() - last, self._steady())

    def left(self) -> float:
        """Seconds until the wall clock is trusted; 0 if it is."""
        self.now()
        return max(0.0, self._trusted_from - self._steady())

    def doubt(self) -> str:
        """Why the wall clock is not trusted now; empty if it is."""
        if self.left() <= 0:
            return ""
        return (
            f"The wall clock jumped by {self._jumped:+.0f} s. No disruptive step starts until the clock "
            f"has been steady for {FREEZE / 60:.0f} minutes."
        )

    def _jump(self, seconds: float, steady: float) -> None:
        self._jumped = seconds
        self._trusted_from = steady + FREEZE
        log.warning("clock_jumped", seconds=round(seconds, 1), frozen_for=FREEZE)
