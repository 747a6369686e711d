"""Journals of earlier versions open with their open incidents; journals of later versions are refused.

journals/68695df.sql was written by the remediator of commit 68695df: a closed incident, one in probation, one on
hold because of a pause, a notification, and an alert that led to nothing. All times are moved to the past.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator import journal_schema
from remediator.clusters.memory import MemoryCluster
from remediator.core.journal_state import JournalState
from remediator.core.model import OWNER, IncidentState
from remediator.core.reasons import Reason
from remediator.journal import Journal
from remediator.journal_reader import JournalReader
from tests.unit.remediator.running import world

OLD = Path(__file__).parent / "journals" / "68695df.sql"
PROBATION, HELD = Target.parse("node2/0"), Target.parse("node4/1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory with the journal of commit 68695df."""
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.executescript(OLD.read_text())
    return tmp_path


def _open(folder: Path) -> None:
    async def play() -> None:
        Journal(folder, lambda event: None).close()

    asyncio.run(play())


def _content(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        return list(connection.iterdump())


def _states(folder: Path) -> dict[str, tuple[IncidentState, Reason]]:
    state = JournalState()
    for event in JournalReader(folder).replay():
        state.apply(event)
    assert state.refused == 0
    return {str(one.target): (one.state, one.reason) for one in state.incidents.values()}


FOUND = {
    "gpu/node1/3": (IncidentState.CLOSED, Reason.READMITTED),
    "gpu/node2/0": (IncidentState.PROBATION, Reason.ON_PROBATION),
    "node/node3": (IncidentState.CLOSED, Reason.NOTIFIED),
    "gpu/node4/1": (IncidentState.HELD, Reason.PAUSED),
}


def test_a_journal_of_68695df_has_the_same_incidents_after_the_migration(folder: Path) -> None:
    before = list(JournalReader(folder).replay())
    assert _states(folder) == FOUND, "a reader needs no migration"
    _open(folder)
    assert list(JournalReader(folder).replay()) == before
    assert _states(folder) == FOUND
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [("2",)]


def test_an_alert_that_led_to_nothing_has_two_events_in_it_and_is_decided(folder: Path) -> None:
    state = JournalState()
    for event in JournalReader(folder).replay():
        state.apply(event)
    (one,) = (one for one in state.episodes.values() if one.alert.name == "Unrelated")
    assert one.suppressed
    assert one.alert not in state.undecided()


def test_its_open_incidents_go_on(folder: Path) -> None:
    async def play() -> None:
        cluster = MemoryCluster(nodes=4, gpus=8)
        await cluster.quarantine(PROBATION, op_id="old", reason="old", owner=OWNER)
        async with world(folder, cluster) as run:
            assert run.journal_state.pause is not None
            await run.engine.resume("bob")
            await run.state(IncidentState.CLOSED, PROBATION)
            # Its alert has no uuid, as the rules of that version had none.
            one = await run.state(IncidentState.JOBS_MOVED, HELD)
            await run.until(lambda: run.journal_state.incidents[one.id].held is Reason.IDENTITY)
            assert await cluster.quarantined(PROBATION) is None
            assert await cluster.quarantined(HELD) is not None

    asyncio.run(play())


def test_a_second_opening_changes_nothing(folder: Path) -> None:
    _open(folder)
    once = _content(folder)
    _open(folder)
    assert _content(folder) == once


def test_an_upgraded_journal_has_the_relations_that_it_would_have_written(folder: Path) -> None:
    events = list(JournalReader(folder).replay())
    rows = ((one.incident, one.target, str(one.kind), one.data) for one in events)
    expected = set(journal_schema.relations(rows))
    _open(folder)
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        assert set(connection.execute("SELECT target, incident FROM relations")) == expected


@pytest.mark.parametrize("statement", ["INSERT OR REPLACE", "CREATE TABLE IF NOT EXISTS snapshot"])
def test_a_migration_that_stops_leaves_the_old_journal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    before = _content(folder)
    real = sqlite3.connect

    class Stops(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql.startswith(statement):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *arguments)

    def stopping(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return real(*arguments, factory=Stops, **options)

    monkeypatch.setattr(sqlite3, "connect", stopping)
    with pytest.raises(UserError, match="disk I/O error"):
        _open(folder)
    monkeypatch.undo()
    assert _content(folder) == before
    _open(folder)
    assert _states(folder) == FOUND


def test_a_process_without_the_lock_migrates_nothing(folder: Path) -> None:
    """An earlier version may still run on the directory."""
    held = journal_schema.lock(folder)
    before = _content(folder)
    with pytest.raises(UserError, match="another remediator"):
        _open(folder)
    assert _content(folder) == before
    held.close()


def test_a_later_schema_is_refused_with_what_to_do_and_stays_as_it_is(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = '3'")
    before = _content(folder)
    with pytest.raises(UserError, match=r"schema 3, but this version requires 2; use the version"):
        _open(folder)
    assert _content(folder) == before


def test_a_data_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created or opened"):
        _open(tmp_path / "file" / "data")
