"""A snapshot and the events after it give the state that all events give."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator import snapshots
from remediator.core.journal_state import JournalState, Retention
from remediator.journal import Journal
from remediator.journal_reader import JournalReader
from tests.unit.remediator.histories import MOVE_LISTS, SHORT, History, Move

LONG: list[Move] = [
    (name, number, 300.0)
    for number in range(30)
    for name in ("fire", "open", "step", "step", "advance", "end_alert", "tell", "hold")
]


def _taken(state: JournalState) -> list[bytes]:
    return snapshots.encode(snapshots.freeze(state), state.retention)


def test_every_attribute_of_the_state_is_in_a_snapshot() -> None:
    stored = {*snapshots.MAPPINGS, *snapshots.LISTS, *snapshots.VALUES}
    assert stored == vars(JournalState()).keys() - {"retention"}


@given(MOVE_LISTS, st.floats(0, 1))
def test_a_snapshot_and_the_later_events_give_the_state_of_all_events(
    moves: list[Move], where: float
) -> None:
    history = History().play(moves)
    cut = int(where * len(history.events))
    early = JournalState(SHORT)
    for event in history.events[:cut]:
        early.apply(event)
    restored = snapshots.restore(_taken(early), SHORT)
    assert restored == early
    for event in history.events[cut:]:
        restored.apply(event)
    assert restored == history.state
    for name in snapshots.MAPPINGS:  # the order decides which incident or alert is first
        assert list(getattr(restored, name)) == list(getattr(history.state, name))


@given(MOVE_LISTS)
def test_what_is_added_after_the_copy_is_not_in_the_snapshot(moves: list[Move]) -> None:
    history = History().play(moves[: len(moves) // 2])
    frozen, before = snapshots.freeze(history.state), _taken(history.state)
    history.play(moves[len(moves) // 2 :])
    assert snapshots.encode(frozen, SHORT) == before


def _written(folder: Path, *, snapshot: bool = True) -> History:
    """A journal with a snapshot in the middle of its events."""
    history = History(SHORT).play(LONG)

    async def write() -> None:
        journal = Journal(folder, lambda event: None)
        half = len(history.events) // 2
        await journal.append([replace(event, seq=0) for event in history.events[:half]])
        if snapshot:
            early = JournalState(SHORT)
            for event in history.events[:half]:
                early.apply(event)
            parts = _taken(early)
            await journal.maintain(lambda connection: snapshots.store(connection, parts))
        await journal.append([replace(event, seq=0) for event in history.events[half:]])
        journal.close()

    asyncio.run(write())
    return history


def test_only_the_events_after_the_snapshot_are_replayed(tmp_path: Path) -> None:
    history = _written(tmp_path)
    state = JournalState(SHORT)
    assert snapshots.load(state, JournalReader(tmp_path)) == (len(history.events) + 1) // 2
    assert state == history.state


def _damage(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshot SET data = x'00' WHERE part = 0",
        "UPDATE snapshot SET data = substr(data, 1, length(data) / 2) WHERE part = 3",
        "UPDATE snapshot SET data = 'text' WHERE part = 2",
        "DELETE FROM snapshot WHERE part = 2",
        "DELETE FROM snapshot WHERE part = 0",
        "DELETE FROM snapshot",
        "DROP TABLE snapshot",
        "DELETE FROM events WHERE seq > 3",
    ],
)
def test_a_snapshot_that_cannot_be_used_is_ignored_and_all_events_are_replayed(
    tmp_path: Path, statement: str
) -> None:
    _written(tmp_path)
    _damage(tmp_path, statement)
    state, expected = JournalState(SHORT), JournalState(SHORT)
    reader = JournalReader(tmp_path)
    everything = list(reader.replay())
    assert snapshots.load(state, reader) == len(everything)
    for event in everything:
        expected.apply(event)
    assert state == expected


def test_a_snapshot_of_another_version_or_retention_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = _written(tmp_path)
    reader = JournalReader(tmp_path)
    longer = JournalState(replace(SHORT, memory=SHORT.memory + 1))
    assert snapshots.load(longer, reader) == len(history.events)
    monkeypatch.setattr(snapshots, "written_by", lambda: "another version")
    state = JournalState(SHORT)
    assert snapshots.load(state, reader) == len(history.events)
    assert state == history.state


def test_the_writer_of_a_snapshot_is_named_by_the_fields_of_all_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshots.written_by.__wrapped__()
    assert before == snapshots.written_by()
    monkeypatch.setitem(snapshots._TYPES, "seq", float)
    assert snapshots.written_by.__wrapped__() != before


def test_without_a_journal_there_is_an_empty_state(tmp_path: Path) -> None:
    state = JournalState()
    assert snapshots.load(state, JournalReader(tmp_path)) == 0
    assert state == JournalState(Retention())
