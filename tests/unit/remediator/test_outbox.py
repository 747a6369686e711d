"""A message reaches each address once, in order, whatever the other addresses do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_receivers import (
    DEAD,
    GOOD,
    NOW,
    THIRD,
    Bench,
    Clock,
    Ledger,
    Receivers,
    dead,
    message,
    settle,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core import events
from remediator.core.journal_state import JournalState
from remediator.http import Notifier
from remediator.journal import Journal, replay
from remediator.outbox import LONGEST_PAUSE, Outbox, address_id


def play(story: Awaitable[None]) -> None:
    async def whole() -> None:
        await story

    asyncio.run(whole())


def test_each_address_gets_a_message_once_though_another_fails() -> None:
    async def story() -> None:
        bench = Bench((GOOD, DEAD, THIRD))
        bench.people.answers[DEAD] = dead
        async with bench.running():
            bench.post("m1", "m2")
            await bench.clock.pass_time(3600)
            assert bench.people.requests(GOOD) == ["m1", "m2"]
            assert bench.people.requests(THIRD) == ["m1", "m2"]
            assert bench.outbox.pending() == 2
            del bench.people.answers[DEAD]
            await bench.clock.pass_time(LONGEST_PAUSE)
            assert bench.people.at(DEAD) == ["m1", "m2"]
            assert bench.outbox.pending() == 0
            await bench.clock.pass_time(3600)
        assert sorted(bench.people.got) == sorted(
            (url, op_id) for url in (GOOD, DEAD, THIRD) for op_id in ("m1", "m2")
        )

    play(story())


def test_an_address_that_does_not_answer_delays_no_other() -> None:
    async def story() -> None:
        bench = Bench()
        bench.people.gates[DEAD] = asyncio.Event()
        async with bench.running():
            bench.post("m1", "m2")
            await settle()
            assert bench.people.at(GOOD) == ["m1", "m2"]
            assert bench.people.requests(DEAD) == ["m1"]
            bench.people.gates[DEAD].set()
            await settle()
            assert bench.people.at(DEAD) == ["m1", "m2"]

    play(story())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([200, 204, 302, 408, 425, 429, 500, 503, 0]), max_size=25))
def test_every_address_gets_every_message_once_and_in_order(statuses: list[int]) -> None:
    async def story() -> None:
        bench = Bench()
        script = iter(statuses)

        def answer(body: dict[str, Any]) -> int:
            status = next(script, 200)
            return status if status else dead(body)

        bench.people.answers[DEAD] = answer
        async with bench.running():
            bench.post("m1", "m2", "m3")
            await bench.clock.pass_time(25)
            bench.post("m4")
            await bench.clock.pass_time(3600)
        for url in (GOOD, DEAD):
            assert bench.people.at(url) == ["m1", "m2", "m3", "m4"]
        assert len(bench.ledger.deliveries()) == 8

    play(story())


def test_only_the_undelivered_address_gets_a_message_after_a_restart(tmp_path: Path) -> None:
    async def first() -> None:
        journal_state = JournalState()
        journal = Journal(tmp_path, journal_state.apply)
        people = Receivers({DEAD: dead})
        clock = Clock()
        outbox = Outbox(journal_state, journal, people, (GOOD, DEAD), clock.now, sleep=clock.sleep)
        task = asyncio.create_task(outbox.run())
        await journal.append([message("m1", NOW), message("m2", NOW)])
        outbox.wake()
        async with asyncio.timeout(10):
            while not all(one.settled for one in journal_state.outbox.values()):
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        journal.close()
        assert people.at(GOOD) == ["m1", "m2"]

    async def second() -> None:
        bench = Bench()
        for event in replay(tmp_path):
            bench.journal_state.apply(event)
        async with bench.running():
            assert bench.people.asked == [(DEAD, "m1"), (DEAD, "m2")]
            assert bench.outbox.pending() == 0

    asyncio.run(first())
    asyncio.run(second())


def test_a_message_has_the_link_of_its_page(tmp_path: Path) -> None:
    class Bodies:
        found: ClassVar[list[dict[str, object]]] = []

        async def exchange(
            self, method: str, url: str, *, content: bytes | None = None, **_: object
        ) -> tuple[int, bytes]:
            self.found.append(json.loads(content or b""))
            return 200, b""

    async def story() -> None:
        journal_state = JournalState()
        journal = Journal(tmp_path, journal_state.apply)
        clock = Clock()
        site = "https://ops.example.com"
        outbox = Outbox(
            journal_state, journal, Bodies(), (GOOD,), clock.now, site=site, sleep=clock.sleep
        )
        await journal.append(
            [
                events.notified(NOW, "m1", {"text": "a", "incident": "inc-1"}),
                events.notified(NOW, "m2", {"text": "b", "group": "pause"}, group="pause"),
            ]
        )
        task = asyncio.create_task(outbox.run())
        async with asyncio.timeout(10):
            while not all(one.settled for one in journal_state.outbox.values()):
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        journal.close()

    asyncio.run(story())
    links = [body["url"] for body in Bodies.found]
    assert links == ["https://ops.example.com/incidents/inc-1", "https://ops.example.com/incidents"]


def test_a_delivery_that_a_crash_kept_out_of_the_journal_is_sent_again() -> None:
    async def story() -> None:
        bench = Bench((GOOD,))
        bench.ledger.down = True
        async with bench.running():
            bench.post("m1")
            await settle()
            assert bench.people.at(GOOD) == ["m1"]
        bench.ledger.down = False
        bench.outbox = bench.new_outbox()
        async with bench.running():
            await settle()
            assert bench.people.at(GOOD) == ["m1", "m1"]

    play(story())


def test_an_address_that_was_removed_is_ignored() -> None:
    async def story() -> None:
        bench = Bench()
        bench.people.answers[DEAD] = dead
        async with bench.running():
            bench.post("m1")
            await settle()
        bench.addresses = (GOOD,)
        bench.outbox = bench.new_outbox()
        assert bench.outbox.pending() == 0
        async with bench.running():
            await bench.clock.pass_time(600)
        assert bench.people.requests(GOOD) == ["m1"]
        assert bench.people.requests(DEAD) == ["m1"]

    play(story())


def test_an_address_that_the_settings_hold_twice_gets_one_message() -> None:
    async def story() -> None:
        bench = Bench((GOOD, GOOD))
        async with bench.running():
            bench.post("m1")
            await settle()
        assert bench.people.asked == [(GOOD, "m1")]

    play(story())


def test_without_addresses_nothing_is_pending_and_nothing_runs() -> None:
    async def story() -> None:
        bench = Bench(())
        bench.post("m1")
        async with asyncio.timeout(5):
            await bench.outbox.run()
        assert bench.outbox.pending() == 0

    play(story())


def test_the_journal_names_an_address_without_its_secrets() -> None:
    assert address_id(DEAD) != address_id(GOOD)
    assert "secret" not in address_id(DEAD)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    """A receiver on loopback that is unavailable at first."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook", got
        server.shutdown()
        thread.join()


def test_a_message_arrives_over_http_as_json(
    hook: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = hook
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def story() -> None:
        journal_state = JournalState()
        ledger = Ledger(journal_state)
        async with Notifier() as sender:
            outbox = Outbox(
                journal_state, ledger, sender, (url,), lambda: NOW, sleep=lambda _: asyncio.sleep(0)
            )
            task = asyncio.create_task(outbox.run())
            journal_state.apply(message("m1", NOW))
            outbox.wake()
            async with asyncio.timeout(10):
                while outbox.pending():
                    await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert ledger.deliveries() == [("m1", address_id(url), False)]

    play(story())
    assert [json.loads(one) for one in got] == [message("m1", NOW).data["body"]] * 2
