"""Old events leave the journal, and the rest leads to the same state."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import given

from remediator.core import events
from remediator.core.journal_state import JournalState
from remediator.journal import Journal
from remediator.journal_keeper import JournalKeeper
from remediator.journal_pruning import BATCH, first_since, pruning
from remediator.journal_reader import JournalReader
from tests.unit.remediator.core.examples import NOW
from tests.unit.remediator.histories import MOVE_LISTS, SHORT, History, Move

# What a replay of the remaining events cannot know: where and how often something was forgotten.
UNLIKE = {"refused", "horizon", "trim_incidents_at", "trim_alerts_at"}


def _play(folder: Path, history: History) -> tuple[JournalState, int]:
    """Write a history, delete what is old, and read the rest without a snapshot."""

    async def write() -> int:
        journal = Journal(folder, lambda event: None)
        await journal.append([replace(event, seq=0) for event in history.events])
        keeper = JournalKeeper(history.state, journal, lambda: True, 0)
        deleted = await keeper.prune()
        journal.close()
        return deleted

    deleted = asyncio.run(write())
    state = JournalState(history.state.retention)
    for event in JournalReader(folder).replay():
        state.apply(event)
    return state, deleted


@given(MOVE_LISTS)
def test_the_remaining_events_give_the_same_state(tmp_path_factory, moves: list[Move]) -> None:
    history = History().play(moves)
    state, _ = _play(tmp_path_factory.mktemp("data"), history)
    for name, value in vars(history.state).items():
        if name not in UNLIKE:
            assert getattr(state, name) == value, name


def _cases(number: int) -> list[Move]:
    path = ["fire", "open", *["advance"] * 8, "end_alert"]
    return [(name, 2 * (n % 2), 100.0) for n in range(number) for name in path]


def test_events_of_ended_incidents_and_alerts_are_deleted_after_their_time(tmp_path: Path) -> None:
    history = History().play([*_cases(10), ("reconcile", 1, 300_000.0), ("fire", 2, 1.0)])
    state, deleted = _play(tmp_path, history)
    assert deleted > 80
    assert [event.kind for event in JournalReader(tmp_path).replay()] == [
        events.Kind.RECONCILED,
        events.Kind.ALERT_RECEIVED,
    ]
    assert state.seq == len(history.events)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM relations").fetchone() == (0,)


def test_what_is_open_firing_kept_out_or_ordered_stays_whatever_its_age(tmp_path: Path) -> None:
    moves: list[Move] = [
        ("fire", 0, 1.0), ("open", 0, 1.0), ("fire", 2, 1.0), ("open", 2, 1.0), ("step", 0, 1.0),
        ("step", 0, 1.0), ("end", 0, 1.0), ("stop", 1, 1.0), ("order", 2, 1.0), ("storm", 1, 1.0),
        ("reconcile", 0, 500_000.0), ("reconcile", 0, 1.0),
    ]  # fmt: skip
    history = History().play(moves)
    assert history.state.kept
    state, deleted = _play(tmp_path, history)
    assert deleted == 0
    assert (state.kept, state.pause) == (history.state.kept, history.state.pause)
    assert state.open_incidents() == history.state.open_incidents()


def test_many_old_events_are_deleted_in_batches(tmp_path: Path) -> None:
    history = History()
    for number in range(BATCH + 500):
        history.add(events.reconciled(NOW + number, 0, 0, 0))
    history.add(events.reconciled(NOW + 500_000, 0, 0, 0))
    _, deleted = _play(tmp_path, history)
    assert deleted == BATCH + 500


def test_without_a_limit_nothing_is_deleted() -> None:
    history = History(replace(SHORT, events=float("inf"))).play(_cases(3))
    assert pruning(history.state) is None


def test_the_first_event_that_is_not_old_is_found_by_its_time(tmp_path: Path) -> None:
    history = History().play([("reconcile", 0, 10.0)] * 20)
    _play(tmp_path, history)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("DELETE FROM events WHERE seq IN (3, 4, 9)")
        assert first_since(connection, NOW) == 1
        assert first_since(connection, NOW + 75) == 8
        assert first_since(connection, NOW + 85) == 9
        assert first_since(connection, NOW + 1000) == 21
        connection.execute("DELETE FROM events")
        assert first_since(connection, NOW) == 0
