from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from remediator import journal as journal_module
from remediator.core import events
from remediator.core.events import Event, Kind
from remediator.core.reasons import Reason
from remediator.journal import (
    CHECK_SECONDS,
    Journal,
    JournalDown,
    find_events,
    read_events,
    replay,
)

NOW = 1_700_000_000.0


def _event(
    text: str,
    target: str | None = "gpu/n/1",
    reason: Reason | None = Reason.SPENT,
    incident: str | None = None,
) -> Event:
    data = {"key": "k", "n": 1.5}
    return Event(Kind.SUPPRESSED, NOW, incident, target, reason, text, data)


class _Failing:
    """A connection whose next statement of one kind fails, as a disk without room lets it fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.fail = ""
        self.statements: list[str] = []
        self.passing = threading.Event()
        self.passing.set()

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
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


def test_what_was_appended_is_read_back_in_order(tmp_path) -> None:
    seen: list[Event] = []

    async def work() -> None:
        journal = Journal(tmp_path, seen.append)
        written = await journal.append((_event("a"), _event("b")))
        assert [event.seq for event in written] == [1, 2]
        await journal.append((_event("c"),))
        journal.close()

    asyncio.run(work())
    assert seen == list(replay(tmp_path))
    assert [event.text for event in seen] == ["a", "b", "c"]
    lines = read_events(tmp_path, after=1)
    assert lines[0] == {"seq": 2, "at": NOW, "incident": None, "target": "gpu/n/1", "event": "Suppressed",
            "reason": "spent", "text": "b", "data": {"key": "k", "n": 1.5}}  # fmt: skip


def test_numbers_go_on_after_a_restart(tmp_path) -> None:
    async def append(text: str) -> int:
        journal = Journal(tmp_path, lambda event: None)
        written = await journal.append((_event(text),))
        journal.close()
        return written[0].seq

    assert [asyncio.run(append("a")), asyncio.run(append("b"))] == [1, 2]


def test_many_appends_at_once_all_become_durable_in_one_order(tmp_path) -> None:
    seen: list[int] = []

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: seen.append(event.seq))
        await asyncio.gather(*(journal.append((_event(str(n)),)) for n in range(500)))
        journal.close()

    asyncio.run(work())
    assert list(range(1, 501)) == seen


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path) -> None:
    async def work() -> None:
        seen: list[Event] = []
        journal = Journal(tmp_path, seen.append)
        await journal.append((_event("before"),))
        blocker = sqlite3.connect(tmp_path / "journal.db")
        blocker.execute("DROP TABLE events")
        blocker.commit()
        with pytest.raises(JournalDown, match="cannot be written"):
            await journal.append((_event("lost"),))
        assert [event.text for event in seen] == ["before"]
        journal.close()
        blocker.close()

    asyncio.run(work())


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
            with pytest.raises(JournalDown):
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
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        found = dict(connection.execute("SELECT key, value FROM meta"))
    assert float(found["checked"]) > NOW
    assert found["schema"] == "1"
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
        await journal.check()
        journal.close()

    asyncio.run(work())


def test_only_one_remediator_may_write_a_folder(tmp_path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        with pytest.raises(UserError, match="another remediator"):
            Journal(tmp_path, lambda event: None)
        journal.close()
        Journal(tmp_path, lambda event: None).close()

    asyncio.run(work())


def test_a_file_that_is_no_journal_is_one_sentence(tmp_path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(UserError, match=r"journal\.db.*cannot be read"):
        list(replay(tmp_path))

    async def work() -> None:
        with pytest.raises(UserError, match="no journal can be kept"):
            Journal(tmp_path, lambda event: None)

    asyncio.run(work())


def test_a_newer_schema_is_refused(tmp_path) -> None:
    async def work() -> None:
        Journal(tmp_path, lambda event: None).close()
        with sqlite3.connect(tmp_path / "journal.db") as connection:
            connection.execute("UPDATE meta SET value = '99'")
        with pytest.raises(UserError, match="schema 99"):
            Journal(tmp_path, lambda event: None)

    asyncio.run(work())


def test_the_latest_events_of_a_target_are_found(tmp_path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append(tuple(_event(str(n), f"gpu/n/{n % 2}") for n in range(10)))
        journal.close()

    asyncio.run(work())
    found = find_events(tmp_path, target="gpu/n/1", limit=3)
    assert [event.text for event in found] == ["5", "7", "9"]
    assert len(find_events(tmp_path)) == 10


def test_a_limit_counts_the_events_that_match_alone(tmp_path) -> None:
    """Two decisions, then a thousand events that decide nothing."""

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("old", reason=Reason.LEVEL, incident="i-1"), _event("spent")))
        await journal.append(tuple(_event(str(n), reason=None) for n in range(1000)))
        await journal.append((_event("other", "gpu/n/2", Reason.LEVEL, "i-2"),))
        journal.close()

    asyncio.run(work())

    def found(**filters: Any) -> list[str]:
        return [event.text for event in find_events(tmp_path, **filters)]

    assert found(decided=True) == ["old", "spent", "other"]
    assert found(decided=True, limit=2) == ["spent", "other"]
    assert found(target="gpu/n/1", decided=True, limit=5) == ["old", "spent"]
    assert found(reason="level", limit=5) == ["old", "other"]
    assert found(target="gpu/n/1", reason="level", limit=5) == ["old"]
    assert found(incident="i-1", decided=True) == ["old"]
    assert found(incident="i-2", target="gpu/n/1") == []
    assert found(reason="no such reason") == []
    assert found(limit=1) == ["other"]


def test_no_journal_yet_is_no_event(tmp_path) -> None:
    assert list(replay(tmp_path)) == []
    assert read_events(tmp_path) == []


def test_an_alert_survives_the_journal(tmp_path) -> None:
    from remediator.core.model import Alert

    alert = Alert(
        "f", NOW + 0.123456, "2023-11-14T22:13:20.123456Z", True, {"alertname": "X\n\x00é"}
    )

    async def work() -> None:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((events.alert_received(alert, None, NOW, "webhook"),))
        journal.close()

    asyncio.run(work())
    assert [alert] == [events.alert_of(event) for event in replay(tmp_path)]
