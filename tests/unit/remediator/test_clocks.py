"""A jump of the wall clock freezes everything disruptive for ten minutes by the clock that never jumps."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clocks import FREEZE, JUMP, WallClock

NOW = 1_700_000_000.0


@dataclass
class Time:
    """A wall clock and a steady one, and what watches them."""

    wall: float = NOW
    steady: float = 500.0
    clock: WallClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = WallClock(lambda: self.wall, lambda: self.steady)

    def go(self, seconds: float, *, jump: float = 0.0, look: bool = True) -> None:
        self.steady += seconds
        self.wall += seconds + jump
        if look:
            self.clock.now()


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_steady_clock_is_trusted_and_told(time: Time) -> None:
    for _ in range(100):
        time.go(5.0)
    assert time.clock.now() == NOW + 500.0
    assert (time.clock.seconds_left(), time.clock.distrust()) == (0.0, "")


@pytest.mark.parametrize("jump", [30.0, -30.0, 3600.0, -86_400.0])
def test_a_jump_freezes_for_ten_minutes_by_the_steady_clock(time: Time, jump: float) -> None:
    time.go(1.0, jump=jump)
    assert time.clock.seconds_left() == FREEZE == 600.0
    assert time.clock.now() == NOW + 1.0 + jump
    assert f"jumped by {jump:+.0f} s" in time.clock.distrust()
    time.go(599.0)
    assert time.clock.seconds_left() == 1.0
    assert time.clock.distrust()
    time.go(1.0)
    assert (time.clock.seconds_left(), time.clock.distrust()) == (0.0, "")


@pytest.mark.parametrize("jump", [29.9, -29.9])
def test_less_than_thirty_seconds_is_no_jump(time: Time, jump: float) -> None:
    time.go(1.0, jump=jump)
    assert time.clock.seconds_left() == 0.0


def test_a_second_jump_freezes_anew(time: Time) -> None:
    time.go(1.0, jump=40.0)
    time.go(300.0)
    time.go(1.0, jump=-40.0)
    assert time.clock.seconds_left() == FREEZE
    assert "-40 s" in time.clock.distrust()


def test_a_jump_is_noticed_by_any_look(time: Time) -> None:
    time.go(1.0, jump=31.0, look=False)
    assert time.clock.seconds_left() == FREEZE


def test_small_jumps_add_up(time: Time) -> None:
    for _ in range(2):
        time.go(1.0, jump=10.0)
    assert time.clock.seconds_left() == 0.0
    time.go(1.0, jump=10.1)
    assert time.clock.seconds_left() == FREEZE


def test_jumps_there_and_back_do_not_add_up(time: Time) -> None:
    for jump in (20.0, -20.0) * 20:
        time.go(1.0, jump=jump)
    assert time.clock.seconds_left() == 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_clock_that_is_being_corrected_slowly_is_trusted(time: Time, sign: float) -> None:
    for _ in range(3600):
        time.go(100.0, jump=sign * 0.09)  # 0.9 thousandths, for a hundred hours: 324 s
    assert time.clock.seconds_left() == 0.0


def test_a_clock_that_runs_much_too_fast_is_not_trusted(time: Time) -> None:
    for _ in range(350):
        time.go(10.0, jump=0.1)  # one in a hundred
    assert time.clock.seconds_left() > 0.0


def test_a_journal_from_the_future_is_a_jump(time: Time) -> None:
    time.clock.check_last_event(NOW + 29.0)
    assert time.clock.seconds_left() == 0.0
    time.clock.check_last_event(NOW + 30.0)
    assert time.clock.seconds_left() == FREEZE
    assert "-30 s" in time.clock.distrust()


def test_a_journal_from_long_ago_is_none(time: Time) -> None:
    time.clock.check_last_event(0.0)
    time.clock.check_last_event(NOW - 86_400)
    assert time.clock.seconds_left() == 0.0


@given(st.floats(JUMP, 1e7) | st.floats(-1e7, -JUMP), st.floats(0.0, 599.0))
def test_no_jump_is_too_large_and_none_is_over_early(jump: float, later: float) -> None:
    time = Time()
    time.go(1.0, jump=jump)
    assert time.clock.seconds_left() > 0.0
    time.go(later)
    assert time.clock.seconds_left() > 0.0


@given(st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(-1.0, 1.0)), max_size=20))
def test_what_stays_below_the_limit_in_sum_is_never_a_jump(
    moves: list[tuple[float, float]],
) -> None:
    time = Time()
    for seconds, jump in moves:
        time.go(seconds, jump=jump)
    assert time.clock.seconds_left() == 0.0
