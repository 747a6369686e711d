"""A target that no load test verified returns to service only after an operator's approval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.core import events, plan, step_guards
from remediator.core.action import Effect
from remediator.core.approving import needs_approval
from remediator.core.decide import decide
from remediator.core.decision import Act, Hold, Move, Wait
from remediator.core.evidence import ACTIVE, OVER, AlertStatus, Evidence, unknown
from remediator.core.facts import EVERYTHING, Identity, SensorFacts, Stops, TargetJob
from remediator.core.guards import Ruling
from remediator.core.lifecycle import IllegalTransition, evolve
from remediator.core.model import Incident, IncidentState, Level, Order
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple, as_tuple_with_reason
from tests.unit.remediator.core.examples import GPU, NODE, NOW, RUNNING

BLIND = EVERYTHING - {"probe"}
CALM: dict[str, Any] = {"capabilities": BLIND, "firing": False}
ALICE = Order("alice", "ran a burn-in")
SILENCED = Evidence(AlertStatus.WITHHELD, Reason.SILENCED, "bob silenced it", "silence/1")


def waiting(incident, **changes: Any) -> Incident:
    """An incident that has notified people of its request."""
    given = {"until": NOW + 1800, "since": NOW, "requests": 1, "repaired_at": NOW - 900} | changes
    return incident(IncidentState.AWAIT_APPROVAL, **given)


def told(incident, after, **changes: Any) -> Incident:
    one = waiting(incident, **changes)
    return after(one, plan.notify(ACTIONS, one, "approval-1"))


def step(incident: Incident, name: str):
    return plan.new_step(incident, ACTIONS.named("verify"), 9.0, name=name)


def test_healthy_metrics_lead_to_probation_and_then_to_a_request(incident, case, after) -> None:
    one = incident(IncidentState.VERIFYING, repaired_at=NOW - 900)
    healthy = after(one, decide(case(one, **CALM)).step, passed=True)
    assert as_tuple(decide(case(healthy, **CALM))) == ("move", IncidentState.PROBATION)
    due = incident(IncidentState.PROBATION, repaired_at=NOW - 900, until=NOW - 1)
    again = decide(case(due, **CALM)).step
    assert again.id == plan.METRICS
    asked = decide(case(after(due, again, passed=True, text="Healthy for 300 s."), **CALM))
    assert as_tuple_with_reason(asked) == (
        "move",
        (IncidentState.AWAIT_APPROVAL, Reason.AWAIT_APPROVAL),
    )
    assert asked.until == NOW + 1800
    assert asked.text == (
        "Healthy for 300 s. This cluster has no test under load: an operator must approve the return of "
        "gpu/node2/3 to service by 22:43:20 UTC. Otherwise it stays quarantined."
    )


def test_what_was_repaired_and_then_used_by_jobs_needs_an_approval_too(
    incident, case, after
) -> None:
    busy = CALM | {"jobs": RUNNING}
    for repaired, state in ((NOW - 900, IncidentState.AWAIT_APPROVAL), (None, None)):
        one = incident(
            IncidentState.PROBATION,
            reason=Reason.HEALTHY_IN_SERVICE,
            until=NOW,
            repaired_at=repaired,
        )
        watched = after(one, step(one, plan.WATCH), passed=True)
        decision = decide(case(watched, **busy))
        if state is not None:
            assert as_tuple(decision) == ("move", state)
        else:
            assert as_tuple(decision) == ("act", "release"), "its jobs were the load"


@pytest.mark.parametrize(("repaired", "state"), [(NOW - 900, "next"), (None, "again")])
def test_healthy_metrics_do_not_outweigh_an_active_alert(
    incident, case, after, repaired, state
) -> None:
    one = incident(IncidentState.VERIFYING, repaired_at=repaired, rung=0)
    if repaired:
        reset = plan.new_step(one, ACTIONS.named("reset_gpu"), 9.0)
        one = replace(after(one, reset, at=NOW - 900), mark=1)
    healthy = after(one, step(one, plan.METRICS), passed=True)
    decision = decide(case(healthy, capabilities=BLIND))
    if state == "again":
        assert as_tuple(decision) == ("move", IncidentState.QUARANTINED)
        return
    assert as_tuple_with_reason(decision) == (
        "move", (IncidentState.ESCALATED, Reason.UNSUPPORTED),
    ), "the reboot of a node that nothing can verify is left out"  # fmt: skip
    unsure = after(one, step(one, plan.METRICS), done=False)
    assert as_tuple_with_reason(decide(case(unsure, capabilities=BLIND))) == (
        "move",
        (IncidentState.ESCALATED, Reason.UNVERIFIABLE),
    )


def test_an_alert_during_a_probation_without_load_test_leads_back_to_verification(
    incident, case
) -> None:
    one = incident(IncidentState.PROBATION, until=NOW + 900, repaired_at=NOW - 900)
    assert as_tuple(decide(case(one, capabilities=BLIND))) == ("move", IncidentState.VERIFYING)
    assert isinstance(decide(case(one)), Wait), "a load test will tell"


def test_too_few_signals_and_no_load_test_are_a_persons(incident, case, after) -> None:
    one = incident(IncidentState.JOBS_MOVED)
    one = after(one, plan.notify(ACTIONS, one, "opened"))
    few = {"witnesses": frozenset({"the GPU's driver"})}
    assert as_tuple(decide(case(one, **few))) == ("act", plan.OPINION)
    decision = decide(case(one, capabilities=BLIND, **few))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.WITNESSES))
    assert "no test under load" in decision.text


def test_people_are_notified_once_and_then_it_is_waited(incident, case, after) -> None:
    one = waiting(incident)
    act = decide(case(one, **CALM))
    assert as_tuple(act) == ("act", "notify:approval-1")
    assert decide(case(after(one, act.step), **CALM)) == Wait(NOW + 1800)
    second = replace(after(one, act.step), requests=2)
    assert as_tuple(decide(case(second, **CALM))) == ("act", "notify:approval-2")


def test_an_approval_releases_what_was_quarantined_then_notifies_and_closes(
    incident, case, after
) -> None:
    one = told(incident, after, approved=ALICE, quarantined=(GPU, NODE))
    act = decide(case(one, **CALM))
    assert (act.step.action, act.step.also, act.reason) == (
        "release",
        (GPU, NODE),
        Reason.APPROVED,
    )
    assert act.text == "alice approved the return to service: ran a burn-in"
    free = CALM | {"quarantine_owner": None}
    freed = after(one, act.step)
    told_closed = decide(case(freed, **free)).step
    assert told_closed.id == "notify:closed"
    closed = decide(case(after(freed, told_closed), **free))
    assert as_tuple_with_reason(closed) == ("move", (IncidentState.CLOSED, Reason.READMITTED))


@pytest.mark.parametrize("approved", [ALICE, None])
@pytest.mark.parametrize(
    ("changes", "repaired", "state"),
    [
        ({"evidence": ACTIVE}, NOW - 900, IncidentState.VERIFYING),
        ({"evidence": ACTIVE}, None, IncidentState.QUARANTINED),
        ({"event_at": NOW + 1}, NOW - 900, IncidentState.VERIFYING),
    ],
)
def test_an_alert_that_is_active_again_ends_the_request_and_the_approval(
    incident, case, after, approved, changes, repaired, state
) -> None:
    one = told(incident, after, approved=approved, repaired_at=repaired)
    decision = decide(case(one, **(CALM | changes | {"firing": True})))
    assert as_tuple_with_reason(decision) == ("move", (state, Reason.NEW_ALERT))
    moved = events.moved(one, state, NOW, Reason.NEW_ALERT)
    assert evolve(one, moved).approved is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paused": True}, Reason.PAUSED),
        ({"known": False}, Reason.FACTS_UNKNOWN),
        ({"stops": Stops(other_installation="b")}, Reason.OTHER_INSTALLATION),
        ({"evidence": unknown("no answer"), "firing": True}, Reason.ALERT_UNCONFIRMED),
        ({"evidence": SILENCED, "firing": True}, Reason.SILENCED),
        ({"exporter_down": True}, Reason.SENSORS_BLIND),
        ({"identity": Identity(False, "another uuid")}, Reason.IDENTITY),
        ({"level": Level.OBSERVE}, Reason.LEVEL),
    ],
)
def test_an_approved_release_is_checked_again_and_held(
    incident, case, after, changes, reason
) -> None:
    one = told(incident, after, approved=ALICE)
    held = decide(case(one, **(CALM | changes)))
    assert (type(held), held.reason) == (Hold, reason)
    release = plan.new_step(one, ACTIONS.named("release"), plan.QUICK, also=(GPU,))
    last = step_guards.right_before(case(one, **(CALM | changes)), release)
    assert (last.ruling, last.reason) == (Ruling.HOLD, reason)


@pytest.mark.parametrize(
    ("approved", "held", "text"),
    [
        (None, "", "No operator approved the return of gpu/node2/3 to service in time: gpu/node2/3 stays quarantined."),
        (ALICE, "Paused by bob.", "alice approved the return of gpu/node2/3 to service, but it was not possible before the approval expired (Paused by bob): gpu/node2/3 stays quarantined."),
    ],
)  # fmt: skip
def test_a_request_expires_to_the_safe_side(incident, case, after, approved, held, text) -> None:
    one = told(incident, after, approved=approved, held_text=held, until=NOW)
    assert isinstance(decide(case(replace(one, until=NOW + 0.1), **CALM)), Wait | Act)
    expired = decide(case(one, **CALM))
    assert as_tuple_with_reason(expired) == (
        "move",
        (IncidentState.ESCALATED, Reason.APPROVAL_EXPIRED),
    )
    assert expired.text == text
    later = evolve(one, events.moved(one, expired.state, NOW, expired.reason, expired.text))
    assert (later.quarantined, later.approved) == ((GPU,), None)
    for now in (NOW, NOW + 10_000):
        step = decide(case(later, now=now, **CALM))
        assert as_tuple(step) in (("act", "notify:escalated"), ("wait", None))


def test_a_release_that_fails_twice_is_a_persons(incident, case, after) -> None:
    one = told(incident, after, approved=ALICE)
    for _ in range(2):
        one = after(one, decide(case(one, **CALM)).step, done=False, text="the API refuses")
    decision = decide(case(one, **CALM))
    assert as_tuple_with_reason(decision) == (
        "move",
        (IncidentState.ESCALATED, Reason.RELEASE_FAILED),
    )


# The event.


def test_an_approval_is_of_one_request_and_given_once(incident, after) -> None:
    one = told(incident, after)
    given = events.approved(one, "alice", "ran a burn-in", NOW)
    approved = evolve(one, given)
    assert approved.approved == ALICE
    for wrong in (
        approved,
        replace(one, requests=2),
        *(replace(one, state=state) for state in IncidentState if state is not one.state),
    ):
        with pytest.raises(IllegalTransition):
            evolve(wrong, given)


@pytest.mark.parametrize("state", IncidentState)
def test_every_change_of_state_ends_the_approval(incident, after, state) -> None:
    one = told(incident, after, approved=ALICE)
    try:
        moved = evolve(one, events.moved(one, state, NOW, Reason.NEW_ALERT))
    except IllegalTransition:
        return
    assert moved.approved is None


# For any facts, silence approves nothing.

standings = st.sampled_from([ACTIVE, OVER, SILENCED, unknown("no answer")])
owners = st.sampled_from(["fleetmedic", None, "bob"])
any_facts = st.fixed_dictionaries(
    {
        "evidence": standings,
        "alerts_active": st.booleans(),
        "event_at": st.sampled_from([None, NOW - 5, NOW + 5]),
        "known": st.booleans(),
        "paused": st.booleans(),
        "level": st.sampled_from(Level),
        "capabilities": st.sampled_from([BLIND, EVERYTHING, frozenset()]),
        "quarantine_owner": owners,
        "node_quarantine_owner": owners,
        "kept": st.sampled_from([(), (NODE,)]),
        "exporter_down": st.booleans(),
        "jobs": st.sampled_from([(), RUNNING, (TargetJob("train-a", False),)]),
        "sensors": st.sampled_from([SensorFacts(), SensorFacts(0.0, True, 1.0)]),
        "identity": st.sampled_from([Identity(), Identity(False), Identity(False, "x")]),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(any_facts, st.floats(NOW - 4000, NOW + 4000), st.booleans(), st.booleans())
def test_without_an_approval_no_release_follows_whatever_the_facts_are(
    incident, case, after, seen, now, notified, repaired
) -> None:
    changes = {"repaired_at": NOW - 900 if repaired else None}
    one = told(incident, after, **changes) if notified else waiting(incident, **changes)
    decision = decide(case(one, now=now, **seen))
    assert not (isinstance(decision, Act) and decision.step.effect is Effect.RELEASES)
    assert not (isinstance(decision, Move) and decision.state is IncidentState.CLOSED)
    release = plan.new_step(one, ACTIONS.named("release"), plan.QUICK, also=(GPU,))
    assert not step_guards.right_before(case(one, now=now, **seen), release).allows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(any_facts, st.sampled_from([plan.METRICS, plan.WATCH, "verify"]), st.booleans())
def test_on_a_cluster_without_a_load_test_no_probation_of_repaired_hardware_ends_in_a_release(
    incident, case, after, seen, name, watched
) -> None:
    reason = Reason.HEALTHY_IN_SERVICE if watched else Reason.ON_PROBATION
    one = incident(IncidentState.PROBATION, reason=reason, until=NOW - 1, repaired_at=NOW - 900)
    one = after(one, step(one, name), passed=True)
    decision = decide(case(one, **(seen | {"capabilities": BLIND})))
    assert not (isinstance(decision, Act) and decision.step.effect is Effect.RELEASES)


def test_a_request_outlives_the_arrival_of_a_load_test(incident, case, after) -> None:
    """After a restart on a cluster that can test, healthy metrics alone still release nothing."""
    one = incident(IncidentState.PROBATION, repaired_at=NOW - 900, until=NOW - 1)
    run = after(one, step(one, plan.METRICS), passed=True)
    assert needs_approval(case(run), run.steps[-1])
    decision = decide(case(run, firing=False))
    assert as_tuple(decision) == ("move", IncidentState.AWAIT_APPROVAL)
