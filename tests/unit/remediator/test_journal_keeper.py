"""Snapshots are stored when they are due, and a failure or a crash leaves the older one."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from remediator import journal_keeper, snapshots
from remediator.core import events
from remediator.core.journal_state import JournalState, Retention
from remediator.journal import Journal, JournalDown
from remediator.journal_keeper import FEW, JournalKeeper
from remediator.journal_reader import JournalReader
from tests.unit.remediator.core.examples import NOW

RETENTION = Retention(memory=1000.0, events=1000.0)


class Kept:
    """A journal with its state and its keeper."""

    def __init__(self, folder: Path, *, trusted: bool = True) -> None:
        self.state = JournalState(RETENTION)
        self.reader = JournalReader(folder)
        replayed = snapshots.load(self.state, self.reader)
        self.journal = Journal(folder, self._durable)
        self.keeper = JournalKeeper(self.state, self.journal, lambda: trusted, replayed)

    def _durable(self, event: events.Event) -> None:
        self.state.apply(event)
        self.keeper.count_event()

    async def write(self, count: int, at: float = NOW) -> None:
        await self.journal.append([events.reconciled(at, n, 0, 0) for n in range(count)])

    def restored(self) -> JournalState | None:
        return snapshots.restore(self.reader.snapshot(), RETENTION)


def play(folder: Path, story: Callable[[Kept], Awaitable[None]], *, trusted: bool = True) -> None:
    async def run() -> None:
        kept = Kept(folder, trusted=trusted)
        await story(kept)
        kept.journal.close()

    asyncio.run(run())


def test_a_snapshot_contains_the_state_of_its_moment(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        await kept.write(3)
        await kept.keeper.save()
        assert kept.restored() == kept.state
        await kept.write(2)
        found = kept.restored()
        assert found is not None
        assert (found.seq, kept.state.seq) == (3, 5)

    play(tmp_path, story)


def test_at_the_end_a_snapshot_is_stored_only_if_it_shortens_the_next_start(tmp_path: Path) -> None:
    async def few(kept: Kept) -> None:
        await kept.write(FEW - 1)
        await kept.keeper.finish()
        assert kept.restored() is None

    async def enough(kept: Kept) -> None:
        await kept.write(1)
        await kept.keeper.finish()
        assert kept.restored() == kept.state
        await kept.keeper.finish()

    play(tmp_path, few)
    play(tmp_path, enough)


def test_the_keeper_saves_after_many_events_and_then_deletes_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_keeper, "EVENTS", 50)

    async def story(kept: Kept) -> None:
        task = asyncio.create_task(kept.keeper.run())
        await kept.write(49)
        await kept.write(1, NOW + 500_000)
        async with asyncio.timeout(5):
            while len(list(kept.reader.replay())) > 1:
                await asyncio.sleep(0.01)
        assert kept.restored() == kept.state
        task.cancel()

    play(tmp_path, story)
    state = JournalState(RETENTION)
    assert snapshots.load(state, JournalReader(tmp_path)) == 0
    assert state.seq == 50


def test_nothing_is_deleted_while_the_clock_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_keeper, "EVENTS", 3)

    async def story(kept: Kept) -> None:
        await kept.write(2)
        await kept.write(1, NOW + 500_000)
        task = asyncio.create_task(kept.keeper.run())
        async with asyncio.timeout(5):
            while kept.restored() is None:
                await asyncio.sleep(0.01)
        assert len(list(kept.reader.replay())) == 3
        task.cancel()

    play(tmp_path, story, trusted=False)


def test_a_long_replay_is_followed_by_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_keeper, "EVENTS", 5)

    async def write(kept: Kept) -> None:
        await kept.write(5)

    async def start(kept: Kept) -> None:
        task = asyncio.create_task(kept.keeper.run())
        async with asyncio.timeout(5):
            while kept.restored() is None:
                await asyncio.sleep(0.01)
        task.cancel()

    play(tmp_path, write)
    play(tmp_path, start)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_failure_while_a_snapshot_is_stored_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    real = snapshots.store

    def fails(connection: sqlite3.Connection, parts: list[bytes]) -> int:
        real(connection, parts[:after])
        raise sqlite3.OperationalError("database or disk is full")

    async def story(kept: Kept) -> None:
        await kept.write(3)
        await kept.keeper.save()
        older = kept.restored()
        await kept.write(FEW)
        monkeypatch.setattr(snapshots, "store", fails)
        with pytest.raises(JournalDown, match="cannot be maintained: database or disk is full"):
            await kept.keeper.save()
        await kept.keeper.finish()
        assert kept.restored() == older
        await kept.write(1)
        monkeypatch.undo()
        await kept.keeper.finish()
        assert kept.restored() == kept.state

    play(tmp_path, story)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from remediator import snapshots
from remediator.journal import Journal

def killed(connection):
    snapshots.store(connection, [b"half"])
    os._exit(137)

async def run():
    await Journal(Path(sys.argv[1]), print).maintain(killed)

asyncio.run(run())
"""


def test_a_process_that_is_killed_while_it_stores_a_snapshot_leaves_the_older_one(
    tmp_path: Path,
) -> None:
    async def save(kept: Kept) -> None:
        await kept.write(3)
        await kept.keeper.save()

    play(tmp_path, save)
    older = list(JournalReader(tmp_path).snapshot())
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 137
    assert list(JournalReader(tmp_path).snapshot()) == older

    async def start(kept: Kept) -> None:
        assert (kept.state.seq, kept.restored()) == (3, kept.state)

    play(tmp_path, start)


def test_maintenance_runs_between_the_commits_in_their_order(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        def count(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT COUNT(*) FROM events").fetchone()[0])

        _, seen, _ = await asyncio.gather(
            kept.write(2), kept.journal.maintain(count), kept.write(3)
        )
        assert seen == 2
        assert await kept.journal.maintain(count) == 5

    play(tmp_path, story)
