from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from remediator.core import events
from remediator.core.events import Event, Kind
from remediator.core.reasons import Reason
from remediator.journal import Journal, JournalDown, find_events, read_events, replay

NOW = 1_700_000_000.0


def _event(
    text: str,
    target: str | None = "gpu/n/1",
    reason: Reason | None = Reason.SPENT,
    incident: str | None = None,
) -> Event:
    data = {"key": "k", "n": 1.5}
    return Event(Kind.SUPPRESSED, NOW, incident, target, reason, text, data)


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


def test_a_folder_is_made_where_there_is_none(tmp_path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path / "a" / "b", lambda event: None)
        await journal.append((_event("a"),))
        journal.close()

    asyncio.run(work())
    assert len(list(replay(tmp_path / "a" / "b"))) == 1


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
    with pytest.raises(UserError, match=r"journal\.db.*not a valid journal"):
        list(replay(tmp_path))

    async def work() -> None:
        with pytest.raises(UserError, match="cannot be created or opened"):
            Journal(tmp_path, lambda event: None)

    asyncio.run(work())


def test_a_newer_schema_is_refused(tmp_path) -> None:
    async def work() -> None:
        Journal(tmp_path, lambda event: None).close()
        with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
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


@pytest.mark.parametrize("before", [None, 0o644])
def test_the_files_of_the_journal_are_closed_to_other_users(tmp_path, before) -> None:
    path = tmp_path / "journal.db"
    if before is not None:
        sqlite3.connect(path).close()
        path.touch()
        path.chmod(before)

    async def play() -> list[int]:
        journal = Journal(tmp_path, lambda event: None)
        await journal.append((_event("one"),))
        modes = [one.stat().st_mode & 0o777 for one in tmp_path.glob("journal.db*")]
        journal.close()
        return modes

    modes = asyncio.run(play())
    assert len(modes) > 1, "the files beside it are looked at, too"
    assert set(modes) == {0o600}
