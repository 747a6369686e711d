"""The journal on a disk that is full, fails or hangs, and the check that finds it so."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from remediator import journal as journal_module
from remediator.core.events import Event, Kind
from remediator.core.reasons import Reason
from remediator.journal import CHECK_SECONDS, Journal, JournalDown, replay

NOW = 1_700_000_000.0


def _event(text: str) -> Event:
    return Event(Kind.SUPPRESSED, NOW, None, "gpu/n/1", Reason.SPENT, text, {})


class _Failing:
    """A connection whose next statement of one kind fails, as a disk without room lets it fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.fail = ""
        self.statements: list[str] = []
        self.passing = threading.Event()
        self.passing.set()
        self.hangs = threading.Event()

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if not self.passing.is_set():
            self.hangs.set()
        self.passing.wait(10)
        self.statements.append(statement)
        if self.fail and statement.startswith(self.fail):
            self.fail = ""
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[_Failing]:
    """Every connection of a journal; after the first append the last is that of its writer."""
    found: list[_Failing] = []
    real = journal_module._open

    def opened(path: Path) -> _Failing:
        found.append(_Failing(real(path)))
        return found[-1]

    monkeypatch.setattr(journal_module, "_open", opened)
    return found


@contextmanager
def _no_room(folder: Path) -> Iterator[None]:
    """No file of this process grows beyond the present length of the write-ahead log."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    length = (folder / "journal.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_too_many_waiting_appends_are_refused_and_the_others_are_kept(
    tmp_path, connections, monkeypatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_WAITING", 2)

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("0"),))
        connections[-1].passing.clear()
        waiting = [asyncio.create_task(journal.append((_event(text),))) for text in "12"]
        await asyncio.sleep(0)
        with pytest.raises(JournalDown, match="Too many"):
            await journal.append((_event("3"),))
        connections[-1].passing.set()
        await asyncio.gather(*waiting)
        await journal.append((_event("4"),))
        journal.close()

    asyncio.run(work())
    assert [event.text for event in replay(tmp_path)] == ["0", "1", "2", "4"]


def test_appends_that_wait_share_commits_of_bounded_size(
    tmp_path, connections, monkeypatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_BATCH", 3)

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("0"),))
        connections[-1].passing.clear()
        first = asyncio.create_task(journal.append((_event("1"),)))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(connections[-1].hangs.wait, 10), "the writer has taken it"
        others = [asyncio.create_task(journal.append((_event("n"),))) for _ in range(7)]
        await asyncio.sleep(0)
        connections[-1].passing.set()
        await asyncio.gather(first, *others)
        journal.close()

    asyncio.run(work())
    commits = connections[-1].statements.count("COMMIT")
    assert commits == 1 + 1 + 3, "the first, the one that hung, then 3, 3 and 1"


def test_what_was_handed_in_before_the_close_is_written(tmp_path, connections) -> None:
    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("0"),))
        connections[-1].passing.clear()
        waiting = [asyncio.create_task(journal.append((_event(text),))) for text in "12"]
        await asyncio.sleep(0)
        connections[-1].passing.set()
        journal.close()
        assert not journal._thread.is_alive()
        await asyncio.gather(*waiting)

    asyncio.run(work())
    assert [event.text for event in replay(tmp_path)] == ["0", "1", "2"]


def test_after_a_failed_commit_the_next_append_succeeds(tmp_path, connections) -> None:
    seen: list[Event] = []

    async def work() -> None:
        journal = Journal(tmp_path, seen.append)
        await journal.append((_event("before"),))
        connections[-1].fail = "COMMIT"
        with pytest.raises(JournalDown, match="database or disk is full"):
            await journal.append((_event("half"), _event("batch")))
        (written,) = await journal.append((_event("after"),))
        assert written.seq == 2
        journal.close()

    asyncio.run(work())
    assert [event.text for event in replay(tmp_path)] == ["before", "after"]
    assert seen == list(replay(tmp_path))


def test_a_disk_that_refuses_every_statement_does_not_end_the_writer(tmp_path, connections) -> None:
    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("first"),))
        for statement in ("BEGIN", "COMMIT", "BEGIN"):
            connections[-1].fail = statement
            with pytest.raises(JournalDown, match="database or disk is full"):
                await journal.append((_event("lost"),))
        await journal.append((_event("kept"),))
        journal.close()

    asyncio.run(work())
    assert [event.text for event in replay(tmp_path)] == ["first", "kept"]


def test_a_check_fails_while_the_disk_is_full_and_recovers_with_room(tmp_path) -> None:
    async def work() -> None:
        clock = [0.0]
        journal = Journal(tmp_path, lambda event: None, lambda: clock[0])
        await journal.append((_event("before"),))
        await journal.check()
        clock[0] += CHECK_SECONDS
        with _no_room(tmp_path):
            with pytest.raises(JournalDown, match=r"journal\.db cannot be written: .+\.$"):
                await journal.check()
            with pytest.raises(JournalDown, match="cannot be written"):
                await journal.append((_event("lost"),))
        clock[0] += CHECK_SECONDS
        await journal.check()
        await journal.append((_event("after"),))
        journal.close()

    asyncio.run(work())
    assert [event.text for event in replay(tmp_path)] == ["before", "after"]


def test_a_check_writes_durably_and_is_no_event(tmp_path, connections, monkeypatch) -> None:
    passed: list[None] = []
    monkeypatch.setattr(journal_module, "crash_point", lambda: passed.append(None))

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.check()
        assert connections[-1].statements[-1] == "COMMIT"
        (written,) = await journal.append((_event("first"),))
        assert written.seq == 1
        journal.close()

    asyncio.run(work())
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        found = dict(connection.execute("SELECT key, value FROM meta"))
    assert datetime.fromisoformat(found["checked"]).timestamp() > NOW
    assert found["schema"] == "2"
    assert len(passed) == 1, "a check adds no crash point"


def test_the_result_of_a_check_is_shared_for_five_seconds(tmp_path, connections) -> None:
    def commits() -> int:
        return connections[-1].statements.count("COMMIT")

    async def work() -> None:
        clock = [100.0]
        journal = Journal(tmp_path, lambda event: None, lambda: clock[0])
        await asyncio.gather(*(journal.check() for _ in range(50)))
        clock[0] += CHECK_SECONDS - 0.001
        await journal.check()
        assert commits() == 1
        clock[0] += 0.001
        connections[-1].fail = "BEGIN"
        with pytest.raises(JournalDown):
            await journal.check()
        with pytest.raises(JournalDown):
            await journal.check()
        assert commits() == 1, "a failure is shared as well"
        clock[0] += CHECK_SECONDS
        await journal.check()
        assert commits() == 2
        journal.close()

    assert CHECK_SECONDS == 5.0
    asyncio.run(work())


def test_a_check_does_not_wait_for_a_disk_that_hangs(tmp_path, connections, monkeypatch) -> None:
    monkeypatch.setattr(journal_module, "CHECK_SECONDS", 0.01)

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("before"),))
        connections[-1].passing.clear()
        for _ in range(3):
            with pytest.raises(JournalDown, match=r"the disk has not answered for 0\.01 s\.$"):
                await journal.check()
        assert journal._queue.qsize() <= 1, "no second check is made while one waits"
        connections[-1].passing.set()
        await journal.append((_event("after"),))
        monkeypatch.setattr(journal_module, "CHECK_SECONDS", 60.0)
        await journal.check()
        journal.close()

    asyncio.run(work())
