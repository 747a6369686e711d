"""The journal: an append-only event log in SQLite (WAL, synchronous=FULL), written by one thread.

Appends that arrive during a commit share the next one, so that many requests need only one fsync. An append
returns when its events are durable and `on_durable` was called for each of them in journal order.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.errors import UserError
from remediator.core.events import Event, Kind
from remediator.core.reasons import Reason
from remediator.crash_points import crash_point
from remediator.journal_upgrades import upgraded

SCHEMA_VERSION = 1
MAX_WAITING = 20_000
MAX_BATCH = 1_000
CHECK_SECONDS = (
    5.0  # how long the result of a check is reused, and how long a check waits for the disk
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, incident TEXT, target TEXT, event TEXT NOT NULL,
  reason TEXT, text TEXT NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_target ON events (target, seq) WHERE target IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_incident ON events (incident, seq) WHERE incident IS NOT NULL;
"""
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_CHECKED = "INSERT OR REPLACE INTO meta VALUES ('checked', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"
_SELECT = "SELECT seq, at, incident, target, event, reason, text, data FROM events"


class JournalDown(Exception):  # noqa: N818 - a state of the journal
    """The exception for a journal that cannot be written now. The message is one sentence."""


@dataclass(slots=True)
class _AppendRequest:
    """Events to append. A request without events only checks that the journal is writable."""

    events: Sequence[Event]
    future: asyncio.Future[tuple[Event, ...]]


class Journal:
    """The journal's only writer. Requires a running event loop; `close` waits for pending appends."""

    def __init__(
        self,
        folder: Path,
        on_durable: Callable[[Event], None],
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._path = _prepare(folder)
        self._lock = _sole(folder)
        self._on_durable = on_durable
        self._monotonic = monotonic
        self._check: asyncio.Future[tuple[Event, ...]] | None = None
        self._check_at = 0.0
        self._queue: queue.SimpleQueue[_AppendRequest | None] = queue.SimpleQueue()
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
            batch, going = self._next_batch()
            if not batch:
                break
            try:
                numbered = self._commit(connection, batch)
            except (sqlite3.Error, OSError) as error:
                self._call(
                    self._failed, batch, f"The journal {self._path} cannot be written: {error}."
                )
                continue
            self._call(self._durable, batch, numbered)
            for request in batch:
                if request.events:
                    crash_point()
        connection.close()

    def _next_batch(self) -> tuple[list[_AppendRequest], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        batch = [first]
        while len(batch) < MAX_BATCH:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:
                return batch, False
            batch.append(request)
        return batch, True

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
        rows = [_row(event) for events in numbered for event in events]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
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


def replay(folder: Path) -> Iterator[Event]:
    """Yield every event of the journal in order. Raises UserError if the file is not a valid journal."""
    path = folder / "journal.db"
    if path.exists():
        for row in _rows(path, f"{_SELECT} ORDER BY seq", ()):
            yield _event(row)


def read_events(folder: Path, *, after: int = 0, limit: int = -1) -> list[dict[str, Any]]:
    """Return the events with a sequence number above `after` as dicts; empty without a journal file.

    A second process may call this while the remediator writes. Raises UserError for a damaged file.
    """
    path = folder / "journal.db"
    if not path.exists():
        return []
    query = f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?"
    return [line(_event(row)) for row in _rows(path, query, (after, limit))]


def find_events(
    folder: Path,
    *,
    target: str | None = None,
    incident: str | None = None,
    decided: bool = False,
    reason: str | None = None,
    kind: Kind | None = None,
    limit: int = 200,
) -> list[Event]:
    """Return the latest events that match all filters, oldest first.

    `decided` selects events with a reason. `limit` counts matching events only.
    """
    given = {
        "incident = ?": incident,
        "target = ?": target,
        "reason = ?": reason,
        "event = ?": kind and str(kind),
    }
    filters = {condition: value for condition, value in given.items() if value}
    conditions = [*filters, *(["reason IS NOT NULL"] if decided else [])]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    query = f"{_SELECT} {where} ORDER BY seq DESC LIMIT ?"
    rows = _rows(folder / "journal.db", query, (*filters.values(), limit))
    return [_event(row) for row in reversed(list(rows))]


def line(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object, as in the output of `fleetmedic remediator journal`."""
    return {
        "seq": event.seq,
        "at": event.at,
        "incident": event.incident,
        "target": event.target,
        "event": str(event.kind),
        "reason": None if event.reason is None else str(event.reason),
        "text": event.text,
        "data": dict(event.data),
    }


def _prepare(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _keep_private(folder / "journal.db")
        with closing(sqlite3.connect(folder / "journal.db")) as connection:
            with connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
                connection.execute(
                    "INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),)
                )
            found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0]
    except (OSError, sqlite3.Error) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(
            f"{folder}: the journal cannot be created or opened ({cause}). Check that this user may write to "
            "the directory, or specify another --data-dir."
        ) from None
    if found != str(SCHEMA_VERSION):
        raise UserError(
            f"{folder}/journal.db has schema {found}, but this version requires {SCHEMA_VERSION}; "
            "use the version that wrote it, or specify another --data-dir."
        )
    return folder / "journal.db"


def _keep_private(path: Path) -> None:
    """Create the journal file with mode 0600. SQLite gives its WAL files the same mode."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _sole(folder: Path) -> Any:
    """Lock the data directory for this process. Returns the open lock file. Raises UserError if locked."""
    handle = (folder / ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise UserError(
            f"{folder}: another remediator uses this data directory; stop it, or specify another --data-dir."
        ) from None
    return handle


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _rows(path: Path, query: str, arguments: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            yield from connection.execute(query, arguments)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(f"{path}: not a valid journal ({error}).") from None


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


def _event(row: tuple[Any, ...]) -> Event:
    seq, at, incident, target, kind, reason, text, data = row
    try:
        known = None if reason is None else Reason(reason)
        decoded = upgraded(Kind(kind), msgspec.json.decode(data))
        return Event(Kind(kind), at, incident, target, known, text, decoded, seq)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"event {seq} of the journal cannot be read: {error}.") from None
