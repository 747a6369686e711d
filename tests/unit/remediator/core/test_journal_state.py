from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator import journal
from remediator.core import events, plan
from remediator.core.events import Event, Kind
from remediator.core.journal_state import KEEP_MESSAGES, Attempt, JournalState, Pause, Pin, Storm
from remediator.core.model import Incident, IncidentState, Level, Rung, StepState
from remediator.core.reasons import Reason
from tests.unit.remediator.core.nouns import NOW

GPU = Target.parse("node2/3")
NODE = Target.parse("node2")
RUNG = Rung("reset_gpu", 60.0, 2, 600.0, 10.0)


def _open(
    book: JournalState, target: Target = GPU, identity: str = "inc-1", at: float = NOW
) -> Incident:
    book.apply(events.opened(identity, target, "gpu-lost", Level.REPAIR, at, 0, "A case."))
    return book.incidents[identity]


def _step(book: JournalState, kind: Kind, step, at: float = NOW, *, dead: bool = False) -> None:
    one = book.incidents["inc-1"]
    book.apply(events.step_event(kind, one, step, at, Reason.STEP_ALLOWED, dead=dead))


def _move(
    book: JournalState, state: IncidentState, reason: Reason, at: float = NOW, text: str = ""
) -> None:
    book.apply(events.moved(book.incidents["inc-1"], state, at, reason, text))


# Steps.


def test_a_withdrawn_step_is_no_attempt(alert) -> None:
    book = JournalState()
    step = plan.quarantine(_open(book))
    _step(book, Kind.STEP_PREPARED, step)
    assert book.attempts[GPU] == book.quarantines == [Attempt("quarantine_gpu", GPU, NOW)]
    _step(book, Kind.STEP_WITHDRAWN, step, NOW + 1)
    assert (book.attempts[GPU], book.quarantines) == ([], [])
    one = book.incidents["inc-1"]
    assert one.steps[0].state is StepState.WITHDRAWN
    assert (one.counted(), one.last("quarantine_gpu"), one.attempts("quarantine_gpu")) == (
        (),
        None,
        1,
    )
    assert plan.quarantine(one).op_id != step.op_id, "an operation is never used twice"


def test_only_the_withdrawn_attempt_is_forgotten() -> None:
    book = JournalState()
    one = _open(book)
    first = plan.repair(one, RUNG)
    _step(book, Kind.STEP_PREPARED, first, NOW)
    _step(book, Kind.STEP_FAILED, first, NOW + 5)
    second = plan.repair(book.incidents["inc-1"], RUNG)
    _step(book, Kind.STEP_PREPARED, second, NOW + 10)
    _step(book, Kind.STEP_WITHDRAWN, second, NOW + 11)
    assert book.attempts[GPU] == [Attempt("reset_gpu", GPU, NOW)]


def test_a_failed_step_remains_an_attempt() -> None:
    book = JournalState()
    step = plan.quarantine(_open(book))
    _step(book, Kind.STEP_PREPARED, step)
    _step(book, Kind.STEP_FAILED, step)
    assert len(book.attempts[GPU]) == len(book.quarantines) == 1


def test_what_was_dead_when_it_was_quarantined_is_remembered() -> None:
    book = JournalState()
    step = plan.quarantine(_open(book))
    _step(book, Kind.STEP_PREPARED, step, dead=True)
    assert book.quarantines == [Attempt("quarantine_gpu", GPU, NOW, dead=True)]
    assert book.incidents["inc-1"].dead


def test_a_retry_by_a_person_starts_again_and_earlier_steps_do_not_count() -> None:
    book = JournalState()
    one = _open(book)
    step = plan.quarantine(one)
    _step(book, Kind.STEP_PREPARED, step)
    _step(book, Kind.STEP_DONE, step)
    _move(book, IncidentState.TRIAGED, Reason.ROUTED)
    _move(book, IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED)
    _move(book, IncidentState.TRIAGED, Reason.RETRIED, NOW + 60)
    one = book.incidents["inc-1"]
    assert (one.state, one.base, one.rung, one.retried_at) == (
        IncidentState.TRIAGED,
        1,
        0,
        NOW + 60,
    )
    assert (one.counted(), one.quarantined) == ((), (GPU,))
    assert one.attempts("quarantine_gpu") == 1


# Holds.


def test_a_hold_is_counted_from_its_first_moment_and_a_message_does_not_end_it() -> None:
    book = JournalState()
    one = _open(book)

    def hold(reason: Reason, at: float, text: str) -> Incident:
        book.apply(events.noted(Kind.HELD, book.incidents["inc-1"], at, reason, text))
        return book.incidents["inc-1"]

    one = hold(Reason.BUDGET_OUT, NOW, "3 of 32")
    one = hold(Reason.BUDGET_OUT, NOW + 50, "4 of 32")
    assert (one.held_since, one.held_text) == (NOW, "4 of 32")
    assert one.present == (Reason.BUDGET_OUT, "4 of 32")
    told = plan.notify(one, "held-budget_out")
    _step(book, Kind.STEP_PREPARED, told, NOW + 60)
    _step(book, Kind.STEP_DONE, told, NOW + 60)
    assert book.incidents["inc-1"].held_since == NOW
    # A guard that takes over from another begins no new wait.
    one = hold(Reason.STORM, NOW + 70, "a storm")
    assert (one.held, one.held_since) == (Reason.STORM, NOW)
    _step(book, Kind.STEP_PREPARED, plan.quarantine(one), NOW + 80)
    one = book.incidents["inc-1"]
    assert (one.held, one.held_text, one.held_since) == (None, "", None)
    assert one.present == (one.reason, one.text)


def test_another_state_ends_a_hold() -> None:
    book = JournalState()
    one = _open(book)
    book.apply(events.noted(Kind.HELD, one, NOW, Reason.PAUSED, "alice"))
    _move(book, IncidentState.TRIAGED, Reason.ROUTED)
    assert book.incidents["inc-1"].held is None


# Persons.


def test_a_person_pins_what_they_release_and_the_incident_knows_the_order() -> None:
    book = JournalState()
    one = _open(book)
    book.apply(events.ordered("release", GPU, "alice", "tested", NOW, one))
    assert book.pins == {GPU: Pin("alice", "tested", NOW)}
    order = book.incidents["inc-1"].released
    assert order is not None
    assert (order.by, order.why) == ("alice", "tested")
    book.apply(events.ordered("release", NODE, "bob", "x", NOW, None))
    assert book.pins[NODE] == Pin("bob", "x", NOW)


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
    book = JournalState()
    _open(book)
    _move(book, state, reason, NOW + 5, "by hand")
    assert book.pins == ({GPU: Pin("a person", "by hand", NOW + 5)} if pinned else {})


def test_an_incident_that_ends_frees_its_target_and_remembers_the_cure() -> None:
    book = JournalState()
    one = _open(book)
    book.incidents["inc-1"] = replace(one, state=IncidentState.PROBATION, repaired_at=NOW - 9)
    assert book.incident_on(GPU) is not None
    _move(book, IncidentState.CLOSED, Reason.READMITTED)
    assert (book.incident_on(GPU), book.open_incidents()) == (None, ())
    assert book.cured == {GPU: NOW - 9}


def test_an_older_cure_does_not_replace_a_newer_one() -> None:
    book = JournalState()
    one = _open(book)
    book.cured[GPU] = NOW
    book.incidents["inc-1"] = replace(one, state=IncidentState.PROBATION, repaired_at=NOW - 9)
    _move(book, IncidentState.CLOSED, Reason.READMITTED)
    assert book.cured == {GPU: NOW}


def test_an_older_incident_that_ends_does_not_free_the_target_of_a_newer_one() -> None:
    book = JournalState()
    _open(book)
    _open(book, identity="inc-2")
    _move(book, IncidentState.SUPPRESSED, Reason.ABSORBED)
    found = book.incident_on(GPU)
    assert found is not None
    assert found.id == "inc-2"


def test_repairs_are_counted_as_recurrences_only_where_they_were_made_lately() -> None:
    book = JournalState()
    good = replace(_open(book), state=IncidentState.CLOSED, repaired_at=NOW, since=NOW)
    book.incidents = {
        "a": good,
        "b": replace(good, target=NODE),
        "c": replace(good, state=IncidentState.OVERRIDDEN),
        "d": replace(good, repaired_at=None),
        "e": replace(good, since=NOW - 10.1),
        "f": replace(good, since=NOW - 10),
    }
    assert book.recurrence(GPU, NOW - 10) == 2


# Alerts.


def _hear(book: JournalState, one, at: float = NOW) -> None:
    book.apply(events.alert_received(one, GPU, at, "webhook"))


def test_a_withheld_alert_is_looked_at_again_and_another_suppressed_one_is_not(alert) -> None:
    for reason, again in (
        (Reason.SILENCED, True), (Reason.INHIBITED, True), (Reason.MUTED, True),
        (Reason.SPENT, False), (Reason.LANE_FAILED, False), (Reason.NO_PLAYBOOK, False),
    ):  # fmt: skip
        book, one = JournalState(), alert()
        _hear(book, one)
        book.apply(events.suppressed(one, GPU, NOW, reason, "x"))
        assert bool(book.undecided()) is again


def test_an_alert_that_comes_back_after_nothing_was_done_for_it_is_undecided_again(alert) -> None:
    book, one = JournalState(), alert()
    _hear(book, one)
    _open(book)
    book.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _hear(book, replace(one, firing=False), NOW + 5)
    _move(book, IncidentState.SUPPRESSED, Reason.RESOLVED_FIRST, NOW + 6)
    assert book.undecided() == ()
    _hear(book, one, NOW + 9)
    assert book.undecided() == (one,)
    assert book.episodes[one.key].received == NOW + 9


@pytest.mark.parametrize("reason", [Reason.ABSORBED, Reason.READMITTED, Reason.NOTIFIED])
def test_an_alert_for_which_something_was_done_is_not(alert, reason: Reason) -> None:
    book, one = JournalState(), alert()
    _hear(book, one)
    _open(book)
    book.apply(events.absorbed("inc-1", GPU, events.episode_of(one, NOW), NOW))
    _hear(book, replace(one, firing=False), NOW + 5)
    _move(book, IncidentState.SUPPRESSED, reason, NOW + 6)
    _hear(book, one, NOW + 9)
    assert book.undecided() == ()
    assert book.episodes[one.key].received == NOW


def test_an_alert_that_is_over_is_decided_by_that(alert) -> None:
    book, one = JournalState(), alert()
    _hear(book, one)
    assert book.known(one)
    assert not book.known(replace(one, firing=False))
    _hear(book, replace(one, firing=False))
    assert book.undecided() == ()


# Storms, pauses, messages.


def test_storms_and_pauses_begin_and_end() -> None:
    book = JournalState()
    book.apply(events.storm_began("rack", NOW, "A storm."))
    book.apply(events.paused("alice", "x", NOW))
    assert (book.storms, book.pause) == ({"rack": Storm(NOW, "A storm.")}, Pause("alice", "x", NOW))
    book.apply(events.storm_ended("rack", NOW + 9))
    book.apply(events.resumed("alice", NOW + 9))
    assert (book.storms, book.pause, book.storm_ended) == ({}, None, {"rack": NOW + 9})
    book.apply(events.storm_ended("other", NOW + 10))
    assert book.storm_ended["other"] == NOW + 10


def _closed_and_kept(book: JournalState) -> None:
    one = _open(book)
    step = plan.quarantine(one)
    _step(book, Kind.STEP_PREPARED, step)
    _step(book, Kind.STEP_DONE, step)
    _move(
        book, IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON, NOW + 1, "alice: waits for a board"
    )


def test_what_a_person_keeps_out_is_theirs_until_a_person_releases_it() -> None:
    book = JournalState()
    _closed_and_kept(book)
    assert book.kept == {GPU: Pin("a person", "alice: waits for a board", NOW + 1)}
    book.apply(events.ordered("release", NODE, "alice", "x", NOW + 2, None))
    assert set(book.kept) == {GPU}
    book.apply(events.ordered("release", GPU, "alice", "x", NOW + 2, None))
    assert book.kept == {}


def test_what_is_quarantined_anew_is_no_longer_a_persons() -> None:
    book = JournalState()
    _closed_and_kept(book)
    other = _open(book, identity="inc-2")
    step = plan.quarantine(other)
    book.apply(events.step_event(Kind.STEP_PREPARED, other, step, NOW + 3, Reason.QUARANTINED))
    assert book.kept == {}


def test_an_incident_that_is_closed_without_a_quarantine_keeps_nothing() -> None:
    book = JournalState()
    _open(book)
    _move(book, IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON)
    assert book.kept == {}


def _message(op: str, at: float, group: str = "") -> Event:
    return events.notified(at, op, {"text": op}, group=group)


def test_a_message_stays_until_every_address_has_it_or_a_day_has_passed() -> None:
    book = JournalState()
    book.apply(_message("a", NOW, "pause/1"))
    book.apply(events.delivered(NOW + 1, "a", "hash-1"))
    book.apply(events.delivered(NOW + 1, "gone", "hash-1"))
    assert book.outbox["a"].settled == {"hash-1"}
    assert book.groups == {"pause/1": NOW}
    book.apply(_message("b", NOW + KEEP_MESSAGES))
    assert set(book.outbox) == {"a", "b"}
    book.apply(_message("c", NOW + KEEP_MESSAGES + 0.1))
    assert set(book.outbox) == {"b", "c"}


def test_a_message_of_an_earlier_version_was_sent_at_once() -> None:
    book = JournalState()
    old = Event(Kind.NOTIFIED, NOW, text="x", data={"occasion": "opened", "op_id": "a"})
    book.apply(old)
    assert (book.outbox, book.groups, book.refused) == ({}, {}, 0)


def test_a_message_that_two_lanes_write_at_once_goes_to_no_address_twice() -> None:
    book = JournalState()
    book.apply(events.notified(NOW, "a", {"text": "a"}, group="pause/1"))
    book.apply(events.delivered(NOW + 1, "a", "hash-1"))
    book.apply(events.notified(NOW + 2, "a", {"text": "later"}, group="pause/1"))
    assert book.outbox["a"].settled == {"hash-1"}
    assert (book.outbox["a"].at, book.outbox["a"].body) == (NOW, {"text": "a"})
    assert book.groups == {"pause/1": NOW}


def test_what_cannot_follow_changes_nothing_and_is_counted() -> None:
    book = JournalState()
    _open(book)
    before = dict(book.incidents)
    _move(book, IncidentState.PROBATION, Reason.ON_PROBATION, NOW + 5)
    assert (book.incidents, book.refused, book.last_at) == (before, 1, NOW + 5)


def test_an_event_about_an_unknown_incident_changes_nothing() -> None:
    book = JournalState()
    one = _open(JournalState())
    book.apply(events.noted(Kind.HELD, one, NOW, Reason.PAUSED))
    assert (book.incidents, book.refused) == ({}, 0)


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
        again.apply(journal._event(row))
    assert again == live


def _any(what: str, which: int, more: int, book: JournalState, at: float, alert) -> Event | None:
    """One event of a kind, about one of four targets and their open incidents."""
    target = Target.parse(f"node{which}/{which}")
    one = book.incident_on(target)
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
    step = plan.new_step(one, action, 1.0, also=(target,))
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
