from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core import guards
from remediator.core.guards import ALLOWED, Limits, Ruling, Verdict
from remediator.core.model import Level
from remediator.core.reasons import SENTENCES, Reason
from remediator.core.view import SensorView

NOW = 1_700_000_000.0
LIMITS = Limits()
times = st.lists(st.floats(NOW - 2000, NOW), max_size=12).map(tuple)


@pytest.mark.parametrize(
    ("out", "total", "allows"),
    [
        (0, 1, True), (1, 1, False),      # a tiny pool still heals one
        (0, 32, True), (2, 32, True), (3, 32, False),
        (0, 9, True), (1, 9, False), (1, 20, True), (2, 20, False), (9, 100, True), (10, 100, False),
    ],
)  # fmt: skip
def test_at_most_ten_percent_and_at_least_one_may_be_out(out, total, allows) -> None:
    verdict = guards.budget_out("GPUs", out, total, LIMITS)
    assert allows is verdict.allows
    assert allows or verdict.reason is Reason.BUDGET_OUT


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 500))
def test_more_targets_out_never_allow_more(out, more, total) -> None:
    fewer = guards.budget_out("GPUs", out, total, LIMITS)
    greater = guards.budget_out("GPUs", out + more, total, LIMITS)
    assert fewer.allows or not greater.allows


@given(times, times)
def test_more_new_quarantines_never_allow_more(recent, more) -> None:
    fewer = guards.budget_new(recent, LIMITS, NOW)
    greater = guards.budget_new(recent + more, LIMITS, NOW)
    assert fewer.allows or not greater.allows


@given(times, times, st.integers(1, 4))
def test_more_attempts_never_allow_more(before, more, most) -> None:
    fewer = guards.attempts(before, most, 600.0, NOW)
    greater = guards.attempts(before + more, most, 600.0, NOW)
    assert fewer.allows or not greater.allows


@given(st.frozensets(st.text(max_size=3)), st.frozensets(st.text(max_size=3)), st.integers(1, 4))
def test_fewer_witnesses_never_allow_more(seen, more, needed) -> None:
    assert guards.witnesses(seen | more, needed).allows or not guards.witnesses(seen, needed).allows


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_an_older_watchdog_never_allows_more(age, more) -> None:
    younger = guards.dead_man(SensorView(age, True, 1.0), LIMITS)
    older = guards.dead_man(SensorView(age + more, True, 1.0), LIMITS)
    assert younger.allows or not older.allows


def test_three_new_ones_in_ten_minutes_are_the_most_and_it_says_until_when() -> None:
    recent = (NOW - 500, NOW - 30, NOW - 20)
    verdict = guards.budget_new(recent, LIMITS, NOW)
    assert (
        verdict.ruling,
        verdict.reason,
        verdict.until,
    ) == (Ruling.HOLD, Reason.BUDGET_NEW, NOW + 100)
    assert guards.budget_new(recent, LIMITS, NOW + 100.1).allows


def test_attempts_that_are_used_up_refuse_rather_than_hold() -> None:
    verdict = guards.attempts((NOW - 10, NOW - 5), 2, 60.0, NOW)
    assert (verdict.ruling, verdict.reason) == (Ruling.REFUSE, Reason.ATTEMPTS)


def test_a_cooldown_ends_by_itself() -> None:
    assert guards.cooldown((NOW - 10,), 30.0, NOW).until == NOW + 20
    assert guards.cooldown((NOW - 10,), 30.0, NOW + 20).allows
    assert guards.cooldown((), 30.0, NOW).allows


@pytest.mark.parametrize(
    ("sensors", "allows"),
    [
        (SensorView(0.0, True, 1.0), True),
        (SensorView(0.0, True, 0.9), True),
        (SensorView(0.0, True, 0.89), False),
        (SensorView(0.0, True, None), False),   # unknown is not up
        (SensorView(0.0, False, 1.0), False),
        (SensorView(), False),
    ],
)  # fmt: skip
def test_blind_sensors_hold(sensors, allows) -> None:
    assert allows is guards.sensors_see(sensors, LIMITS).allows


def test_sensors_and_dead_man_can_be_switched_off_by_zero() -> None:
    off = Limits(dead_man=0, exporters_up_percent=0)
    assert guards.sensors_see(SensorView(), off).allows
    assert guards.dead_man(SensorView(), off).allows


def test_anothers_quarantine_is_left_alone_and_ours_is_not_in_the_way() -> None:
    assert guards.not_theirs(None).allows
    assert guards.not_theirs("fleetmedic").allows
    verdict = guards.not_theirs("alice")
    assert Reason.OTHER_OWNER is verdict.reason
    assert "alice" in verdict.text


@pytest.mark.parametrize("have", Level)
@pytest.mark.parametrize("need", Level)
def test_levels_nest(have, need) -> None:
    assert (have.rank >= need.rank) is guards.level(need, have).allows


def test_a_refusal_goes_before_a_hold() -> None:
    hold, refuse = Verdict(Ruling.HOLD, Reason.PAUSED), Verdict(Ruling.REFUSE, Reason.ATTEMPTS)
    assert refuse == guards.all_of(ALLOWED, hold, refuse)
    assert hold == guards.all_of(ALLOWED, hold)
    assert guards.all_of(ALLOWED) == ALLOWED


def test_every_reason_has_a_sentence() -> None:
    assert set(Reason) == set(SENTENCES)
    assert all(text.endswith(".") for text in SENTENCES.values())
