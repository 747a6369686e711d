"""Time is an argument: a stepped clock stands still until it is told to move."""

from __future__ import annotations

import time

from fleetmedic.kernel.clock import SteppedClock, SystemClock


def test_a_stepped_clock_moves_only_when_told() -> None:
    clock = SteppedClock(100.0)
    assert clock.now() == clock.now() == 100.0
    clock.step(2.5)
    assert clock.now() == 102.5


def test_the_system_clock_is_unix_time() -> None:
    assert abs(SystemClock().now() - time.time()) < 5
