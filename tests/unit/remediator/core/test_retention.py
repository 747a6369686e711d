"""What the remediator forgets, and what it never forgets."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.journal_state import JournalState, Retention
from remediator.core.model import Alert, IncidentState, Level, incident_id
from remediator.core.reasons import Reason
from remediator.core.settle import Terms, open_incident
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import GPU, NOW
from tests.unit.remediator.histories import MOVE_LISTS, SHORT, History, Move

DAY = 86_400.0
NODE = Target.parse("node2")


def _pass(state: JournalState, seconds: float) -> None:
    """Let time pass; an event is what shows the time."""
    state.apply(events.reconciled(state.last_at + seconds, 0, 0, 0))


def _alert(state: JournalState, name: str = "GpuLost", at: float = NOW) -> Alert:
    labels = {"alertname": name, "cluster": "a", "node": "node2", "gpu": "3"}
    one = Alert(f"f{name}{at}", at, "x", True, labels)
    state.apply(events.alert_received(one, GPU, at, "webhook"))
    return one


def _resolve(state: JournalState, one: Alert, at: float) -> None:
    state.apply(events.alert_received(replace(one, firing=False), GPU, at, "webhook"))


def _incident(
    state: JournalState, one: Alert, identity: str, target: Target = GPU, at: float = NOW
) -> None:
    state.apply(events.opened(identity, target, "p", Level.REPAIR, at, 0, "A case."))
    state.apply(events.absorbed(identity, target, events.episode_of(one, at), at))


def _close(state: JournalState, identity: str, at: float, reason: Reason = Reason.NOTIFIED) -> None:
    one = state.incidents[identity]
    state.apply(events.moved(one, IncidentState.SUPPRESSED, at, reason))


def _step(state: JournalState, identity: str, name: str, at: float, on: Target = GPU) -> None:
    for kind in (Kind.STEP_PREPARED, Kind.STEP_DONE):
        one = state.incidents[identity]
        step = one.prepared.step if one.prepared else None
        step = step or plan.new_step(one, ACTIONS.named(name), 60.0, on=on)
        state.apply(events.step_event(kind, one, step, at, Reason.STEP_ALLOWED))


def test_open_incidents_and_firing_alerts_are_never_forgotten() -> None:
    state = JournalState(Retention(ended_incidents=0, ended_alerts=0))
    one, over = _alert(state), _alert(state, "Over")
    _incident(state, one, "inc-1")
    _incident(state, over, "inc-2", NODE)
    _resolve(state, over, NOW + 1)
    _pass(state, 1000 * DAY)
    assert set(state.incidents) == {"inc-1", "inc-2"}
    assert state.episodes[one.key].alert == one
    assert state.episodes[over.key].alert == replace(over, firing=False), "its labels are evidence"


def test_an_ended_incident_stays_while_its_alert_fires_and_leaves_afterwards() -> None:
    state = JournalState()
    one = _alert(state)
    _incident(state, one, "inc-1")
    _close(state, "inc-1", NOW + 5)
    _pass(state, 91 * DAY)
    assert "inc-1" in state.incidents
    _resolve(state, one, state.last_at)
    _pass(state, 91 * DAY)
    assert (state.incidents, state.ended, state.episodes, state.ended_alerts) == ({}, {}, {}, {})


def test_an_alert_that_fires_again_after_its_incident_left_is_decided_again() -> None:
    state = JournalState(Retention(ended_incidents=1))
    one = _alert(state)
    _incident(state, one, "inc-1")
    _resolve(state, one, NOW + 1)
    _close(state, "inc-1", NOW + 5)
    for number in range(3):
        other = _alert(state, f"B{number}", NOW + 10 + number)
        _resolve(state, other, NOW + 20)
        _incident(state, other, f"inc-b{number}", at=NOW + 20)
        _close(state, f"inc-b{number}", NOW + 21)
    assert "inc-1" not in state.incidents
    state.apply(events.alert_received(one, GPU, NOW + 60, "webhook"))
    assert state.undecided() == (one,)


def test_the_id_of_a_forgotten_incident_is_not_used_again(playbook) -> None:
    state = JournalState(Retention(ended_incidents=0))
    one = _alert(state)
    terms = Terms(Level.REPAIR)
    first = open_incident(one, GPU, playbook, state, NOW, terms)[0]
    assert first.incident == incident_id(one.key, GPU)
    _incident(state, one, str(first.incident))
    _resolve(state, one, NOW + 1)
    _close(state, str(first.incident), NOW + 5)
    _pass(state, 1)
    assert state.incidents == {}
    second = open_incident(one, GPU, playbook, state, NOW + 30, terms)[0]
    assert second.incident not in (None, first.incident)


def test_an_alert_older_than_the_memory_or_from_the_future_has_an_id_of_its_own(playbook) -> None:
    """An incident with the id of its alert alone may be in the journal of an earlier process."""
    state, terms = JournalState(), Terms(Level.REPAIR)
    for start in (NOW - 15 * DAY, NOW + 60):
        one = Alert("f", start, "x", True, {"alertname": "A"})
        made = open_incident(one, GPU, playbook, state, NOW, terms)[0]
        assert made.incident != incident_id(one.key, GPU)


def test_at_most_so_many_ended_incidents_and_alerts_are_kept_whatever_their_age() -> None:
    state = JournalState(Retention(ended_incidents=20, ended_alerts=50))
    for number in range(300):
        one = _alert(state, at=NOW + number)
        _incident(state, one, f"inc-{number}", at=NOW + number)
        _resolve(state, one, NOW + number)
        _close(state, f"inc-{number}", NOW + number)
        nowhere = _alert(state, "Nowhere", NOW + number)
        _resolve(state, nowhere, NOW + number)
    assert len(state.incidents) <= 22
    assert len(state.episodes) <= 22 + 55
    assert list(state.incidents)[-1] == "inc-299", "the oldest are forgotten"


def test_attempts_and_returns_are_forgotten_after_the_memory_and_the_last_repair_later() -> None:
    state = JournalState()
    one = _alert(state)
    _incident(state, one, "inc-1")
    _step(state, "inc-1", "quarantine_gpu", NOW)
    _step(state, "inc-1", "reboot_node", NOW + 10, NODE)
    _step(state, "inc-1", "notify", NOW + 20)
    assert [attempt.action for attempt in state.attempts[GPU]] == ["quarantine_gpu"]
    assert [attempt.action for attempt in state.attempts[NODE]] == ["reboot_node"]
    state.cured[GPU] = NOW
    state.returns[GPU] = [NOW]
    _pass(state, 2 * DAY)
    assert (state.quarantines, len(state.attempts)) == ([], 2)
    _pass(state, 13 * DAY)
    assert (state.attempts, state.returns, state.cured) == ({}, {}, {GPU: NOW})
    assert state.repairs == {NODE: NOW + 10}
    _pass(state, 80 * DAY)
    assert (state.cured, state.repairs) == ({}, {})


def test_a_target_that_an_operator_keeps_out_is_never_forgotten() -> None:
    state = JournalState()
    one = _alert(state)
    _incident(state, one, "inc-1")
    _step(state, "inc-1", "quarantine_gpu", NOW)
    ended = state.incidents["inc-1"]
    reason = Reason.CLOSED_BY_PERSON
    state.apply(events.moved(ended, IncidentState.OVERRIDDEN, NOW + 1, reason, "Waits."))
    _pass(state, 1000 * DAY)
    assert state.kept[GPU].incident == "inc-1"


def test_an_alert_that_is_over_keeps_the_labels_that_identify_it_only() -> None:
    state = JournalState()
    one = _alert(state)
    _resolve(state, one, NOW + 1)
    assert state.episodes[one.key].alert.labels == one.labels, "it may be added to an incident now"
    _pass(state, 3 * 3600)
    kept = state.episodes[one.key].alert
    assert (kept.key, kept.labels) == (one.key, {"alertname": "GpuLost", "cluster": "a"})


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    state = JournalState()
    one = _alert(state)
    _resolve(state, one, NOW + 1)
    _pass(state, -30 * DAY)
    assert one.key in state.episodes


@given(MOVE_LISTS)
def test_the_indexes_say_what_a_search_through_everything_says(moves: list[Move]) -> None:
    state = History().play(moves).state
    firing = {key for key, one in state.episodes.items() if one.alert.firing}
    assert set(state.firing_alerts) == firing
    assert set(state.ended_alerts) == state.episodes.keys() - firing
    full = {key for key in state.ended_alerts if "n" in state.episodes[key].alert.labels}
    assert set(state.unreduced) == full
    ended = {one.id for one in state.incidents.values() if one.ended}
    assert set(state.ended) == ended
    assert set(state.open.values()) == state.incidents.keys() - ended
    for name in {one.target.name for one in state.incidents.values()}:
        found = tuple(one for one in state.open_incidents() if one.target.name == name)
        assert state.open_on(name) == found
    rehearsed = {
        one.id
        for one in state.incidents.values()
        if one.rehearsed and one.reason is Reason.OBSERVE_ONLY
    }
    assert set(state.rehearsed) == rehearsed


@given(MOVE_LISTS)
def test_what_decisions_need_is_in_memory_after_every_history(moves: list[Move]) -> None:
    history = History().play(moves)
    everything = JournalState(Retention(1e12, 1e12, 1e12, 10**9, 10**9))
    for event in history.events:
        everything.apply(event)
    state = history.state
    assert state.open_incidents() == everything.open_incidents()
    assert state.kept == everything.kept
    assert (state.pause, state.storms) == (everything.pause, everything.storms)
    firing = {key: everything.episodes[key].alert for key in everything.firing_alerts}
    assert {key: state.episodes[key].alert for key in state.firing_alerts} == firing
    held = {one.key for incident in state.open_incidents() for one in incident.alerts}
    assert held <= state.episodes.keys()
    since = state.swept - SHORT.memory
    for target, attempts in everything.attempts.items():
        late = [one for one in attempts if one.at >= since]
        assert [one for one in state.attempts.get(target, []) if one.at >= since] == late


@given(st.integers(0, 10_000), st.integers(1, 5_000))
def test_the_next_trim_is_never_at_once(size: int, most: int) -> None:
    from remediator.core.retention import next_trim

    assert next_trim(size, most) > max(size, most)
