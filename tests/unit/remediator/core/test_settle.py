from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events, plan
from remediator.core.decision import Widen
from remediator.core.events import Kind
from remediator.core.facts import Stops, TargetJob
from remediator.core.journal_state import JournalState, Pin
from remediator.core.model import FaultClass, IncidentState, Level, Playbook, ScalePlan
from remediator.core.reasons import Reason
from remediator.core.settle import (
    Terms,
    admit,
    hand_over,
    reactivated,
    renewed,
    settle,
    unattended,
    widen,
)
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

GPU = Target(TargetKind.GPU, "node2", 3)
DEAD = (TargetJob("train-a", False),)
NOTIFY = Playbook("notify", (), (), None, FaultClass.SERVICE, Level.OBSERVE)
NODE_DOWN = Playbook(
    "node-down", ("NodeDown",), (), TargetKind.NODE, FaultClass.HARDWARE, Level.REPAIR, quarantine=True
)  # fmt: skip


def _receive(journal_state, alert, target, playbook, now=NOW):
    journal_state.apply(events.alert_received(alert, target, now, "test"))
    written = admit(alert, target, playbook, journal_state, now, Terms(Level.REPAIR))
    for event in written:
        journal_state.apply(event)
    return written


def _kinds(written) -> list[Kind]:
    return [event.kind for event in written]


def test_a_first_alert_opens_an_incident_and_its_repetition_is_nothing(alert, playbook) -> None:
    journal_state = JournalState()
    first = _receive(journal_state, alert(), GPU, playbook)
    assert _kinds(first) == [Kind.INCIDENT_OPENED, Kind.ALERT_ABSORBED]
    assert _receive(journal_state, alert(), GPU, playbook) == ()
    assert len(journal_state.incidents) == 1


def test_another_alert_on_the_target_is_absorbed(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    assert _kinds(_receive(journal_state, alert("GpuXidFatalHardware"), GPU, playbook)) == [
        Kind.ALERT_ABSORBED
    ]
    assert len(journal_state.incident_on(GPU).alerts) == 2


def test_a_graver_alert_takes_over_from_an_incident_that_only_told_people(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert("Odd"), GPU, NOTIFY)
    written = _receive(journal_state, alert(), GPU, playbook)
    assert Kind.STATE_CHANGED is written[0].kind
    assert journal_state.incident_on(GPU).playbook == "gpu-lost"
    assert _kinds(_receive(journal_state, alert("Odder"), GPU, NOTIFY)) == [Kind.ALERT_ABSORBED]


def test_the_graver_incident_keeps_the_alerts_of_the_one_it_ends(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert("Odd"), GPU, NOTIFY)
    _receive(journal_state, alert(), GPU, playbook)
    assert {one.alertname for one in journal_state.incident_on(GPU).alerts} == {"Odd", "GpuLost"}
    assert journal_state.refused == 0


def test_alerts_of_one_gravity_are_witnesses_of_one_incident_in_any_order(alert, playbook) -> None:
    ecc = replace(playbook, name="gpu-repair", alertnames=("GpuEccUncorrectable",))
    pair = ((alert("GpuEccUncorrectable"), ecc), (alert("GpuXidFatalHardware"), playbook))
    for order in (pair, pair[::-1]):
        journal_state = JournalState()
        for one, leads_to in order:
            _receive(journal_state, one, GPU, leads_to)
        assert len(journal_state.incidents) == 1
        assert len(journal_state.incident_on(GPU).alerts) == 2


def test_after_the_cure_the_old_episodes_are_spent(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    one = journal_state.incident_on(GPU)
    closed = _closed(one, NOW + 20)
    journal_state.incidents[one.id] = replace(closed, state=IncidentState.PROBATION)
    journal_state.apply(
        events.moved(
            journal_state.incidents[one.id], IncidentState.CLOSED, NOW + 20, Reason.READMITTED
        )
    )
    assert journal_state.cured[GPU] == closed.repaired_at
    assert _receive(journal_state, alert(), GPU, playbook, NOW + 60) == ()
    late = _receive(
        journal_state, alert("GpuXidFatalHardware", at=NOW + 5), GPU, playbook, NOW + 60
    )
    assert [(one.kind, one.reason) for one in late] == [(Kind.SUPPRESSED, Reason.SPENT)]
    fresh = _receive(journal_state, alert("GpuLost", at=NOW + 50), GPU, playbook, NOW + 60)
    assert Kind.INCIDENT_OPENED is fresh[0].kind
    assert fresh[0].data["recurrence"] == 1


def test_an_alert_whose_sender_gives_an_early_start_is_handled_once_it_begins_in_prometheus(
    alert, playbook
) -> None:
    """Alertmanager keeps the earliest start that any sender gave."""
    forged = alert("GpuHung", at=NOW - 100)
    terms = Terms(Level.REPAIR)
    for before, repaired_later in ((NOW + 30, False), (None, True), (NOW - 50, True)):
        state = JournalState()
        state.cured[GPU] = NOW
        state.apply(events.alert_received(forged, GPU, NOW + 60, "test"))
        written = admit(forged, GPU, playbook, state, NOW + 60, terms, active_since=before)
        for event in written:
            state.apply(event)
        assert (_kinds(written) == [Kind.SUPPRESSED]) is repaired_later
        if repaired_later:
            assert admit(forged, GPU, playbook, state, NOW + 90, terms, active_since=before) == ()
            assert not reactivated(forged, GPU, state, before)
            assert reactivated(forged, GPU, state, NOW + 80)
            again = admit(forged, GPU, playbook, state, NOW + 90, terms, active_since=NOW + 80)
            assert _kinds(again)[0] is Kind.INCIDENT_OPENED


def test_an_alert_that_comes_while_the_cure_is_told_opens_an_incident_of_its_own(
    alert, playbook, incident, after
) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    one = journal_state.incident_on(GPU)
    done = replace(one, state=IncidentState.PROBATION, repaired_at=NOW + 20, quarantined=(GPU,))
    step = plan.new_step(done, ACTIONS.named("release"), 1.0, also=(GPU,))
    journal_state.incidents[one.id] = after(done, step, at=NOW + 50)
    old = _receive(journal_state, alert("GpuXidFatalHardware", at=NOW + 5), GPU, playbook, NOW + 60)
    assert _kinds(old) == [Kind.ALERT_ABSORBED]
    _receive(journal_state, alert("GpuHung", at=NOW + 55), GPU, playbook, NOW + 60)
    assert IncidentState.CLOSED is journal_state.incidents[one.id].state
    assert journal_state.incident_on(GPU).id != one.id
    assert journal_state.refused == 0


def _closed(one, at):
    return replace(one, state=IncidentState.CLOSED, repaired_at=at, since=at)


def test_a_nodes_incident_takes_its_gpus_incidents_and_quarantines_over(
    alert, playbook, after, incident
) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    other = Target(TargetKind.GPU, "node2", 4)
    _receive(journal_state, alert(gpu="4"), other, playbook)
    one = journal_state.incident_on(GPU)
    journal_state.incidents[one.id] = replace(
        one, state=IncidentState.JOBS_MOVED, quarantined=(GPU,)
    )
    written = widen(
        journal_state.incidents[one.id],
        Widen("two"),
        NODE_DOWN,
        journal_state,
        NOW,
        Terms(Level.REPAIR, 1.0),
    )
    for event in written:
        journal_state.apply(event)
    for gpu in (GPU, other):
        for event in hand_over(journal_state.incident_on(gpu), journal_state, NOW):
            journal_state.apply(event)
    node = journal_state.incident_on(Target(TargetKind.NODE, "node2"))
    assert journal_state.refused == 0
    assert node.quarantined == (GPU,)
    assert (node,) == journal_state.open_incidents()
    assert all(
        IncidentState.SUPPRESSED is one.state
        for one in journal_state.incidents.values()
        if one is not node
    )
    assert {node.id} == {
        one.absorbed_by for one in journal_state.incidents.values() if one is not node
    }
    third = _receive(journal_state, alert(gpu="5"), Target(TargetKind.GPU, "node2", 5), playbook)
    assert [node.id] == [event.incident for event in third]


def _quarantined(journal_state, alert, playbook):
    _receive(journal_state, alert(), GPU, playbook)
    one = journal_state.incident_on(GPU)
    journal_state.incidents[one.id] = replace(
        one, state=IncidentState.JOBS_MOVED, quarantined=(GPU,)
    )
    return journal_state.incidents[one.id]


def test_a_nodes_incident_that_only_tells_people_takes_nothing_over(alert, playbook) -> None:
    journal_state, node = JournalState(), Target(TargetKind.NODE, "node2")
    one = _quarantined(journal_state, alert, playbook)
    _receive(journal_state, alert("NodeOomKill"), node, NOTIFY)
    assert hand_over(one, journal_state, NOW) == ()
    sick = _receive(journal_state, alert(gpu="5"), Target(TargetKind.GPU, "node2", 5), playbook)
    assert sick[0].kind is Kind.INCIDENT_OPENED, "an alert must not end with what tells people"


def test_a_wider_incident_takes_over_from_one_that_only_tells_people(alert, playbook) -> None:
    journal_state, node = JournalState(), Target(TargetKind.NODE, "node2")
    one = _quarantined(journal_state, alert, playbook)
    _receive(journal_state, alert("NodeOomKill"), node, NOTIFY)
    for event in widen(one, Widen("x"), NODE_DOWN, journal_state, NOW, Terms(Level.REPAIR, 1.0)):
        journal_state.apply(event)
    for event in hand_over(one, journal_state, NOW):
        journal_state.apply(event)
    assert journal_state.refused == 0
    assert journal_state.incident_on(GPU) is None
    heir = journal_state.incident_on(node)
    assert (heir.playbook, heir.quarantined, len(heir.alerts)) == ("node-down", (GPU,), 2)


def test_an_incident_in_the_middle_of_a_step_is_handed_over_after_it(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    one = journal_state.incident_on(GPU)
    step = plan.quarantine(ACTIONS, one)
    journal_state.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    node = Target(TargetKind.NODE, "node2")
    _receive(journal_state, alert("NodeDown"), node, NODE_DOWN)
    assert journal_state.incident_on(GPU) is not None
    one = journal_state.incident_on(GPU)
    journal_state.apply(events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))
    for event in hand_over(journal_state.incident_on(GPU), journal_state, NOW):
        journal_state.apply(event)
    assert journal_state.incident_on(GPU) is None
    assert journal_state.incident_on(node).quarantined == (GPU,)


def test_a_hold_is_written_once_and_asked_again(incident, case) -> None:
    one = incident(IncidentState.TRIAGED)
    first = settle(case(one, paused=True, quarantine_owner=None))
    assert _kinds(first.events) == [Kind.STATE_CHANGED, Kind.HELD]
    held = replace(one, state=IncidentState.HELD, held=Reason.PAUSED, held_text=first.hold.text)
    second = settle(case(held, paused=True, quarantine_owner=None))
    assert second.events == ()
    assert second.wake_at is not None
    another = replace(held, held_text="bob paused all actions: x")
    assert _kinds(settle(case(another, paused=True, quarantine_owner=None)).events) == [Kind.HELD]


def test_from_new_to_the_announced_quarantine_is_one_write(incident, case) -> None:
    settled = settle(case(incident(IncidentState.NEW), quarantine_owner=None))
    assert _kinds(settled.events) == [Kind.STATE_CHANGED, Kind.STEP_PREPARED]
    assert settled.step.action == "quarantine_gpu"


# What is swallowed by nothing.


SERVE = Target(TargetKind.WORKLOAD, "serve")
SCALE_OUT = Playbook(
    "scale-out", ("InferenceQueueGrowing",), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
    scale=ScalePlan(1, 4.0, 60.0, 3),
)  # fmt: skip
SCALE_IN = replace(SCALE_OUT, name="scale-in", scale=ScalePlan(-1, 4.0, 60.0, 3))
SHRINKING = Terms(Level.REPAIR, shrinking=frozenset({"scale-in"}))


def _admit(journal_state, alert, target, playbook, terms=SHRINKING):
    journal_state.apply(events.alert_received(alert, target, NOW, "test"))
    written = admit(alert, target, playbook, journal_state, NOW, terms)
    for event in written:
        journal_state.apply(event)
    return written


@pytest.mark.parametrize("held", ["held", "over"])
def test_a_node_incident_that_is_held_or_over_absorbs_no_gpu(alert, playbook, held) -> None:
    journal_state, node = JournalState(), Target(TargetKind.NODE, "node2")
    _receive(journal_state, alert("NodeDown"), node, NODE_DOWN)
    one = journal_state.incident_on(node)
    if held == "held":
        journal_state.incidents[one.id] = replace(
            one, held=Reason.BUDGET_OUT, state=IncidentState.HELD
        )
    else:
        journal_state.apply(
            events.alert_received(replace(alert("NodeDown"), firing=False), node, NOW, "t")
        )
    written = _receive(journal_state, alert(), GPU, playbook)
    assert _kinds(written) == [Kind.INCIDENT_OPENED, Kind.ALERT_ABSORBED]
    assert hand_over(journal_state.incident_on(GPU), journal_state, NOW) == ()


def test_a_node_incident_that_goes_on_absorbs_its_gpus_alerts(alert, playbook) -> None:
    journal_state, node = JournalState(), Target(TargetKind.NODE, "node2")
    _receive(journal_state, alert("NodeDown"), node, NODE_DOWN)
    written = _receive(journal_state, alert(), GPU, playbook)
    assert (_kinds(written), written[0].target) == ([Kind.ALERT_ABSORBED], "node/node2")


def test_demand_is_not_absorbed_by_a_scale_in_that_it_ends(alert) -> None:
    journal_state = JournalState()
    _admit(journal_state, alert("InferenceOverProvisioned"), SERVE, SCALE_IN)
    first = journal_state.incident_on(SERVE)
    journal_state.incidents[first.id] = replace(first, state=IncidentState.REPAIRING)
    written = _admit(journal_state, alert("InferenceQueueGrowing"), SERVE, SCALE_OUT)
    assert _kinds(written) == [Kind.STATE_CHANGED, Kind.INCIDENT_OPENED, Kind.ALERT_ABSORBED]
    heir = journal_state.incident_on(SERVE)
    ended = journal_state.incidents[first.id]
    assert (ended.state, ended.reason) == (IncidentState.CLOSED, Reason.DEMAND_ROSE)
    assert ended.absorbed_by == heir.id
    assert (heir.playbook, journal_state.refused) == ("scale-out", 0)


def test_a_held_scale_in_gives_way_too_and_an_escalated_one_is_a_persons(alert) -> None:
    for state, playbook in (
        (IncidentState.HELD, "scale-out"),
        (IncidentState.ESCALATED, "scale-in"),
    ):
        journal_state = JournalState()
        _admit(journal_state, alert("InferenceOverProvisioned"), SERVE, SCALE_IN)
        first = journal_state.incident_on(SERVE)
        journal_state.incidents[first.id] = replace(first, state=state)
        _admit(journal_state, alert("InferenceQueueGrowing"), SERVE, SCALE_OUT)
        assert (journal_state.incident_on(SERVE).playbook, journal_state.refused) == (playbook, 0)


def test_a_scale_out_absorbs_demand_and_a_scale_in_does_not_end_it(alert) -> None:
    journal_state = JournalState()
    _admit(journal_state, alert("InferenceQueueGrowing"), SERVE, SCALE_OUT)
    assert _kinds(_admit(journal_state, alert("Another"), SERVE, SCALE_OUT)) == [
        Kind.ALERT_ABSORBED
    ]
    over = _admit(journal_state, alert("InferenceOverProvisioned"), SERVE, SCALE_IN)
    assert _kinds(over) == [Kind.ALERT_ABSORBED]


def test_an_alert_that_begins_in_the_future_counts_from_its_arrival(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(at=NOW + 86_400), GPU, playbook)
    (episode,) = journal_state.incident_on(GPU).alerts
    assert episode.starts_at == NOW
    assert events.episode_of(alert(at=NOW - 5), NOW).starts_at == NOW - 5


# How long a decision waits.


def test_a_hold_is_asked_about_again_soon_and_less_often_the_longer_it_lasts(
    incident, case
) -> None:
    one = incident(IncidentState.HELD, held=Reason.PAUSED, held_text="x")
    paused = {
        "paused": True, "quarantine_owner": None,
        "stops": Stops(pause="x", pause_group="pause/1"),
    }  # fmt: skip
    for held_for, seconds in ((0.0, 2.0), (8.0, 2.0), (20.0, 5.0), (60.0, 15.0), (9000.0, 300.0)):
        settled = settle(case(replace(one, held_since=NOW - held_for), **paused))
        assert settled.wake_at == NOW + seconds
        assert settled.hold.reason is Reason.PAUSED
    assert settle(case(replace(one, held_since=None), **paused)).wake_at == NOW + 2.0


def test_a_hold_with_an_end_is_asked_about_then(incident, case) -> None:
    early = replace(incident(IncidentState.QUARANTINED), opened=NOW - 2)
    settled = settle(case(early, jobs=(TargetJob("train-a", True),)))
    assert settled.wake_at == NOW + 1


def test_a_wait_and_a_move_and_a_widening_say_what_comes_next(incident, case, after) -> None:
    waits = settle(case(incident(IncidentState.PROBATION, until=NOW + 9)))
    assert (waits.events, waits.wake_at, waits.again) == ((), NOW + 9, False)
    moves = settle(case(incident(IncidentState.QUARANTINED)))
    assert (_kinds(moves.events), moves.again) == ([Kind.STATE_CHANGED], True)
    one = incident(IncidentState.JOBS_MOVED)
    one = after(one, plan.notify(ACTIONS, one, "opened"))
    widens = settle(case(one, siblings=1))
    assert (widens.events, widens.widen is not None, widens.again) == ((), True, False)


def test_what_would_be_done_is_written_with_its_sentences_and_ends_the_rehearsal(
    incident, case
) -> None:
    settled = settle(
        case(incident(IncidentState.TRIAGED), level=Level.OBSERVE, quarantine_owner=None)
    )
    kinds = _kinds(settled.events)
    assert set(kinds[:-1]) == {Kind.WOULD_DO}
    assert kinds[-1] is Kind.STATE_CHANGED
    assert settled.events[0].text == "The remediator would quarantine the GPU (gpu/node2/3)."
    assert settled.events[0].data["action"] == "quarantine_gpu"
    beyond = settle(case(incident(IncidentState.QUARANTINED), jobs=DEAD, level=Level.QUARANTINE))
    assert beyond.events[0].text.endswith("the automation level does not allow it.")


def test_a_dead_target_is_written_with_its_quarantine(incident, case) -> None:
    settled = settle(case(incident(IncidentState.TRIAGED), dead=True, quarantine_owner=None))
    assert settled.events[-1].data["dead"] is True


# Levels and identities of new incidents.


def test_an_incident_goes_as_far_as_playbook_and_ceiling_allow(alert, playbook) -> None:
    for ceiling, level in ((Level.QUARANTINE, Level.QUARANTINE), (Level.REPAIR, Level.DRAIN)):
        journal_state = JournalState()
        _admit(journal_state, alert(), GPU, replace(playbook, level=Level.DRAIN), Terms(ceiling))
        assert journal_state.incident_on(GPU).level is level
    journal_state = JournalState()
    only = replace(NOTIFY, level=Level.REPAIR)
    _admit(journal_state, alert("Odd"), GPU, only, Terms(Level.REPAIR))
    assert journal_state.incident_on(GPU).level is Level.OBSERVE


def test_a_later_incident_of_one_alert_has_another_name(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    first = journal_state.incident_on(GPU)
    journal_state.apply(events.moved(first, IncidentState.SUPPRESSED, NOW, Reason.RESOLVED_FIRST))
    _receive(journal_state, replace(alert(), firing=False), GPU, playbook)
    _receive(journal_state, alert(), GPU, playbook, NOW + 60)
    assert journal_state.incident_on(GPU).id != first.id


def test_alerts_of_one_gravity_or_less_do_not_end_an_incident(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    lesser = replace(playbook, name="lesser", level=Level.QUARANTINE)
    assert _kinds(_receive(journal_state, alert("GpuHung"), GPU, lesser)) == [Kind.ALERT_ABSORBED]


def test_a_graver_alert_does_not_end_what_has_already_acted(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert("Odd"), GPU, NOTIFY)
    one = journal_state.incident_on(GPU)
    journal_state.incidents[one.id] = replace(one, state=IncidentState.QUARANTINED)
    assert _kinds(_receive(journal_state, alert(), GPU, playbook)) == [Kind.ALERT_ABSORBED]


def test_a_ceiling_that_allows_no_more_makes_no_alert_graver(alert, playbook) -> None:
    journal_state, terms = JournalState(), Terms(Level.OBSERVE)
    _admit(journal_state, alert("Odd"), GPU, NOTIFY, terms)
    assert _kinds(_admit(journal_state, alert(), GPU, playbook, terms)) == [Kind.ALERT_ABSORBED]


@pytest.mark.parametrize("reason", [Reason.RELEASED_BY_PERSON, Reason.RELEASED_BY_OTHERS])
def test_an_alert_that_still_fires_after_its_release_expired_opens_another_incident(
    alert, playbook, reason
) -> None:
    journal_state, firing = JournalState(), alert()
    _receive(journal_state, firing, GPU, playbook)
    one = journal_state.incident_on(GPU)
    journal_state.apply(events.moved(one, IncidentState.TRIAGED, NOW, Reason.ROUTED))
    journal_state.apply(
        events.moved(journal_state.incidents[one.id], IncidentState.OVERRIDDEN, NOW, reason)
    )
    journal_state.pins[GPU] = Pin("alice", "tested", NOW)
    terms = Terms(Level.REPAIR, pin=100.0)
    assert admit(firing, GPU, playbook, journal_state, NOW + 99, terms) == ()
    written = admit(firing, GPU, playbook, journal_state, NOW + 100, terms)
    assert _kinds(written) == [Kind.INCIDENT_OPENED, Kind.ALERT_ABSORBED]
    assert not unattended(replace(firing, firing=False), GPU, journal_state, NOW + 100, 100.0)
    for event in written:
        journal_state.apply(event)
    assert not unattended(firing, GPU, journal_state, NOW + 200, 100.0), "an incident is open"


def test_an_event_after_its_incident_closed_opens_another_though_the_alert_never_ended(
    alert, playbook
) -> None:
    journal_state, firing = JournalState(), alert("GpuXidFatalHardware")
    _receive(journal_state, firing, GPU, playbook)
    one = journal_state.incident_on(GPU)
    journal_state.apply(events.moved(one, IncidentState.TRIAGED, NOW, Reason.ROUTED))
    journal_state.apply(
        events.moved(journal_state.incidents[one.id], IncidentState.CLOSED, NOW, Reason.READMITTED)
    )
    journal_state.cured[GPU] = NOW - 5
    terms = Terms(Level.REPAIR)
    for event_at, opens in ((NOW + 2, False), (NOW + 3, True), (None, False)):
        assert renewed(firing, GPU, journal_state, event_at) is opens
        written = admit(firing, GPU, playbook, journal_state, NOW + 10, terms, event_at=event_at)
        assert bool(written) is opens


def test_the_expired_release_of_a_node_is_one_of_its_gpus(alert, playbook) -> None:
    journal_state, firing = JournalState(), alert()
    _receive(journal_state, firing, GPU, playbook)
    one = journal_state.incident_on(GPU)
    journal_state.apply(events.moved(one, IncidentState.TRIAGED, NOW, Reason.ROUTED))
    over = events.moved(
        journal_state.incidents[one.id], IncidentState.OVERRIDDEN, NOW, Reason.RELEASED_BY_PERSON
    )
    journal_state.apply(over)
    journal_state.cured[GPU] = NOW + 5  # a reset in vain
    journal_state.pins = {Target(TargetKind.NODE, GPU.name): Pin("alice", "x", NOW)}
    assert not unattended(firing, GPU, journal_state, NOW + 99, 100.0)
    terms = Terms(Level.REPAIR, pin=100.0)
    assert admit(firing, GPU, playbook, journal_state, NOW + 100, terms), "its repair was in vain"


def test_further_events_reopen_nothing_that_only_notified_people(alert) -> None:
    journal_state, firing = JournalState(), alert("GpuXidApplicationRepeated")
    _receive(journal_state, firing, GPU, NOTIFY)
    one = journal_state.incident_on(GPU)
    journal_state.apply(events.moved(one, IncidentState.TRIAGED, NOW, Reason.ROUTED))
    journal_state.apply(
        events.moved(journal_state.incidents[one.id], IncidentState.CLOSED, NOW, Reason.NOTIFIED)
    )
    assert not renewed(firing, GPU, journal_state, NOW + 60), "a message for each XID"


# Stages.


def test_an_incident_of_an_alert_in_another_stage_than_act_takes_no_action(alert, playbook) -> None:
    for stage in ("shadow", "notify", "typo"):
        journal_state = JournalState()
        first, _ = _admit(journal_state, alert(stage=stage), GPU, playbook, Terms(Level.REPAIR))
        assert first.reason is Reason.STAGE
        assert f"stage is {stage!r}" in first.text
        assert journal_state.incident_on(GPU).level is Level.OBSERVE


def test_the_stage_act_restricts_nothing(alert, playbook) -> None:
    journal_state = JournalState()
    first, _ = _admit(journal_state, alert(stage="act"), GPU, playbook, Terms(Level.REPAIR))
    assert (first.reason, journal_state.incident_on(GPU).level) == (Reason.ROUTED, Level.REPAIR)


@pytest.mark.parametrize("stage", ["shadow", "notify"])
def test_an_alert_in_another_stage_than_act_never_joins_an_incident_that_may_act(
    alert, playbook, stage
) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(), GPU, playbook)
    before = journal_state.incident_on(GPU)
    odd = alert("Odd", stage=stage)
    (event,) = _receive(journal_state, odd, GPU, NOTIFY)
    assert (event.kind, event.reason) == (Kind.SUPPRESSED, Reason.STAGE)
    assert journal_state.incident_on(GPU) == before
    assert _receive(journal_state, odd, GPU, NOTIFY) == (), "the decision is recorded once"


def test_it_does_not_close_an_incident_whose_target_is_back_in_service(
    alert, playbook, incident
) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert(at=NOW - 50), GPU, playbook)
    one = journal_state.incident_on(GPU)
    released = replace(
        incident(IncidentState.PROBATION, quarantined=(), repaired_at=NOW - 40), id=one.id
    )
    journal_state.incidents[one.id] = released
    (event,) = _receive(journal_state, alert("Odd", stage="notify"), GPU, NOTIFY)
    assert (event.kind, event.reason) == (Kind.SUPPRESSED, Reason.STAGE)


def test_an_incident_that_replaces_it_does_not_take_it_over(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert("Odd", stage="notify"), GPU, NOTIFY)
    assert len(journal_state.incident_on(GPU).alerts) == 1
    _receive(journal_state, alert(), GPU, playbook)
    heir = journal_state.incident_on(GPU)
    assert (heir.playbook, heir.level) == ("gpu-lost", Level.REPAIR)
    assert [one.alertname for one in heir.alerts] == ["GpuLost"]


def test_the_incident_of_its_node_does_not_take_it_over(alert, playbook) -> None:
    journal_state = JournalState()
    _receive(journal_state, alert("Odd", stage="shadow"), GPU, NOTIFY)
    _receive(journal_state, alert("NodeDown"), Target(TargetKind.NODE, "node2"), NODE_DOWN)
    for event in hand_over(journal_state.incident_on(GPU), journal_state, NOW):
        journal_state.apply(event)
    (node,) = journal_state.open_incidents()
    assert [one.alertname for one in node.alerts] == ["NodeDown"]
