from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from remediator.core import evidence, plan
from remediator.core.evidence import (
    ACTIVE,
    OVER,
    AlertSignal,
    AlertStatus,
    Evidence,
    combine_signals,
    unknown,
)
from remediator.core.model import IncidentState
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

SILENCED = Evidence(AlertStatus.WITHHELD, Reason.SILENCED, "alice silenced it", "silence/1")
MUTED = Evidence(AlertStatus.WITHHELD, Reason.MUTED, "a window", "window/1")
UNKNOWN = unknown("Alertmanager does not answer.")
ALL = (ACTIVE, SILENCED, MUTED, UNKNOWN, OVER)
RANK = {AlertStatus.ACTIVE: 0, AlertStatus.WITHHELD: 1, AlertStatus.UNKNOWN: 2, AlertStatus.OVER: 3}

signs = st.lists(
    st.builds(AlertSignal, st.sampled_from(ALL), st.none() | st.floats(NOW - 100, NOW)), max_size=5
)
repairs = st.floats(NOW - 100, NOW)


def _weighed(*found: Evidence, sick: bool = False) -> Evidence:
    return combine_signals([AlertSignal(one) for one in found], repaired_at=0.0, tested_sick=sick)


def test_one_active_alert_suffices() -> None:
    assert _weighed(OVER, SILENCED, UNKNOWN, ACTIVE) is ACTIVE


def test_a_silence_is_never_over() -> None:
    assert _weighed(OVER, SILENCED, OVER) is SILENCED


def test_a_silence_outweighs_what_is_not_known_and_the_first_one_is_named() -> None:
    assert _weighed(UNKNOWN, MUTED, SILENCED) is MUTED


def test_what_is_not_known_is_not_over() -> None:
    assert _weighed(OVER, UNKNOWN) is UNKNOWN


def test_no_alert_at_all_is_over() -> None:
    assert _weighed() is OVER
    assert (OVER.reason, OVER.text) == (
        Reason.ALERT_GONE,
        "No alert of the incident is still active.",
    )


def test_a_failed_test_of_ours_is_evidence_once_alertmanager_answers_and_nobody_silenced() -> None:
    assert _weighed(OVER, sick=True) is ACTIVE
    assert _weighed(sick=True) is ACTIVE
    assert _weighed(SILENCED, sick=True) is SILENCED
    assert _weighed(UNKNOWN, sick=True) is UNKNOWN


def _event(at: float, found: Evidence = OVER, *, repaired_at: float = NOW) -> Evidence:
    return combine_signals([AlertSignal(found, at)], repaired_at=repaired_at, tested_sick=False)


def test_an_event_counts_from_its_own_time_until_the_repair() -> None:
    assert _event(NOW + 0.1) is ACTIVE
    assert _event(NOW) is OVER
    assert _event(NOW - 1, ACTIVE) is OVER


def test_a_silenced_event_is_withheld_and_one_that_nobody_confirms_is_unknown() -> None:
    assert _event(NOW + 1, SILENCED) is SILENCED
    assert _event(NOW + 1, UNKNOWN) is UNKNOWN


def test_an_event_older_than_the_repair_withholds_nothing() -> None:
    found = [AlertSignal(SILENCED, NOW - 1), AlertSignal(ACTIVE)]
    assert combine_signals(found, repaired_at=NOW, tested_sick=False) is ACTIVE
    assert combine_signals(found[:1], repaired_at=NOW, tested_sick=True) is ACTIVE


@given(signs, repairs, st.booleans())
def test_the_gravest_sign_that_counts_is_the_standing(found, repaired_at, sick) -> None:
    counting = [one for one in found if one.event_at is None or one.event_at > repaired_at]
    standings = {one.evidence.standing for one in counting} | {AlertStatus.OVER}
    expected = min(standings, key=RANK.__getitem__)
    past = any(
        one.event_at is not None and one.evidence.standing is AlertStatus.OVER for one in counting
    )
    if expected is AlertStatus.OVER and (past or sick):
        expected = AlertStatus.ACTIVE
    assert combine_signals(found, repaired_at=repaired_at, tested_sick=sick).standing is expected


@given(signs, repairs)
def test_a_later_repair_makes_no_evidence_of_signs_that_are_over(found, repaired_at) -> None:
    before = combine_signals(found, repaired_at=repaired_at - 50, tested_sick=False)
    after = combine_signals(found, repaired_at=repaired_at, tested_sick=False)
    assert before.standing is not AlertStatus.OVER or after.standing is AlertStatus.OVER


def test_a_past_event_does_not_outweigh_the_silence_of_another_alert() -> None:
    past = AlertSignal(OVER, NOW)
    for held in (SILENCED, UNKNOWN):
        signals = [AlertSignal(held), past]
        assert combine_signals(signals, repaired_at=0.0, tested_sick=False) is held


def _tested(incident, after, *, passed, at=NOW, **changes):
    one = incident(IncidentState.VERIFYING, **changes)
    step = plan.new_step(one, ACTIONS.named("verify"), 9.0)
    return after(one, step, done=passed is True, passed=passed, at=at)


def test_a_test_that_failed_since_the_last_repair_is_evidence(incident, after) -> None:
    assert evidence.tested_sick(_tested(incident, after, passed=False))
    assert evidence.tested_sick(_tested(incident, after, passed=False, repaired_at=NOW - 1))
    assert evidence.tested_sick(_tested(incident, after, passed=False, repaired_at=NOW))


def test_a_test_before_the_last_repair_is_no_evidence(incident, after) -> None:
    assert not evidence.tested_sick(_tested(incident, after, passed=False, repaired_at=NOW + 1))


def test_a_test_that_passed_or_could_not_tell_is_no_evidence(incident, after) -> None:
    assert not evidence.tested_sick(_tested(incident, after, passed=True))
    assert not evidence.tested_sick(_tested(incident, after, passed=None))
    assert not evidence.tested_sick(incident(IncidentState.VERIFYING))


def test_another_step_that_failed_is_no_test(incident, after) -> None:
    one = incident(IncidentState.REPAIRING)
    failed = after(
        one, plan.new_step(one, ACTIONS.named("reset_gpu"), 9.0), done=False, passed=False
    )
    assert not evidence.tested_sick(failed)


def test_a_test_from_before_a_persons_retry_is_no_evidence(incident, after) -> None:
    one = _tested(incident, after, passed=False)
    assert evidence.tested_sick(one)
    assert not evidence.tested_sick(replace(one, base=len(one.steps)))


def test_an_event_that_was_never_confirmed_is_over_with_its_alert() -> None:
    gone = AlertSignal(OVER, event_at=200.0, confirmed=False)
    assert combine_signals([gone], repaired_at=100.0, tested_sick=False) is OVER
    seen = AlertSignal(OVER, event_at=200.0, confirmed=True)
    assert combine_signals([seen], repaired_at=100.0, tested_sick=False) is ACTIVE
