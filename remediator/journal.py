"""The journal: an append-only event log in SQLite (WAL, synchronous=FULL), written by one thread.

Appends that arrive during a commit share the next one, so that many requests need only one fsync. An append
returns when its events are durable and `on_durable` was called for each of them in journal order.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.clock import monotonic
from remediator.core.events import Event
from remediator.crash_points import crash_point
from remediator.journal_reader import find_events as find_events
from remediator.journal_reader import read_events as read_events
from remediator.journal_reader import replay as replay
from remediator.journal_schema import RELATE, lock, prepare, relations

MAX_WAITING = 20_000
MAX_BATCH = 1_000
CHECK_SECONDS = (
    5.0  # how long the result of a check is reused, and how long a check waits for the disk
)
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_CHECKED = "INSERT OR REPLACE INTO meta VALUES ('checked', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"


class JournalDown(Exception):  # noqa: N818 - a state of the journal
    """The exception for a journal that cannot be written now. The message is one sentence."""


@dataclass(slots=True)
class _AppendRequest:
    """Events to append. A request without events only checks that the journal is writable."""

    events: Sequence[Event]
    future: asyncio.Future[tuple[Event, ...]]


@dataclass(slots=True)
class _MaintenanceRequest:
    """A change of the file that adds no event. It runs in its own transaction and returns a number."""

    work: Callable[[sqlite3.Connection], int]
    future: asyncio.Future[int]


class Journal:
    """The journal's only writer. Requires a running event loop; `close` waits for pending appends."""

    def __init__(
        self,
        folder: Path,
        on_durable: Callable[[Event], None],
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._lock = lock(folder)
        try:
            self._path = prepare(folder)
        except BaseException:
            self._lock.close()
            raise
        self._on_durable = on_durable
        self._monotonic = monotonic
        self._check: asyncio.Future[tuple[Event, ...]] | None = None
        self._check_at = 0.0
        self._queue: queue.SimpleQueue[_AppendRequest | _MaintenanceRequest | None] = (
            queue.SimpleQueue()
        )
        self._waiting = 0
        with closing(_open(self._path)) as connection:
            row = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchone()
        self._seq = int(row[0])
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events durably in the journal, all or none. Returns them with their sequence numbers.

        Raises JournalDown if the write fails, or if too many appends are waiting.
        """
        if not events:
            return ()
        if self._waiting >= MAX_WAITING:
            raise JournalDown("Too many events are waiting to be written to the journal.")
        self._waiting += 1
        try:
            return await asyncio.shield(self._hand_in(events))
        finally:
            self._waiting -= 1

    async def check(self) -> None:
        """Check with one durable write that the journal can be written now.

        The result is reused for CHECK_SECONDS, so that frequent health checks do not cause an fsync
        each. Raises JournalDown if the write fails or does not finish in time.
        """
        now = self._monotonic()
        if self._check is None or (self._check.done() and now - self._check_at >= CHECK_SECONDS):
            self._check, self._check_at = self._hand_in(()), now
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await asyncio.shield(self._check)
        except TimeoutError:
            raise JournalDown(
                f"The journal {self._path} cannot be written: "
                f"the disk has not answered for {CHECK_SECONDS:g} s."
            ) from None

    async def maintain(self, work: Callable[[sqlite3.Connection], int]) -> int:
        """Run `work` in a transaction of the writer, between two commits. Returns its result.

        `work` must be short, because appends wait for it. Raises JournalDown; the file is then unchanged.
        """
        request = _MaintenanceRequest(work, self._loop.create_future())
        self._queue.put(request)
        return await asyncio.shield(request.future)

    def _hand_in(self, events: Sequence[Event]) -> asyncio.Future[tuple[Event, ...]]:
        request = _AppendRequest(events, self._loop.create_future())
        self._queue.put(request)
        return request.future

    def close(self) -> None:
        """Write the pending events, then close the journal."""
        self._queue.put(None)
        self._thread.join(timeout=5)
        self._lock.close()

    def _write(self) -> None:
        connection = _open(self._path)
        going = True
        while going:
            batch, other, going = self._next_batch()
            if batch:
                self._append(connection, batch)
            if other is not None:
                self._maintain(connection, other)
        connection.close()

    def _append(self, connection: sqlite3.Connection, batch: list[_AppendRequest]) -> None:
        try:
            numbered = self._commit(connection, batch)
        except (sqlite3.Error, OSError) as error:
            self._call(self._failed, batch, f"The journal {self._path} cannot be written: {error}.")
            return
        self._call(self._durable, batch, numbered)
        for request in batch:
            if request.events:
                crash_point()

    def _maintain(self, connection: sqlite3.Connection, request: _MaintenanceRequest) -> None:
        def answer(result: int | JournalDown) -> None:
            if request.future.done():
                return
            if isinstance(result, JournalDown):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)

        try:
            connection.execute("BEGIN IMMEDIATE")
            result = request.work(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the writer must survive any maintenance
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            sentence = f"The journal {self._path} cannot be maintained: {error}."
            self._call(answer, JournalDown(sentence))
            return
        self._call(answer, result)
        crash_point()

    def _next_batch(self) -> tuple[list[_AppendRequest], _MaintenanceRequest | None, bool]:
        """Return the appends for the next commit, the maintenance that follows it, and whether to go on."""
        batch: list[_AppendRequest] = []
        request = self._queue.get()
        while True:
            if request is None:
                return batch, None, False
            if isinstance(request, _MaintenanceRequest):
                return batch, request, True
            batch.append(request)
            if len(batch) >= MAX_BATCH:
                return batch, None, True
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return batch, None, True

    def _commit(
        self, connection: sqlite3.Connection, batch: list[_AppendRequest]
    ) -> list[tuple[Event, ...]]:
        numbered: list[tuple[Event, ...]] = []
        seq = self._seq
        for request in batch:
            numbered.append(
                tuple(_numbered(event, seq + n) for n, event in enumerate(request.events, 1))
            )
            seq += len(request.events)
        written = [event for events in numbered for event in events]
        related = list(relations((one.incident, one.target, one.kind, one.data) for one in written))
        rows = [_row(event) for event in written]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            if related:
                connection.executemany(RELATE, related)
            if not all(request.events for request in batch):
                connection.execute(_CHECKED)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._seq = seq
        return numbered

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the loop has ended, so nothing waits for the result

    def _durable(self, batch: list[_AppendRequest], numbered: list[tuple[Event, ...]]) -> None:
        for request, events in zip(batch, numbered, strict=True):
            for event in events:
                self._on_durable(event)
            if not request.future.done():
                request.future.set_result(events)

    def _failed(self, batch: list[_AppendRequest], sentence: str) -> None:
        for request in batch:
            if not request.future.done():
                request.future.set_exception(JournalDown(sentence))


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _numbered(event: Event, seq: int) -> Event:
    """Return the event with its sequence number. dataclasses.replace would take five times as long."""
    return Event(
        event.kind,
        event.at,
        event.incident,
        event.target,
        event.reason,
        event.text,
        event.data,
        seq,
    )


def _row(event: Event) -> tuple[Any, ...]:
    reason = None if event.reason is None else str(event.reason)
    data = msgspec.json.encode(event.data)
    return (
        event.seq,
        event.at,
        event.incident,
        event.target,
        str(event.kind),
        reason,
        event.text,
        data,
    )
