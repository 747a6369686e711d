"""The ends of an outbox for unit tests: receivers, a journal in memory, and time that a test lets pass."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from remediator.core import events
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState
from remediator.http import UnreachableError
from remediator.journal import JournalDown
from remediator.outbox import Outbox

NOW = 1_700_000_000.0
GOOD, DEAD, THIRD = "http://good/a", "http://user:secret@dead/hook?key=secret", "http://third/c"


class Clock:
    """Time that passes when the test says so. `pass_time` wakes each sleeper at its own moment."""

    def __init__(self) -> None:
        self.at = NOW
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.at + seconds, waiter))
        await waiter

    async def pass_time(self, seconds: float = 0.0) -> None:
        until = self.at + seconds
        await settle()
        while due := sorted(
            (one for one in self._sleepers if one[0] <= until), key=lambda one: one[0]
        ):
            self.at, waiter = due[0]
            self._sleepers.remove(due[0])
            if not waiter.done():
                waiter.set_result(None)
            await settle()
        self.at = until


async def settle() -> None:
    """Let every task come to where only time or a test's event moves it on."""
    for _ in range(300):
        await asyncio.sleep(0)


@dataclass
class Receivers:
    """The addresses' other ends: `answers` says what each answers, 200 by default."""

    answers: dict[str, Callable[[dict[str, Any]], int]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    got: list[tuple[str, str]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    most: int = 0

    async def exchange(
        self, method: str, url: str, *, content: bytes | None = None,
        headers: dict[str, str] | None = None, params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:  # fmt: skip
        body = json.loads(content or b"")
        self.asked.append((url, body["op_id"]))
        self.busy[url] = self.busy.get(url, 0) + 1
        self.most = max(self.most, self.busy[url])
        try:
            await (self.gates[url].wait() if url in self.gates else asyncio.sleep(0))
            status = self.answers.get(url, lambda _: 200)(body)
        finally:
            self.busy[url] -= 1
        if 200 <= status < 300:
            self.got.append((url, body["op_id"]))
        return status, b""

    def at(self, url: str) -> list[str]:
        return [op_id for address, op_id in self.got if address == url]

    def requests(self, url: str) -> list[str]:
        return [op_id for address, op_id in self.asked if address == url]


def dead(_: dict[str, Any]) -> int:
    raise UnreachableError("the notification address http://dead cannot be reached: refused.")


@dataclass
class Ledger:
    """A journal in memory; every durable event is applied to the book."""

    journal_state: JournalState
    down: bool = False
    kept: list[Event] = field(default_factory=list)

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        await asyncio.sleep(0)
        if self.down:
            raise JournalDown("The journal cannot be written: the disk is full.")
        for event in events:
            self.kept.append(event)
            self.journal_state.apply(event)
        return tuple(events)

    def deliveries(self) -> list[tuple[str, str, bool]]:
        found = [event.data for event in self.kept if event.kind is Kind.DELIVERED]
        return [(one["op_id"], one["address"], one["expired"]) for one in found]


@dataclass
class Bench:
    """An outbox with everything around it."""

    addresses: Sequence[str] = (GOOD, DEAD)
    clock: Clock = field(default_factory=Clock)
    people: Receivers = field(default_factory=Receivers)
    journal_state: JournalState = field(default_factory=JournalState)
    ledger: Ledger = field(init=False)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.journal_state)
        self.outbox = self.new_outbox()

    def new_outbox(self) -> Outbox:
        return Outbox(
            self.journal_state, self.ledger, self.people, self.addresses, self.clock.now,
            sleep=self.clock.sleep,
        )  # fmt: skip

    def write(self, op_id: str, at: float | None = None) -> None:
        """A message that is durable, without a call of `wake`."""
        event = message(op_id, self.clock.at if at is None else at)
        self.ledger.kept.append(event)
        self.journal_state.apply(event)

    def post(self, *op_ids: str) -> None:
        for op_id in op_ids:
            self.write(op_id)
        self.outbox.wake()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.outbox.run())
        await settle()
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert self.people.most <= 1, "at most one request at a time for each address"


def message(op_id: str, at: float) -> Event:
    body = {"text": f"Message {op_id}.", "occasion": "opened", "op_id": op_id}
    return events.notified(at, op_id, body, occasion="opened")
