"""One message for what holds many incidents, and what a lane that fails leaves to a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.decision import Hold
from remediator.core.events import Event, Kind
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.core.settle import Settled
from remediator.notices import group_notice, lane_failed, stray_notice
from tests.unit.remediator.catalogue import ACTIONS

NOW = 1_700_000_000.0
GPU = Target.parse("node1/3")
PAUSE = Hold(Reason.PAUSED, "alice paused all actions: x", group="pause/7")
ALERT = Alert("f", NOW, "x", True, {"alertname": "GpuLost", "node": "node1", "gpu": "3"})


def _held(
    journal_state: JournalState, target: Target = GPU, *, since: float | None = NOW - 120,
    reason: Reason = Reason.PAUSED, text: str = "alice paused all actions: x", **changes: object,
) -> Incident:  # fmt: skip
    identity = f"inc-{target}"
    journal_state.apply(
        events.opened(identity, target, "gpu-lost", Level.REPAIR, NOW - 200, 0, "x")
    )
    one = replace(
        journal_state.incidents[identity], held=reason, held_text=text, held_since=since, **changes
    )  # type: ignore[arg-type]
    journal_state.incidents[identity] = one
    return one


def _notice(journal_state: JournalState, one: Incident, hold: Hold | None = PAUSE, now: float = NOW) -> tuple[Event, ...]:  # fmt: skip
    return group_notice(one, Settled((), hold=hold), journal_state, Limits(), now)


def test_what_holds_many_incidents_is_told_once_with_their_number_and_targets() -> None:
    journal_state = JournalState()
    one = _held(journal_state)
    _held(journal_state, Target.parse("node1/4"))
    _held(journal_state, Target.parse("node1/5"), reason=Reason.BUDGET_OUT)
    (told,) = _notice(journal_state, one)
    assert told.kind is Kind.NOTIFIED
    assert told.data["group"] == "pause/7"
    body = told.data["body"]
    assert body["text"].startswith(
        "2 incidents wait (gpu/node1/3, gpu/node1/4): alice paused all actions"
    )
    assert body["targets"] == ["gpu/node1/3", "gpu/node1/4"]
    journal_state.apply(told)
    assert _notice(journal_state, one) == ()
    another = replace(PAUSE, group="pause/8")
    assert len(_notice(journal_state, one, another)) == 1


def test_what_another_silence_holds_is_not_counted() -> None:
    journal_state = JournalState()
    mine, other = "alice silenced it: rack 4", "bob silenced it: rack 5"
    one = _held(journal_state, reason=Reason.SILENCED, text=mine)
    _held(journal_state, Target.parse("node1/4"), reason=Reason.SILENCED, text=other)
    (told,) = _notice(journal_state, one, Hold(Reason.SILENCED, mine, group="silence/1"))
    assert told.data["body"]["targets"] == ["gpu/node1/3"]
    blind = Hold(Reason.SILENCED, mine, group="silenced")
    (told,) = _notice(journal_state, one, blind)
    assert len(told.data["body"]["targets"]) == 2, "a cause without a name of its own"


def test_a_single_incident_is_told_of_as_one() -> None:
    journal_state = JournalState()
    (told,) = _notice(journal_state, _held(journal_state))
    assert told.text.startswith("1 incident waits (gpu/node1/3): ")


@pytest.mark.parametrize(("since", "told"), [(120.0, True), (119.9, False)])
def test_it_is_told_after_two_minutes(since: float, told: bool) -> None:
    journal_state = JournalState()
    assert bool(_notice(journal_state, _held(journal_state, since=NOW - since))) is told


def test_a_cause_without_a_name_of_its_own_is_told_once_an_hour() -> None:
    journal_state = JournalState()
    one = _held(journal_state, reason=Reason.DEAD_MAN)
    blind = Hold(Reason.DEAD_MAN, "no Watchdog", group="dead_man")
    hour = NOW - NOW % 3600 + 600
    one = replace(one, held_since=hour - 200)
    (first,) = _notice(journal_state, one, blind, hour)
    journal_state.apply(first)
    assert _notice(journal_state, one, blind, hour + 2999) == ()
    (second,) = _notice(journal_state, one, blind, hour + 3000)
    assert second.data["op_id"] != first.data["op_id"]


def test_incidents_that_the_same_cause_holds_later_are_told_of_too() -> None:
    journal_state = JournalState()
    hour = NOW - NOW % 3600 + 600
    blind = Hold(
        Reason.ALERT_UNCONFIRMED, "Alertmanager does not answer.", group="alert_unconfirmed"
    )

    def held(target: str, since: float) -> Incident:
        return _held(
            journal_state, Target.parse(target), since=since, reason=Reason.ALERT_UNCONFIRMED
        )  # fmt: skip

    first = held("node1/3", hour - 200)
    (told,) = _notice(journal_state, first, blind, hour)
    journal_state.apply(told)
    late = held("node2/1", hour + 10)
    later = held("node3/1", hour + 100)
    assert _notice(journal_state, late, blind, hour + 119) == ()
    (more,) = _notice(journal_state, late, blind, hour + 130)
    assert more.text.startswith("2 more incidents wait (gpu/node2/1, gpu/node3/1): Alertmanager")
    journal_state.apply(more)
    for one in (first, late, later):
        assert _notice(journal_state, one, blind, hour + 600) == ()


def test_nothing_is_told_of_what_has_no_group_or_is_no_longer_the_reason() -> None:
    journal_state = JournalState()
    one = _held(journal_state)
    assert _notice(journal_state, one, None) == ()
    assert _notice(journal_state, one, replace(PAUSE, group="")) == ()
    assert _notice(journal_state, replace(one, held_since=None)) == ()
    assert _notice(journal_state, replace(one, held=Reason.STORM)) == ()
    assert _notice(journal_state, replace(one, level=Level.OBSERVE)) == ()


def test_a_storm_was_told_when_it_began() -> None:
    journal_state = JournalState()
    one = _held(journal_state, reason=Reason.STORM)
    assert _notice(journal_state, one, Hold(Reason.STORM, "A storm.", group="storm/rack/1")) == ()


# A lane that failed three times.


def _open(journal_state: JournalState) -> Incident:
    journal_state.apply(events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, NOW, 0, "A case."))
    return journal_state.incidents["inc-1"]


def test_an_incident_whose_lane_fails_is_a_persons_and_says_so_once() -> None:
    journal_state = JournalState()
    _open(journal_state)
    moved, told = lane_failed(GPU, None, journal_state, "KeyError three times", NOW)
    assert (moved.kind, moved.data["state"]) == (Kind.STATE_CHANGED, "ESCALATED")
    assert (moved.reason, moved.text) == (Reason.LANE_FAILED, "KeyError three times")
    assert told.data["occasion"] == "lane_failed"
    assert told.data["body"]["state"] == "ESCALATED"
    assert "KeyError three times" in told.text
    for event in (moved, told):
        journal_state.apply(event)
    assert (journal_state.refused, journal_state.incidents["inc-1"].state) == (
        0,
        IncidentState.ESCALATED,
    )
    assert lane_failed(GPU, None, journal_state, "again", NOW) == ()


def test_a_poisoned_alert_is_put_aside_and_its_incident_goes_on() -> None:
    journal_state = JournalState()
    journal_state.apply(events.alert_received(ALERT, GPU, NOW, "webhook"))
    _open(journal_state)
    put, told = lane_failed(GPU, ALERT, journal_state, "KeyError three times", NOW)
    assert (put.kind, put.reason) == (Kind.SUPPRESSED, Reason.LANE_FAILED)
    assert told.text == "GpuLost on gpu/node1/3 is not handled. KeyError three times"
    for event in (put, told):
        journal_state.apply(event)
    assert journal_state.undecided() == ()
    assert journal_state.incidents["inc-1"].state is IncidentState.NEW


def test_without_an_incident_or_in_the_middle_of_a_step_nothing_is_moved() -> None:
    journal_state = JournalState()
    assert lane_failed(GPU, None, journal_state, "x", NOW) == ()
    one = _open(journal_state)
    step = plan.quarantine(ACTIONS, one)
    journal_state.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    assert lane_failed(GPU, None, journal_state, "x", NOW) == ()


def test_a_quarantine_without_an_incident_is_told_once_a_day() -> None:
    journal_state, gpu = JournalState(), Target.parse("node1/3")
    first = stray_notice({Target.parse("node2"), gpu}, journal_state, NOW)
    assert [one.data["body"]["targets"][0] for one in first] == ["gpu/node1/3", "node/node2"]
    for event in first:
        journal_state.apply(event)
    assert stray_notice([gpu], journal_state, NOW + 60) == ()
    assert len(stray_notice([gpu], journal_state, NOW + 86_400)) == 1
