from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator import journal, journal_reader
from remediator.core import events, plan
from remediator.core.events import Event, Kind
from remediator.core.journal_state import KEEP_MESSAGES, Attempt, JournalState, Pause, Pin, Storm
from remediator.core.model import Incident, IncidentState, Level, Rung, StepState
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

GPU = Target.parse("node2/3")
NODE = Target.parse("node2")
RUNG = Rung(ACTIONS.named("reset_gpu"), 60.0, 2, 600.0, 10.0)


def _open(
    journal_state: JournalState, target: Target = GPU, identity: str = "inc-1", at: float = NOW
) -> Incident:
    journal_state.apply(events.opened(identity, target, "gpu-lost", Level.REPAIR, at, 0, "A case."))
    return journal_state.incidents[identity]


def _step(
    journal_state: JournalState, kind: Kind, step, at: float = NOW, *, dead: bool = False
) -> None:
    one = journal_state.incidents["inc-1"]
    journal_state.apply(events.step_event(kind, one, step, at, Reason.STEP_ALLOWED, dead=dead))


def _move(
    journal_state: JournalState,
    state: IncidentState,
    reason: Reason,
    at: float = NOW,
    text: str = "",
) -> None:
    journal_state.apply(events.moved(journal_state.incidents["inc-1"], state, at, reason, text))


# Steps.


def test_a_withdrawn_step_is_no_attempt(alert) -> None:
    journal_state = JournalState()
    step = plan.quarantine(ACTIONS, _open(journal_state))
    _step(journal_state, Kind.STEP_PREPARED, step)
    assert (
        journal_state.attempts[GPU]
        == journal_state.quarantines
        == [Attempt("quarantine_gpu", ACTIONS.named("quarantine_gpu").effect, GPU, NOW)]
    )
    _step(journal_state, Kind.STEP_WITHDRAWN, step, NOW + 1)
    assert (journal_state.attempts[GPU], journal_state.quarantines) == ([], [])
    one = journal_state.incidents["inc-1"]
    assert one.steps[0].state is StepState.WITHDRAWN
    assert (one.counted_steps(), one.last("quarantine_gpu"), one.attempts("quarantine_gpu")) == (
        (),
        None,
        1,
    )
    assert plan.quarantine(ACTIONS, one).op_id != step.op_id, "an operation is never used twice"


def test_only_the_withdrawn_attempt_is_forgotten() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    first = plan.repair(one, RUNG)
    _step(journal_state, Kind.STEP_PREPARED, first, NOW)
    _step(journal_state, Kind.STEP_FAILED, first, NOW + 5)
    second = plan.repair(journal_state.incidents["inc-1"], RUNG)
    _step(journal_state, Kind.STEP_PREPARED, second, NOW + 10)
    _step(journal_state, Kind.STEP_WITHDRAWN, second, NOW + 11)
    assert journal_state.attempts[GPU] == [
        Attempt("reset_gpu", ACTIONS.named("reset_gpu").effect, GPU, NOW)
    ]


def test_a_failed_step_remains_an_attempt() -> None:
    journal_state = JournalState()
    step = plan.quarantine(ACTIONS, _open(journal_state))
    _step(journal_state, Kind.STEP_PREPARED, step)
    _step(journal_state, Kind.STEP_FAILED, step)
    assert len(journal_state.attempts[GPU]) == len(journal_state.quarantines) == 1


def test_what_was_dead_when_it_was_quarantined_is_remembered() -> None:
    journal_state = JournalState()
    step = plan.quarantine(ACTIONS, _open(journal_state))
    _step(journal_state, Kind.STEP_PREPARED, step, dead=True)
    assert journal_state.quarantines == [
        Attempt("quarantine_gpu", ACTIONS.named("quarantine_gpu").effect, GPU, NOW, dead=True)
    ]
    assert journal_state.incidents["inc-1"].dead


def test_a_retry_by_a_person_starts_again_and_earlier_steps_do_not_count() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    step = plan.quarantine(ACTIONS, one)
    _step(journal_state, Kind.STEP_PREPARED, step)
    _step(journal_state, Kind.STEP_DONE, step)
    _move(journal_state, IncidentState.TRIAGED, Reason.ROUTED)
    _move(journal_state, IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED)
    _move(journal_state, IncidentState.TRIAGED, Reason.RETRIED, NOW + 60)
    one = journal_state.incidents["inc-1"]
    assert (one.state, one.base, one.rung, one.retried_at) == (
        IncidentState.TRIAGED,
        1,
        0,
        NOW + 60,
    )
    assert (one.counted_steps(), one.quarantined) == ((), (GPU,))
    assert one.attempts("quarantine_gpu") == 1


# Holds.


def test_a_hold_is_counted_from_its_first_moment_and_a_message_does_not_end_it() -> None:
    journal_state = JournalState()
    one = _open(journal_state)

    def hold(reason: Reason, at: float, text: str) -> Incident:
        journal_state.apply(
            events.noted(Kind.HELD, journal_state.incidents["inc-1"], at, reason, text)
        )
        return journal_state.incidents["inc-1"]

    one = hold(Reason.BUDGET_OUT, NOW, "3 of 32")
    one = hold(Reason.BUDGET_OUT, NOW + 50, "4 of 32")
    assert (one.held_since, one.held_text) == (NOW, "4 of 32")
    assert one.current_reason == (Reason.BUDGET_OUT, "4 of 32")
    told = plan.notify(ACTIONS, one, "held-budget_out")
    _step(journal_state, Kind.STEP_PREPARED, told, NOW + 60)
    _step(journal_state, Kind.STEP_DONE, told, NOW + 60)
    assert journal_state.incidents["inc-1"].held_since == NOW
    # A guard that takes over from another begins no new wait.
    one = hold(Reason.STORM, NOW + 70, "a storm")
    assert (one.held, one.held_since) == (Reason.STORM, NOW)
    _step(journal_state, Kind.STEP_PREPARED, plan.quarantine(ACTIONS, one), NOW + 80)
    one = journal_state.incidents["inc-1"]
    assert (one.held, one.held_text, one.held_since) == (None, "", None)
    assert one.current_reason == (one.reason, one.text)


def test_another_state_ends_a_hold() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    journal_state.apply(events.noted(Kind.HELD, one, NOW, Reason.PAUSED, "alice"))
    _move(journal_state, IncidentState.TRIAGED, Reason.ROUTED)
    assert journal_state.incidents["inc-1"].held is None


# Persons.


def test_a_person_pins_what_they_release_and_the_incident_knows_the_order() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    journal_state.apply(events.ordered("release", GPU, "alice", "tested", NOW, one))
    assert journal_state.pins == {GPU: Pin("alice", "tested", NOW)}
    order = journal_state.incidents["inc-1"].released
    assert order is not None
    assert (order.by, order.why) == ("alice", "tested")
    journal_state.apply(events.ordered("release", NODE, "bob", "x", NOW, None))
    assert journal_state.pins[NODE] == Pin("bob", "x", NOW)


@pytest.mark.parametrize(
    ("state", "reason", "pinned"),
    [
        (IncidentState.OVERRIDDEN, Reason.RELEASED_BY_OTHERS, True),
        (IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON, False),
        (IncidentState.ESCALATED, Reason.RELEASED_BY_OTHERS, False),
        (IncidentState.SUPPRESSED, Reason.WIDENED, False),
    ],
)
def test_a_release_by_hand_in_the_cluster_is_a_pin(state, reason, pinned) -> None:
    journal_state = JournalState()
    _open(journal_state)
    _move(journal_state, state, reason, NOW + 5, "by hand")
    assert journal_state.pins == (
        {GPU: Pin("another user or program", "by hand", NOW + 5)} if pinned else {}
    )


def test_an_incident_that_ends_frees_its_target_and_remembers_the_cure() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    journal_state.incidents["inc-1"] = replace(
        one, state=IncidentState.PROBATION, repaired_at=NOW - 9
    )
    assert journal_state.incident_on(GPU) is not None
    _move(journal_state, IncidentState.CLOSED, Reason.READMITTED)
    assert (journal_state.incident_on(GPU), journal_state.open_incidents()) == (None, ())
    assert journal_state.cured == {GPU: NOW - 9}


def test_an_older_cure_does_not_replace_a_newer_one() -> None:
    journal_state = JournalState()
    one = _open(journal_state)
    journal_state.cured[GPU] = NOW
    journal_state.incidents["inc-1"] = replace(
        one, state=IncidentState.PROBATION, repaired_at=NOW - 9
    )
    _move(journal_state, IncidentState.CLOSED, Reason.READMITTED)
    assert journal_state.cured == {GPU: NOW}


def test_an_older_incident_that_ends_does_not_free_the_target_of_a_newer_one() -> None:
    journal_state = JournalState()
    _open(journal_state)
    _open(journal_state, identity="inc-2")
    _move(journal_state, IncidentState.SUPPRESSED, Reason.ABSORBED)
    found = journal_state.incident_on(GPU)
    assert found is not None
    assert found.id == "inc-2"


def test_repairs_are_counted_as_recurrences_only_where_they_were_made_lately() -> None:
    journal_state = JournalState()

    def end(
        identity: str,
        at: float,
        *,
        target: Target = GPU,
        state: IncidentState = IncidentState.CLOSED,
        repaired: float | None = NOW,
    ) -> None:
        one = replace(_open(journal_state, target, identity), repaired_at=repaired)
        journal_state.incidents[identity] = replace(one, state=IncidentState.PROBATION)
        journal_state.apply(
            events.moved(journal_state.incidents[identity], state, at, Reason.READMITTED)
        )

    end("f", NOW - 10)
    end("e", NOW - 10.1)
    end("a", NOW)
    end("b", NOW, target=NODE)
    end("c", NOW, state=IncidentState.OVERRIDDEN)
    end("d", NOW, repaired=None)
    assert journal_state.recurrence(GPU, NOW - 10) == 2


# Alerts.


def _hear(journal_state: JournalState, one, at: float = NOW) -> None:
    journal_state.apply(events.alert_received(one, GPU, at, "webhook"))


def test_a_withheld_alert_is_looked_at_again_and_another_suppressed_one_is_not(alert) -> None:
    for reason, again in (
        (Reason.SILENCED, True), (Reason.INHIBITED, True), (Reason.MUTED, True),
        (Reason.SPENT, False), (Reason.LANE_FAILED, False), (Reason.NO_PLAYBOOK, False),
    ):  # fmt: skip
        journal_state, one = JournalState(), alert()
        _hear(journal_state, one)
        journal_state.apply(events.suppressed(one, GPU, NOW, reason, "x"))
        assert bool(journal_state.undecided()) is again


def test_an_alert_that_comes_back_after_nothing_was_done_for_it_is_undecided_again(alert) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    _open(journal_state)
    journal_state.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _hear(journal_state, replace(one, firing=False), NOW + 5)
    _move(journal_state, IncidentState.SUPPRESSED, Reason.RESOLVED_FIRST, NOW + 6)
    assert journal_state.undecided() == ()
    _hear(journal_state, one, NOW + 9)
    assert journal_state.undecided() == (one,)
    assert journal_state.episodes[one.key].received == NOW + 9


@pytest.mark.parametrize("reason", [Reason.ABSORBED, Reason.READMITTED, Reason.NOTIFIED])
def test_an_alert_for_which_something_was_done_is_not(alert, reason: Reason) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    _open(journal_state)
    journal_state.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _hear(journal_state, replace(one, firing=False), NOW + 5)
    _move(journal_state, IncidentState.SUPPRESSED, reason, NOW + 6)
    _hear(journal_state, one, NOW + 9)
    assert journal_state.undecided() == ()
    assert journal_state.episodes[one.key].received == NOW


def test_an_alert_still_fires_if_its_incident_ended_and_no_other_handles_it(alert) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    _open(journal_state)
    journal_state.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    assert journal_state.still_firing(journal_state.incidents["inc-1"]) == ()
    _move(journal_state, IncidentState.TRIAGED, Reason.ROUTED)
    _move(journal_state, IncidentState.CLOSED, Reason.NOTIFIED)
    ended = journal_state.incidents["inc-1"]
    assert journal_state.still_firing(ended) == (one.name,)
    _open(journal_state, NODE, "inc-2")
    journal_state.apply(events.absorbed("inc-2", NODE, events.episode_of(one, NOW), NOW))
    assert journal_state.still_firing(ended) == ()


@pytest.mark.parametrize(
    ("reason", "found"), [(Reason.READMITTED, False), (Reason.RELEASED_BY_PERSON, True)]
)
def test_the_alert_about_the_past_of_a_repaired_target_does_not_count(
    alert, reason: Reason, found: bool
) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    _open(journal_state)
    journal_state.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _move(journal_state, IncidentState.TRIAGED, Reason.ROUTED)
    _move(journal_state, IncidentState.CLOSED, reason)
    assert bool(journal_state.still_firing(journal_state.incidents["inc-1"])) is found


def test_a_resolved_alert_does_not_still_fire(alert) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    _open(journal_state)
    journal_state.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _move(journal_state, IncidentState.TRIAGED, Reason.ROUTED)
    _move(journal_state, IncidentState.CLOSED, Reason.NOTIFIED)
    _hear(journal_state, replace(one, firing=False), NOW + 5)
    assert journal_state.still_firing(journal_state.incidents["inc-1"]) == ()


def test_an_alert_that_is_over_is_decided_by_that(alert) -> None:
    journal_state, one = JournalState(), alert()
    _hear(journal_state, one)
    assert journal_state.status(one.key) is True
    assert journal_state.status("another") is None
    _hear(journal_state, replace(one, firing=False))
    assert journal_state.undecided() == ()


# Storms, pauses, messages.


def test_storms_and_pauses_begin_and_end() -> None:
    journal_state = JournalState()
    journal_state.apply(events.storm_began("rack", NOW, "A storm."))
    journal_state.apply(events.paused("alice", "x", NOW))
    assert (journal_state.storms, journal_state.pause) == (
        {"rack": Storm(NOW, "A storm.")},
        Pause("alice", "x", NOW),
    )
    journal_state.apply(events.storm_ended("rack", NOW + 9))
    journal_state.apply(events.resumed("alice", NOW + 9))
    assert (journal_state.storms, journal_state.pause, journal_state.storm_ended) == (
        {},
        None,
        {"rack": NOW + 9},
    )
    journal_state.apply(events.storm_ended("other", NOW + 10))
    assert journal_state.storm_ended["other"] == NOW + 10


def _closed_and_kept(journal_state: JournalState) -> None:
    one = _open(journal_state)
    step = plan.quarantine(ACTIONS, one)
    _step(journal_state, Kind.STEP_PREPARED, step)
    _step(journal_state, Kind.STEP_DONE, step)
    _move(
        journal_state,
        IncidentState.OVERRIDDEN,
        Reason.CLOSED_BY_PERSON,
        NOW + 1,
        "alice: waits for a board",
    )


def test_what_a_person_keeps_out_is_theirs_until_a_person_releases_it() -> None:
    journal_state = JournalState()
    _closed_and_kept(journal_state)
    pin = Pin("an operator", "alice: waits for a board", NOW + 1, "inc-1")
    assert journal_state.kept == {GPU: pin}
    journal_state.apply(events.ordered("release", NODE, "alice", "x", NOW + 2, None))
    assert set(journal_state.kept) == {GPU}
    journal_state.apply(events.ordered("release", GPU, "alice", "x", NOW + 2, None))
    assert journal_state.kept == {}


def test_what_is_quarantined_anew_is_no_longer_a_persons() -> None:
    journal_state = JournalState()
    _closed_and_kept(journal_state)
    other = _open(journal_state, identity="inc-2")
    step = plan.quarantine(ACTIONS, other)
    journal_state.apply(
        events.step_event(Kind.STEP_PREPARED, other, step, NOW + 3, Reason.QUARANTINED)
    )
    assert journal_state.kept == {}


def test_an_incident_that_is_closed_without_a_quarantine_keeps_nothing() -> None:
    journal_state = JournalState()
    _open(journal_state)
    _move(journal_state, IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON)
    assert journal_state.kept == {}


def _message(op: str, at: float, group: str = "") -> Event:
    return events.notified(at, op, {"text": op}, group=group)


def test_a_message_stays_until_every_address_has_it_or_a_day_has_passed() -> None:
    journal_state = JournalState()
    journal_state.apply(_message("a", NOW, "pause/1"))
    journal_state.apply(events.delivered(NOW + 1, "a", "hash-1"))
    journal_state.apply(events.delivered(NOW + 1, "gone", "hash-1"))
    assert journal_state.outbox["a"].settled == {"hash-1"}
    assert journal_state.groups == {"pause/1": NOW}
    journal_state.apply(_message("b", NOW + KEEP_MESSAGES))
    assert set(journal_state.outbox) == {"a", "b"}
    journal_state.apply(_message("c", NOW + KEEP_MESSAGES + 0.1))
    assert set(journal_state.outbox) == {"b", "c"}


def test_a_message_of_an_earlier_version_was_sent_at_once() -> None:
    journal_state = JournalState()
    old = Event(Kind.NOTIFIED, NOW, text="x", data={"occasion": "opened", "op_id": "a"})
    journal_state.apply(old)
    assert (journal_state.outbox, journal_state.groups, journal_state.refused) == ({}, {}, 0)


def test_a_message_that_two_lanes_write_at_once_goes_to_no_address_twice() -> None:
    journal_state = JournalState()
    journal_state.apply(events.notified(NOW, "a", {"text": "a"}, group="pause/1"))
    journal_state.apply(events.delivered(NOW + 1, "a", "hash-1"))
    journal_state.apply(events.notified(NOW + 2, "a", {"text": "later"}, group="pause/1"))
    assert journal_state.outbox["a"].settled == {"hash-1"}
    assert (journal_state.outbox["a"].at, journal_state.outbox["a"].body) == (NOW, {"text": "a"})
    assert journal_state.groups == {"pause/1": NOW}


def test_what_cannot_follow_changes_nothing_and_is_counted() -> None:
    journal_state = JournalState()
    _open(journal_state)
    before = dict(journal_state.incidents)
    _move(journal_state, IncidentState.PROBATION, Reason.ON_PROBATION, NOW + 5)
    assert (journal_state.incidents, journal_state.refused, journal_state.last_at) == (
        before,
        1,
        NOW + 5,
    )


def test_an_event_about_an_unknown_incident_changes_nothing() -> None:
    journal_state = JournalState()
    one = _open(JournalState())
    journal_state.apply(events.noted(Kind.HELD, one, NOW, Reason.PAUSED))
    assert (journal_state.incidents, journal_state.refused) == ({}, 0)


# Replay.

ACTS = st.sampled_from(
    ["open", "alert", "silence", "prepare", "done", "failed", "withdrawn", "hold", "move", "order",
     "notify", "deliver", "storm", "calm", "pause", "resume", "would", "inherit", "retry", "dead"]
)  # fmt: skip


@given(st.lists(st.tuples(ACTS, st.integers(0, 3), st.integers(0, 15)), max_size=40))
def test_replaying_the_written_rows_gives_the_live_book(alert, acts) -> None:
    live, rows = JournalState(), []
    for seq, (what, which, more) in enumerate(acts, 1):
        event = _any(what, which, more, live, NOW + seq, alert)
        if event is not None:
            event = replace(event, seq=seq)
            rows.append(journal._row(event))
            live.apply(event)
    again = JournalState()
    for row in rows:
        again.apply(journal_reader._event(row))
    assert again == live


def _any(
    what: str, which: int, more: int, journal_state: JournalState, at: float, alert
) -> Event | None:
    """One event of a kind, about one of four targets and their open incidents."""
    target = Target.parse(f"node{which}/{which}")
    one = journal_state.incident_on(target)
    heard = alert(node=f"node{which}", gpu=str(which), at=NOW, firing=bool(more % 2))
    body = {"text": what}
    free: dict[str, Event] = {
        "open": events.opened(f"inc-{which}-{at:.0f}", target, "x", Level.REPAIR, at, 0, "x"),
        "alert": events.alert_received(heard, target, at, "webhook"),
        "silence": events.suppressed(
            heard, target, at, (Reason.SILENCED, Reason.SPENT)[more % 2], "x"
        ),
        "storm": events.storm_began(f"pool{which}", at, "x"),
        "calm": events.storm_ended(f"pool{which}", at),
        "pause": events.paused("alice", "x", at),
        "resume": events.resumed("alice", at),
        "deliver": events.delivered(at, f"op{which}", f"hash{more}", expired=bool(more % 2)),
        "notify": events.notified(
            at, f"op{which}", body, incident=one, occasion="opened", group="g" * (more % 2)
        ),
        "order": events.ordered("release", target, "alice", "x", at, one),
    }
    if what in free:
        return free[what]
    if one is None:
        return None
    action = ("reset_gpu", "quarantine_gpu", "release", "verify")[more % 4]
    step = plan.new_step(one, ACTIONS.named(action), 1.0, also=(target,))
    step = one.prepared.step if one.prepared else step
    kinds = {
        "prepare": Kind.STEP_PREPARED, "dead": Kind.STEP_PREPARED, "done": Kind.STEP_DONE,
        "failed": Kind.STEP_FAILED, "withdrawn": Kind.STEP_WITHDRAWN,
    }  # fmt: skip
    if what in kinds:
        return events.step_event(
            kinds[what], one, step, at, Reason.STEP_ALLOWED, dead=what == "dead"
        )
    if what == "hold":
        return events.noted(Kind.HELD, one, at, (Reason.PAUSED, Reason.STORM)[more % 2], "x")
    if what == "would":
        return events.noted(Kind.WOULD_DO, one, at, Reason.OBSERVE_ONLY, action="notify")
    if what == "inherit":
        return events.inherited(one, one, at)
    if what == "retry":
        return events.moved(one, IncidentState.TRIAGED, at, Reason.RETRIED)
    reason = (Reason.ROUTED, Reason.RELEASED_BY_OTHERS, Reason.RESOLVED_FIRST)[more % 3]
    return events.moved(one, list(IncidentState)[more], at, reason, until=at + more, rung=more % 2)
