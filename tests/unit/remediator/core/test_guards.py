from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core import guards
from remediator.core.evidence import OVER, AlertStatus, Evidence, unknown
from remediator.core.facts import Identity, SensorFacts, Stops
from remediator.core.guards import ALLOWED, Limits, Ruling, Verdict
from remediator.core.model import Level
from remediator.core.reasons import SENTENCES, Reason
from tests.unit.remediator.core.examples import NOW

LIMITS = Limits()
SILENCED = Evidence(AlertStatus.WITHHELD, Reason.SILENCED, "alice silenced it", "silence/1")
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
    assert (
        guards.independent_signals(seen | more, needed).allows
        or not guards.independent_signals(seen, needed).allows
    )


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_an_older_watchdog_never_allows_more(age, more) -> None:
    younger = guards.dead_man(SensorFacts(age, True, 1.0), LIMITS)
    older = guards.dead_man(SensorFacts(age + more, True, 1.0), LIMITS)
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


def test_a_cooldown_counts_from_the_latest_time() -> None:
    verdict = guards.cooldown((NOW - 1000, NOW - 10, NOW - 500), 30.0, NOW)
    assert (verdict.ruling, verdict.until) == (Ruling.HOLD, NOW + 20)
    assert "22:13:10 UTC" in verdict.text


@given(times, times, st.floats(1, 3000))
def test_more_treatments_never_end_a_cooldown(before, more, seconds) -> None:
    fewer = guards.cooldown(before, seconds, NOW)
    greater = guards.cooldown(before + more, seconds, NOW)
    assert fewer.allows or not greater.allows
    assert greater.allows or greater.until >= (fewer.until or 0.0)


def test_times_at_the_edge_of_a_window_do_not_count() -> None:
    assert guards.budget_new((NOW - 600,) * 5, LIMITS, NOW).allows
    assert not guards.budget_new((NOW - 599.9,) * 3, LIMITS, NOW).allows
    assert guards.attempts((NOW - 600,) * 5, 2, 600.0, NOW).allows
    assert not guards.attempts((NOW - 599.9,) * 2, 2, 600.0, NOW).allows


def test_a_budget_is_free_again_when_enough_of_the_latest_have_aged() -> None:
    recent = (NOW - 10, NOW - 500, NOW - 20, NOW - 30, NOW - 700)
    assert guards.budget_new(recent, LIMITS, NOW).until == NOW - 30 + 600


@pytest.mark.parametrize(("age", "allows"), [(180.0, True), (180.1, False), (float("inf"), False)])
def test_a_watchdog_is_heard_for_as_long_as_is_set(age: float, allows: bool) -> None:
    verdict = guards.dead_man(SensorFacts(age, True, 1.0), LIMITS)
    assert verdict.allows is allows
    assert allows or (verdict.reason, verdict.group) == (Reason.DEAD_MAN, "dead_man")


def test_the_hold_ends_exactly_at_its_time() -> None:
    assert guards.held_long_enough(NOW - 3.0, LIMITS, NOW).allows
    assert guards.held_long_enough(NOW - 2.9, LIMITS, NOW).until == NOW + 0.1


def test_too_few_signals_are_named() -> None:
    assert "none" in guards.independent_signals(frozenset(), 1).text
    assert "a, b" in guards.independent_signals(frozenset("ba"), 3).text
    assert guards.independent_signals(frozenset("ab"), 2).allows


def test_what_is_one_cause_for_all_has_a_group_and_what_is_a_targets_own_has_none() -> None:
    shared = {
        guards.one_installation(Stops(other_installation="b")): "other_installation",
        guards.steady_clock(Stops(clock="c", clock_left=5.0), NOW): "clock_jump",
        guards.monitoring_up(SensorFacts(), LIMITS): "sensors_blind",
        guards.monitoring_up(SensorFacts(0.0, True, 0.1), LIMITS): "sensors_blind",
        guards.not_paused(True, Stops(pause="p", pause_group="pause/1")): "pause/1",
        guards.no_storm(Stops(storm="s", storm_group="storm/a/1")): "storm/a/1",
        guards.not_withheld(SILENCED): "silence/1",
        guards.alert_active(SILENCED): "silence/1",
        guards.alert_active(unknown("?")): "alert_unconfirmed",
        guards.alert_active(replace(unknown("?"), group="g")): "g",
        guards.alert_active(OVER): "",
        guards.not_pinned(Stops(pinned="p")): "",
        guards.budget_out("GPUs", 9, 9, LIMITS): "",
        guards.independent_signals(frozenset(), 1): "",
    }
    for verdict, group in shared.items():
        assert (verdict.allows, verdict.group) == (False, group), verdict


def test_without_a_reason_of_its_own_a_pause_has_the_usual_sentence() -> None:
    assert guards.not_paused(True).text == SENTENCES[Reason.PAUSED]
    assert guards.not_paused(True, Stops(pause="alice: x")).text == "alice: x"
    assert guards.not_paused(False, Stops(pause="alice: x")).allows


def test_only_confirmed_hardware_is_identified() -> None:
    assert guards.identified(Identity()).allows
    assert guards.identified(Identity(False, "two uuids")).text == "two uuids"
    assert "has a UUID" in guards.identified(Identity(confirmed=False)).text
    assert guards.same_hardware(Identity(confirmed=False)).allows


def test_a_cooldown_ends_by_itself() -> None:
    assert guards.cooldown((NOW - 10,), 30.0, NOW).until == NOW + 20
    assert guards.cooldown((NOW - 10,), 30.0, NOW + 20).allows
    assert guards.cooldown((), 30.0, NOW).allows


@pytest.mark.parametrize(
    ("sensors", "allows"),
    [
        (SensorFacts(0.0, True, 1.0), True),
        (SensorFacts(0.0, True, 0.9), True),
        (SensorFacts(0.0, True, 0.89), False),
        (SensorFacts(0.0, True, None), False),   # unknown is not up
        (SensorFacts(0.0, False, 1.0), False),
        (SensorFacts(), False),
    ],
)  # fmt: skip
def test_blind_sensors_hold(sensors, allows) -> None:
    assert allows is guards.monitoring_up(sensors, LIMITS).allows


def test_sensors_and_dead_man_can_be_switched_off_by_zero() -> None:
    off = Limits(dead_man=0, exporters_up_percent=0)
    assert guards.monitoring_up(SensorFacts(), off).allows
    assert guards.dead_man(SensorFacts(), off).allows


def test_anothers_quarantine_is_left_alone_and_ours_is_not_in_the_way() -> None:
    assert guards.not_owned_by_others(None).allows
    assert guards.not_owned_by_others("fleetmedic").allows
    verdict = guards.not_owned_by_others("alice")
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


def test_the_moment_after_which_the_clock_is_trusted_is_when_to_ask_again() -> None:
    verdict = guards.steady_clock(Stops(clock="it jumped", clock_left=60.0), NOW)
    assert verdict.until == NOW + 60
