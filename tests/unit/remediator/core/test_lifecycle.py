from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator.core import events, lifecycle, plan
from remediator.core.events import Event, Kind
from remediator.core.lifecycle import TRANSITIONS, IllegalTransition, evolve
from remediator.core.model import ENDED, IncidentState, Level
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW


def test_every_state_stands_in_the_table() -> None:
    assert set(IncidentState) == set(TRANSITIONS)


def test_what_has_ended_leads_nowhere() -> None:
    assert all(not TRANSITIONS[state] for state in ENDED)


def test_every_state_can_be_reached_from_new() -> None:
    reached = {IncidentState.NEW}
    while more := {to for state in reached for to in TRANSITIONS[state]} - reached:
        reached |= more
    assert set(IncidentState) == reached


def test_a_repaired_target_never_skips_its_test() -> None:
    assert IncidentState.PROBATION not in TRANSITIONS[IncidentState.REPAIRING]
    assert IncidentState.CLOSED not in TRANSITIONS[IncidentState.VERIFYING]
    assert IncidentState.CLOSED not in TRANSITIONS[IncidentState.ESCALATED]


@pytest.mark.parametrize("state", IncidentState)
@pytest.mark.parametrize("to", IncidentState)
def test_a_move_follows_the_table_or_changes_nothing(incident, state, to) -> None:
    one = incident(state)
    move = events.moved(one, to, NOW, Reason.ROUTED)
    if to in TRANSITIONS[state]:
        assert to is evolve(one, move).state
    else:
        with pytest.raises(IllegalTransition):
            evolve(one, move)
        assert state is one.state


def test_a_second_step_waits_for_the_outcome_of_the_first(incident) -> None:
    one = incident(IncidentState.TRIAGED)
    step = plan.quarantine(ACTIONS, one)
    one = evolve(one, events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    with pytest.raises(IllegalTransition):
        evolve(
            one,
            events.step_event(
                Kind.STEP_PREPARED, one, plan.notify(ACTIONS, one, "x"), NOW, Reason.STEP_ALLOWED
            ),
        )


def test_an_outcome_needs_its_announcement(incident) -> None:
    one = incident(IncidentState.TRIAGED)
    with pytest.raises(IllegalTransition):
        evolve(
            one,
            events.step_event(
                Kind.STEP_DONE, one, plan.quarantine(ACTIONS, one), NOW, Reason.EFFECT_SEEN
            ),
        )


def test_steps_leave_their_mark_on_the_incident(incident, after) -> None:
    one = after(
        incident(IncidentState.TRIAGED), plan.quarantine(ACTIONS, incident(IncidentState.TRIAGED))
    )
    assert one.quarantined == (one.target,)
    repaired = after(one, plan.new_step(one, ACTIONS.named("reset_gpu"), 1.0), at=NOW + 5)
    assert repaired.repaired_at == NOW + 5
    released = after(
        repaired, plan.new_step(repaired, ACTIONS.named("release"), 1.0, also=one.quarantined)
    )
    assert released.quarantined == ()
    late = replace(repaired, quarantined=(one.target, Target.parse("node2/7")))
    step = plan.new_step(late, ACTIONS.named("release"), 1.0, also=one.quarantined)
    assert after(late, step).quarantined == (Target.parse("node2/7"),)


def test_a_target_that_is_quarantined_again_is_released_once(incident, after) -> None:
    one = incident(IncidentState.QUARANTINED)
    assert after(one, plan.quarantine(ACTIONS, one)).quarantined == (one.target,)


def test_the_first_passed_test_dates_the_repair_and_later_ones_do_not(incident, after) -> None:
    one = incident(IncidentState.VERIFYING)
    first = after(one, plan.new_step(one, ACTIONS.named("verify"), 1.0), at=NOW + 5)
    again = after(first, plan.new_step(first, ACTIONS.named("verify"), 1.0), at=NOW + 9)
    assert (first.repaired_at, again.repaired_at) == (NOW + 5, NOW + 5)


def test_another_incidents_event_changes_nothing(incident) -> None:
    one = incident(IncidentState.TRIAGED)
    move = replace(events.moved(one, IncidentState.HELD, NOW, Reason.ROUTED), incident="inc-2")
    with pytest.raises(IllegalTransition, match="inc-2"):
        evolve(one, move)


def test_an_outcome_of_another_operation_ends_no_step(incident) -> None:
    one = incident(IncidentState.TRIAGED)
    step = plan.quarantine(ACTIONS, one)
    one = evolve(one, events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    other = events.step_event(
        Kind.STEP_DONE, one, plan.notify(ACTIONS, one, "x"), NOW, Reason.EFFECT_SEEN
    )
    with pytest.raises(IllegalTransition, match="not prepared"):
        evolve(one, other)


def test_an_incident_is_born_with_its_name_and_its_target_only(incident) -> None:
    opened = events.opened("inc-1", incident().target, "gpu-lost", Level.REPAIR, NOW, 0, "A case.")
    for missing in ("incident", "target"):
        with pytest.raises(IllegalTransition):
            lifecycle.new_incident(replace(opened, **{missing: None}))


def test_a_move_without_a_reason_keeps_the_one_before(incident) -> None:
    one = incident(IncidentState.TRIAGED, reason=Reason.ROUTED)
    move = replace(events.moved(one, IncidentState.HELD, NOW, Reason.PAUSED), reason=None)
    assert Reason.ROUTED is evolve(one, move).reason


def test_what_was_dead_when_it_was_quarantined_stays_so_for_later_steps(incident) -> None:
    one = incident(IncidentState.TRIAGED)
    step = plan.quarantine(ACTIONS, one)
    prepared = Kind.STEP_PREPARED
    one = evolve(one, events.step_event(prepared, one, step, NOW, Reason.QUARANTINED, dead=True))
    assert one.dead
    one = evolve(one, events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))
    later = plan.notify(ACTIONS, one, "x")
    assert evolve(one, events.step_event(prepared, one, later, NOW, Reason.STEP_ALLOWED)).dead


def test_a_retry_begins_at_the_first_rung_and_is_rehearsed_anew(incident, after) -> None:
    one = replace(incident(IncidentState.ESCALATED), rung=2, rehearsed=True)
    one = after(one, plan.notify(ACTIONS, one, "escalated"))
    retried = evolve(one, events.moved(one, IncidentState.TRIAGED, NOW + 7, Reason.RETRIED))
    assert (retried.rung, retried.rehearsed) == (0, False)
    assert (retried.base, retried.retried_at) == (1, NOW + 7)


def test_the_same_attempt_has_the_same_operation_and_the_next_another(incident, after) -> None:
    one = incident(IncidentState.TRIAGED)
    first = plan.quarantine(ACTIONS, one)
    assert first == plan.quarantine(ACTIONS, one)
    assert first.op_id != plan.quarantine(ACTIONS, after(one, first, done=False)).op_id


def test_a_prepared_step_survives_the_journal(incident) -> None:
    one = incident(IncidentState.DRAINING)
    step = plan.new_step(
        one, ACTIONS.named("restart_jobs"), 60.0, jobs=("a", "b"), also=(one.target,), replicas=3
    )
    event = events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.MOVING_JOBS)
    assert step == events.step_of(event.data)


_FIELDS = {
    "state": st.sampled_from([str(state) for state in IncidentState]),
    "step": st.sampled_from(["reset_gpu", "verify", "release"]),
    "op_id": st.sampled_from(["a", "b"]),
}


@given(
    st.sampled_from(IncidentState),
    st.lists(st.sampled_from(Kind), max_size=12),
    st.randoms(use_true_random=False),
)
def test_evolve_answers_every_event_with_an_incident_or_one_error(
    incident, state, kinds, random
) -> None:
    one = incident(state)
    for kind in kinds:
        event = _event(kind, one, random)
        before = one
        try:
            one = evolve(one, event)
        except IllegalTransition:
            assert before == one


def _event(kind: Kind, one, random) -> Event:
    step = plan.new_step(
        one, ACTIONS.named(random.choice(["reset_gpu", "verify", "release", "quarantine_gpu"])), 1.0
    )
    if one.prepared is not None and random.random() < 0.7:
        step = one.prepared.step
    if kind is Kind.STATE_CHANGED:
        return events.moved(one, random.choice(list(IncidentState)), NOW, Reason.ROUTED)
    if kind in (Kind.STEP_PREPARED, Kind.STEP_DONE, Kind.STEP_FAILED, Kind.STEP_WITHDRAWN):
        return events.step_event(kind, one, step, NOW, Reason.STEP_ALLOWED)
    if kind is Kind.ALERT_ABSORBED:
        episode = events.Episode(str(random.randrange(3)), "f", NOW, "now", "GpuLost")
        return events.absorbed(one.id, one.target, episode, NOW)
    if kind is Kind.ORDERED:
        return events.ordered("release", one.target, "alice", "tested", NOW, one)
    if kind is Kind.INHERITED:
        return events.inherited(one, one, NOW)
    if kind is Kind.APPROVED:
        return events.approved(one, "alice", "tested", NOW)
    return events.noted(kind, one, NOW, Reason.PAUSED)


def test_the_diagram_has_a_line_for_every_transition() -> None:
    drawn = lifecycle.diagram()
    assert sum(map(len, TRANSITIONS.values())) == drawn.count("-->") - 1 - drawn.count("--> [*]")
