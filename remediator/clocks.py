"""Detect jumps of the wall clock.

After a jump, times in the journal cannot be compared with the times of alerts.
"""

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
    """The wall clock, checked against the monotonic clock. `wall` and `steady` return their times in seconds."""

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
        """Return the wall clock's time (Unix seconds). Each call checks it against the monotonic clock."""
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

    def check_last_event(self, last: float) -> None:
        """Check for a jump back since the time of the journal's last event (Unix seconds)."""
        if last - self.now() >= JUMP:
            self._jump(self.now() - last, self._steady())

    def seconds_left(self) -> float:
        """Return the seconds until the wall clock is trusted again; 0 if it is trusted."""
        self.now()
        return max(0.0, self._trusted_from - self._steady())

    def distrust(self) -> str:
        """Return the reason why the wall clock is not trusted now; empty if it is trusted."""
        if self.seconds_left() <= 0:
            return ""
        return (
            f"The wall clock jumped by {self._jumped:+.0f} s. No disruptive step starts until the clock "
            f"has been steady for {FREEZE / 60:.0f} minutes."
        )

    def _jump(self, seconds: float, steady: float) -> None:
        self._jumped = seconds
        self._trusted_from = steady + FREEZE
        log.warning("clock_jumped", seconds=round(seconds, 1), frozen_for=FREEZE)
