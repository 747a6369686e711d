"""Tests, watching, probation and the release."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.decide import decide
from remediator.core.decision import Hold, Wait
from remediator.core.evidence import OVER, unknown
from remediator.core.facts import (
    EVERYTHING,
    Stops,
)
from remediator.core.model import (
    IncidentState,
    Level,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple, as_tuple_with_reason
from tests.unit.remediator.core.examples import GPU, NODE, NOW, RUNNING


def test_a_test_that_could_not_tell_is_neither_healed_nor_sick(incident, case, after) -> None:
    one = incident(IncidentState.VERIFYING)
    untold = after(one, decide(case(one)).step, done=False)
    decision = decide(case(untold))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.UNVERIFIABLE)


def test_verified_goes_on_probation_and_a_recurrence_doubles_it(incident, case, after) -> None:
    for recurrence, wait in ((0, 900), (1, 1800), (2, 3600), (50, 57_600)):
        one = incident(IncidentState.VERIFYING, recurrence=recurrence)
        healthy = after(one, decide(case(one)).step, passed=True)
        decision = decide(case(healthy))
        assert (IncidentState.PROBATION, NOW + wait) == (decision.state, decision.until)


def test_probation_waits_tests_releases_tells_and_closes(incident, case, after) -> None:
    one = incident(IncidentState.PROBATION, until=NOW + 900)
    assert Wait(NOW + 900) == decide(case(one))
    late = NOW + 901
    verify = decide(case(one, now=late)).step
    assert verify.id == "verify"
    one = after(one, verify, at=late, passed=True)
    release = decide(case(one, now=late)).step
    assert ("release", one.quarantined) == (release.action, release.also)
    one = after(one, release, at=late)
    tell = decide(case(one, now=late, quarantine_owner=None)).step
    assert tell.id == "notify:closed"
    one = after(one, tell, at=late)
    closed = decide(case(one, now=late, quarantine_owner=None))
    assert (closed.state, closed.reason) == (IncidentState.CLOSED, Reason.READMITTED)


def test_what_was_taken_over_during_a_release_is_released_too(incident, case, after) -> None:
    late = Target.parse("node2/7")
    one = incident(IncidentState.PROBATION, until=NOW - 1)
    one = after(one, decide(case(one)).step, passed=True)
    step = decide(case(one)).step
    one = after(replace(one, quarantined=(*one.quarantined, late)), step)
    assert decide(case(one)).step.also == (late,)


def test_a_new_alert_on_probation_is_answered_by_a_test(incident, case, alert) -> None:
    from remediator.core.events import episode_of

    one = incident(
        IncidentState.PROBATION, until=NOW + 900, alerts=(episode_of(alert(at=NOW), NOW),)
    )
    assert (decide(case(one)).state, decide(case(one)).reason) == (
        IncidentState.VERIFYING,
        Reason.NEW_ALERT,
    )
    old = replace(one, alerts=(episode_of(alert(at=NOW - 40), NOW),))
    assert isinstance(decide(case(old)), Wait)


def test_a_new_alert_on_probation_that_prometheus_does_not_confirm_causes_no_test_and_no_release(
    incident, case, alert, after
) -> None:
    from remediator.core.events import episode_of

    doubt = unknown("Prometheus does not fire it.")
    new = (episode_of(alert(at=NOW), NOW),)
    one = incident(IncidentState.PROBATION, until=NOW + 900, alerts=new)
    assert isinstance(decide(case(one, evidence=doubt)), Wait)
    due = replace(one, until=NOW - 1)
    held = decide(case(due, evidence=doubt))
    assert (type(held), held.reason) == (Hold, Reason.ALERT_UNCONFIRMED)
    assert decide(case(due, evidence=OVER)).step.action == "verify"


def test_a_test_that_fails_on_probation_begins_with_the_rung_that_was_not_tried(
    incident, case, after
) -> None:
    one = incident(IncidentState.PROBATION, until=NOW - 1)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    assert decide(case(failed)).rung == 0


def test_no_test_loads_a_target_on_which_jobs_still_run(incident, case, after) -> None:
    low = {"level": Level.QUARANTINE, "firing": False}
    one = incident(IncidentState.QUARANTINED, rehearsed=True)
    assert as_tuple(decide(case(one, jobs=RUNNING, **low))) == ("move", IncidentState.VERIFYING)
    tested = incident(IncidentState.VERIFYING)
    assert as_tuple(decide(case(tested, jobs=RUNNING, **low))) == ("act", "watch")
    assert as_tuple(decide(case(tested, **low))) == ("act", "verify")


def test_tests_wait_for_a_pause_and_for_facts(incident, case) -> None:
    one = incident(IncidentState.VERIFYING)
    assert as_tuple_with_reason(decide(case(one, paused=True))) == ("hold", Reason.PAUSED)
    assert as_tuple_with_reason(decide(case(one, known=False))) == ("hold", Reason.FACTS_UNKNOWN)
    other = Stops(other_installation="b")
    assert as_tuple_with_reason(decide(case(one, stops=other))) == (
        "hold",
        Reason.OTHER_INSTALLATION,
    )
    late = incident(IncidentState.PROBATION, until=NOW - 1)
    assert as_tuple_with_reason(decide(case(late, paused=True))) == ("hold", Reason.PAUSED)
    assert as_tuple_with_reason(decide(case(late, known=False))) == ("hold", Reason.FACTS_UNKNOWN)
    assert as_tuple_with_reason(decide(case(late, stops=other))) == (
        "hold",
        Reason.OTHER_INSTALLATION,
    )


def test_a_target_in_use_is_watched_and_released_while_its_job_runs(incident, case, after) -> None:
    one = incident(IncidentState.VERIFYING)
    over = {"jobs": RUNNING, "firing": False}
    watch = decide(case(one, **over)).step
    assert (watch.id, watch.action) == (plan.WATCH, "verify")
    assert watch.deadline >= 300.0, "longer than metrics must stay healthy"
    healthy = after(one, watch, passed=True, text="healthy for long")
    move = decide(case(healthy, **over))
    assert as_tuple_with_reason(move) == (
        "move",
        (IncidentState.PROBATION, Reason.HEALTHY_IN_SERVICE),
    )
    assert (move.until, move.text) == (NOW, "healthy for long")
    lifted = replace(
        healthy, state=IncidentState.PROBATION, reason=move.reason, until=NOW, since=NOW, mark=1
    )
    release = decide(case(lifted, **over)).step
    assert (release.action, release.also) == ("release", (GPU,))


def test_an_alert_that_fires_again_while_it_is_watched_is_treated_like_at_first(
    incident, case, after
) -> None:
    one = incident(IncidentState.VERIFYING)
    watch = decide(case(one, jobs=RUNNING, firing=False)).step
    broken = after(one, watch, done=False, reason=Reason.STEP_REFUSED)
    again = decide(case(broken, jobs=RUNNING))
    assert as_tuple_with_reason(again) == ("move", (IncidentState.QUARANTINED, Reason.NEW_ALERT))
    over = decide(case(broken, jobs=RUNNING, firing=False))
    assert as_tuple_with_reason(over) == ("act", plan.WATCH), "it is over after all"
    unclear = after(one, watch, done=False, reason=Reason.EFFECT_MISSING)
    assert as_tuple_with_reason(decide(case(unclear, jobs=RUNNING, firing=False))) == (
        "move", (IncidentState.ESCALATED, Reason.UNVERIFIABLE),
    )  # fmt: skip


def test_a_new_alert_on_what_is_lifted_in_use_is_treated_like_at_first(
    incident, case, alert
) -> None:
    new = (events.episode_of(alert(at=NOW), NOW),)
    watched = incident(IncidentState.PROBATION, reason=Reason.HEALTHY_IN_SERVICE, alerts=new)
    assert as_tuple_with_reason(decide(case(watched))) == (
        "move",
        (IncidentState.QUARANTINED, Reason.NEW_ALERT),
    )
    tested = incident(IncidentState.PROBATION, reason=Reason.ON_PROBATION, alerts=new)
    assert as_tuple_with_reason(decide(case(tested))) == (
        "move",
        (IncidentState.VERIFYING, Reason.NEW_ALERT),
    )


def test_an_idle_target_is_tested_and_without_a_load_test_verified_by_metrics(
    incident, case
) -> None:
    one = incident(IncidentState.VERIFYING)
    able = EVERYTHING - {"probe"}
    assert as_tuple_with_reason(decide(case(one))) == ("act", "verify")
    for state in (one, replace(one, repaired_at=NOW - 5)):
        decision = decide(case(state, capabilities=able))
        assert as_tuple_with_reason(decision) == ("act", plan.METRICS)
        assert decision.step.deadline >= 300.0, "longer than metrics must stay healthy"
        loose = {"quarantine_owner": None, "kept": (GPU,), "node_others": ("gpu/node2/1 (bob)",)}
        node = replace(state, target=NODE, quarantined=(GPU,))
        assert as_tuple_with_reason(decide(case(node, **loose))) == ("act", plan.WATCH)
        idle = decide(case(node, capabilities=able, **loose))
        assert as_tuple_with_reason(idle) == ("act", plan.METRICS), "nothing puts load on it"
        busy = decide(case(state, capabilities=able, jobs=RUNNING))
        assert as_tuple_with_reason(busy) == ("act", plan.WATCH)


@pytest.mark.parametrize("tests", [9, 10])
def test_an_incident_has_ten_tests_of_any_kind_at_most(incident, case, after, tests) -> None:
    one = incident(IncidentState.VERIFYING)
    for number in range(tests):
        name = ("verify", plan.WATCH, plan.OPINION)[number % 3]
        one = after(one, plan.new_step(one, ACTIONS.named("verify"), 9.0, name=name), passed=True)
    one = replace(one, mark=len(one.steps))
    decision = decide(case(one))
    tenth = ("move", (IncidentState.ESCALATED, Reason.TESTED_OFTEN))
    assert as_tuple_with_reason(decision) == (tenth if tests == 10 else ("act", "verify"))
    retried = replace(one, base=len(one.steps))
    assert as_tuple_with_reason(decide(case(retried))) == ("act", "verify")


def test_a_failed_test_at_a_lowered_level_is_a_persons(incident, case, after) -> None:
    one = incident(IncidentState.VERIFYING)
    failed = after(one, decide(case(one)).step, done=False, passed=False, text="sick")
    decision = decide(case(failed, level=Level.DRAIN))
    assert (as_tuple_with_reason(decision), decision.text) == (
        ("move", (IncidentState.ESCALATED, Reason.LEVEL)),
        "sick",
    )


@pytest.mark.parametrize(
    ("probation", "doubles", "recurrence", "seconds"),
    [(900.0, True, 3, 7200.0), (900.0, False, 3, 900.0), (900.0, True, 20, 57_600.0),
     (50_000.0, True, 3, 86_400.0), (200_000.0, True, 3, 200_000.0)],
)  # fmt: skip
def test_probation_doubles_up_to_a_day_where_the_playbook_asks_for_it(
    incident, case, after, playbook, probation, doubles, recurrence, seconds
) -> None:
    variant = replace(playbook, probation=probation, double_on_repeat=doubles)
    one = incident(IncidentState.VERIFYING, recurrence=recurrence)
    passed = after(one, decide(case(one, playbook=variant)).step, passed=True)
    assert decide(case(passed, playbook=variant)).until == NOW + seconds


def test_a_test_that_could_not_tell_on_probation_is_a_persons(incident, case, after) -> None:
    one = incident(IncidentState.PROBATION, until=NOW - 1)
    untold = after(one, decide(case(one)).step, done=False)
    assert as_tuple_with_reason(decide(case(untold))) == (
        "move",
        (IncidentState.ESCALATED, Reason.UNVERIFIABLE),
    )


def test_a_release_is_tried_twice(incident, case, after) -> None:
    one = incident(IncidentState.PROBATION, until=NOW - 1)
    one = after(one, decide(case(one)).step, passed=True)
    for _ in range(2):
        step = decide(case(one)).step
        assert step.action == "release"
        one = after(one, step, done=False, text="refused")
    decision = decide(case(one))
    assert (as_tuple_with_reason(decision), decision.text) == (
        ("move", (IncidentState.ESCALATED, Reason.RELEASE_FAILED)), "refused",
    )  # fmt: skip


def test_probation_ends_exactly_at_its_time(incident, case) -> None:
    one = incident(IncidentState.PROBATION, until=NOW)
    assert as_tuple_with_reason(decide(case(one))) == ("act", "verify")
    assert decide(case(one, now=NOW - 0.1)) == Wait(NOW)


def test_an_alert_of_the_moment_probation_began_is_no_new_one(incident, case, alert) -> None:
    old = (events.episode_of(alert(at=NOW - 30), NOW),)
    one = incident(IncidentState.PROBATION, until=NOW + 9, since=NOW - 30, alerts=old)
    assert decide(case(one)) == Wait(NOW + 9)


def test_an_event_after_the_repair_leads_to_the_next_repair_although_the_test_passed(
    incident, case, after
) -> None:
    one = replace(incident(IncidentState.VERIFYING), repaired_at=NOW - 10)
    tested = after(one, decide(case(one)).step)
    assert decide(case(tested)).state is IncidentState.PROBATION
    assert decide(case(tested, event_at=NOW - 8.5)).state is IncidentState.PROBATION, (
        "of the reset itself"
    )
    before = decide(case(tested, event_at=NOW - 7))
    assert before.state is IncidentState.PROBATION, "the test began after it"
    assert decide(case(tested, event_at=NOW + 0.5)).state is IncidentState.REPAIRING


def test_an_event_in_probation_is_a_new_one_although_its_alert_began_before(incident, case) -> None:
    one = incident(IncidentState.PROBATION, since=NOW - 60, until=NOW + 60)
    assert isinstance(decide(case(one, event_at=NOW - 61)), Wait)
    again = decide(case(one, event_at=NOW - 59))
    assert (again.state, again.reason) == (IncidentState.VERIFYING, Reason.NEW_ALERT)


def test_a_node_with_a_gpu_of_another_owner_is_watched_and_not_put_under_load(
    incident, case
) -> None:
    one = incident(IncidentState.VERIFYING, NODE)
    others = {"node_others": ("gpu/node1/7 (owner alice)",)}
    assert decide(case(one, **others)).step.id == plan.WATCH
    assert decide(case(one)).step.id == "verify"
