"""The file of the journal: its tables, and the migration of files that earlier versions wrote."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.errors import UserError
from remediator.core.events import Kind

FILE = "journal.db"
SCHEMA_VERSION = 2
_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at REAL NOT NULL, incident TEXT, target TEXT, "
    "event TEXT NOT NULL, reason TEXT, text TEXT NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_target ON events (target, seq) WHERE target IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS by_incident ON events (incident, seq) WHERE incident IS NOT NULL",
    # Since version 2. The incidents that contain decisions about another target than their own.
    "CREATE INDEX IF NOT EXISTS opened ON events (seq) WHERE event = 'IncidentOpened'",
    "CREATE TABLE IF NOT EXISTS relations (target TEXT NOT NULL, incident TEXT NOT NULL, "
    "PRIMARY KEY (target, incident)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS snapshot (part INTEGER PRIMARY KEY, data BLOB NOT NULL)",
)
RELATE = "INSERT OR IGNORE INTO relations VALUES (?, ?)"
_RELATING = (Kind.STEP_PREPARED, Kind.ALERT_ABSORBED, Kind.INHERITED, Kind.STATE_CHANGED)


def prepare(folder: Path) -> Path:
    """Create or migrate the journal of a data directory that this process has locked. Returns its path.

    Raises UserError, also for a file of a later version.
    """
    path = folder / FILE
    try:
        _keep_private(path)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            found = schema_of(connection)
            if found is None or found < SCHEMA_VERSION:
                _migrate(connection)
    except (OSError, sqlite3.Error, ValueError, msgspec.MsgspecError) as error:
        raise unusable(folder, error) from None
    if found is not None and found > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema {found}, but this version requires {SCHEMA_VERSION}; use the version that wrote "
            "it, restore a backup of this version, or specify another --data-dir."
        )
    return path


def lock(folder: Path) -> Any:
    """Create the data directory and lock it for this process. Returns the open lock file.

    Raises UserError if another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise unusable(folder, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise UserError(
            f"{folder}: another remediator uses this data directory; stop it, or specify another --data-dir."
        ) from None
    return handle


def unusable(folder: Path, error: Exception) -> UserError:
    """Return the error for a data directory in which no journal can be kept."""
    cause = getattr(error, "strerror", None) or error
    return UserError(
        f"{folder}: the journal cannot be created or opened ({cause}). Check that this user may write to "
        "the directory, or specify another --data-dir."
    )


def relations(rows: Iterable[tuple[str | None, str | None, str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (target, incident) for the other targets about which an incident's events decide.

    A row contains the incident, its target, the event and its data.
    """
    for incident, own, kind, data in rows:
        if incident is None or kind not in _RELATING:
            continue
        for target in _named(own or "", kind, data):
            if target != own:
                yield target, incident
        if kind == Kind.STATE_CHANGED and data.get("absorbed_by"):
            yield own or "", data["absorbed_by"]


def _named(own: str, kind: str, data: Any) -> Iterable[str]:
    if kind == Kind.STEP_PREPARED:
        return [data["on"], *(f"job/{job}" for job in data["jobs"])]
    if kind == Kind.INHERITED:
        return list(data["targets"])
    if kind == Kind.ALERT_ABSORBED and data.get("gpu") and own.startswith("node/"):
        return [f"gpu/{own.removeprefix('node/')}/{data['gpu']}"]
    return ()


def schema_of(connection: sqlite3.Connection) -> int | None:
    """Return the schema version of a journal; None for a file without one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return None if row is None else int(row[0])


def _migrate(connection: sqlite3.Connection) -> None:
    """Create what is missing in one transaction, so that a crash leaves the file of the earlier version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES:
            connection.execute(statement)
        marks = ", ".join("?" * len(_RELATING))
        old = connection.execute(
            f"SELECT incident, target, event, data FROM events WHERE event IN ({marks})",  # noqa: S608 - marks
            tuple(map(str, _RELATING)),
        )
        decoded = ((*row[:3], msgspec.json.decode(row[3])) for row in old)
        connection.executemany(RELATE, list(relations(decoded)))
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),)
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _keep_private(path: Path) -> None:
    """Create the journal file with mode 0600. SQLite gives its WAL files the same mode."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
