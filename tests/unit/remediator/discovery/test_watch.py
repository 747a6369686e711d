"""The host list while the remediator runs: it changes, goes bad, goes away, comes back."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from remediator.discovery import watch
from remediator.discovery.watch import REST, Discovery, NoValidListError

NOW = 1_700_000_000.0


class Watched:
    """A host list, its discovery, and a clock that the test moves; files are as old as it says."""

    def __init__(self, folder: Path, *, file_sd: Path | None = None) -> None:
        self.path = folder / "hosts.yml"
        self.now = NOW
        self.discovery = Discovery(self.path, file_sd, "main", lambda: self.now)

    def write(self, text: str, *, age: float = 60.0) -> None:
        self.path.write_text(text)
        at = int((self.now - age) * 1e9)
        os.utime(self.path, ns=(at, at))

    def nodes(self) -> list[str]:
        """Those that Prometheus is told of, after one more look."""

        async def asked() -> bytes:
            await self.discovery.refresh()
            return await self.discovery.body()

        return [group["labels"]["node"] for group in json.loads(asyncio.run(asked()))]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Nothing is written yet."""
    return Watched(tmp_path)


def test_a_change_is_told_after_the_next_look(watched) -> None:
    watched.write("hosts: [a]", age=60)
    assert watched.nodes() == ["a"]
    watched.write("hosts: [a, b]", age=30)
    assert watched.nodes() == ["a", "b"]


def test_a_list_that_went_bad_leaves_the_last_good_one_standing_and_says_why(watched) -> None:
    watched.write("hosts: [a, b]", age=60)
    assert watched.nodes() == ["a", "b"]
    for age, bad in ((50, "hosts: ["), (40, "hosts: []"), (30, "hosts: ['a[']"), (20, "")):
        watched.write(bad, age=age)
        assert watched.nodes() == ["a", "b"]
        assert "hosts.yml" in watched.discovery.bad
    watched.path.unlink()
    assert watched.nodes() == ["a", "b"]
    assert "no such file" in watched.discovery.bad
    watched.write("hosts: [c]", age=10)
    assert watched.nodes() == ["c"]
    assert watched.discovery.bad is None


def test_before_any_good_list_there_is_no_answer_rather_than_an_empty_one(watched) -> None:
    with pytest.raises(NoValidListError, match="no such file"):
        watched.nodes()
    watched.write("hosts: []")
    with pytest.raises(NoValidListError, match="expected at least one host"):
        watched.nodes()
    watched.write("hosts: [a]", age=1)
    assert watched.nodes() == ["a"]


def test_half_a_list_that_is_being_written_is_not_taken_until_it_rests(watched) -> None:
    watched.write("hosts:\n- a\n- b\n", age=60)
    assert watched.nodes() == ["a", "b"]
    watched.write("hosts:\n- a\n", age=0)
    assert watched.nodes() == ["a", "b"]
    watched.write("hosts:\n- a\n- b\n- c\n", age=0)
    assert watched.nodes() == ["a", "b"]
    watched.now += REST
    assert watched.nodes() == ["a", "b", "c"]


def test_a_file_from_the_future_is_taken_all_the_same(watched) -> None:
    watched.write("hosts: [a]")
    assert watched.nodes() == ["a"]
    watched.write("hosts: [b]", age=-3600)
    assert watched.nodes() == ["b"]


def test_a_list_replaced_by_rename_is_seen_even_with_the_same_time_and_size(watched) -> None:
    watched.write("hosts: [a]")
    assert watched.nodes() == ["a"]
    fresh = watched.path.with_name("fresh")
    fresh.write_text("hosts: [b]")
    at = watched.path.stat().st_mtime_ns
    os.utime(fresh, ns=(at, at))
    fresh.replace(watched.path)
    assert watched.nodes() == ["b"]


def test_the_file_for_file_sd_follows_the_list_and_comes_back_when_it_was_removed(tmp_path) -> None:
    out = tmp_path / "targets.json"
    watched = Watched(tmp_path, file_sd=out)
    watched.write("hosts: [a]", age=60)
    assert watched.nodes() == ["a"]
    assert out.read_bytes() == watched.discovery.known.body
    first = out.stat().st_ino
    watched.nodes()
    assert out.stat().st_ino == first, "it is written when it changes, and not each time"
    watched.write("hosts: [b]", age=30)
    out.unlink()
    watched.nodes()
    assert '"b:9410"' in out.read_text()


def test_a_bad_list_at_the_start_leaves_an_earlier_file_for_file_sd_alone(tmp_path) -> None:
    out = tmp_path / "targets.json"
    out.write_text("[]")
    watched = Watched(tmp_path, file_sd=out)
    watched.write("hosts: [")
    with pytest.raises(NoValidListError):
        watched.nodes()
    assert out.read_text() == "[]"


def test_a_file_that_cannot_be_written_is_said_and_http_answers_all_the_same(tmp_path) -> None:
    watched = Watched(tmp_path, file_sd=tmp_path / "no" / "targets.json")
    watched.write("hosts: [a]")
    assert watched.nodes() == ["a"]
    assert "targets.json: cannot be written: No such file or directory" in watched.discovery.bad


def test_who_asks_first_waits_for_the_first_look(watched) -> None:
    watched.write("hosts: [a]")

    async def asked() -> bytes:
        question = asyncio.create_task(watched.discovery.body())
        await asyncio.sleep(0)
        await watched.discovery.refresh()
        return await question

    assert b"a:9410" in asyncio.run(asked())


def test_a_list_that_hangs_holds_up_nobody_who_asks(watched, monkeypatch) -> None:
    monkeypatch.setattr(watch, "FIRST", 0.01)
    with pytest.raises(NoValidListError, match=r"hosts\.yml: the list has not been read yet"):
        asyncio.run(watched.discovery.body())


def test_a_bad_list_is_logged_once(watched, capsys) -> None:
    watched.write("hosts: [")
    for _ in range(3):
        asyncio.run(watched.discovery.refresh())
    assert capsys.readouterr().out.count("host_list_bad") == 1
