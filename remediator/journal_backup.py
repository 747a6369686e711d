"""Back up the journal while the remediator runs, and restore it into a data directory."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from remediator.journal_reader import JournalReader
from remediator.journal_schema import FILE, SCHEMA_VERSION, lock, prepare, schema_of


def back_up(data_dir: Path, target: Path, now: float) -> Path:
    """Copy the journal of a data directory to a new file. Returns its path.

    If `target` is a directory, the file gets a name with the time `now` (Unix seconds). The copy is consistent,
    also while the remediator writes. Raises UserError.
    """
    source = JournalReader(data_dir).path
    if not source.exists():
        raise UserError(f"{data_dir}: no {FILE} in this directory; check --data-dir.")
    if target.is_dir():
        target = target / f"journal-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.db"
    if target.exists():
        raise UserError(f"{target}: file exists; specify another file.")
    part = target.with_name(f".{target.name}.part")
    try:
        _create(part)
        _copy(source, part)
        _check(part)
        _publish(part, target)
    except (sqlite3.Error, OSError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(
            f"{target}: the backup cannot be written ({cause}). Check the journal {source}, and the free space "
            "and the permissions of the target directory."
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return target


def restore(data_dir: Path, backup: Path, *, force: bool, now: float) -> Path | None:
    """Put a backup in the place of the journal of a data directory.

    With `force`, an existing journal is replaced, and kept beside it: returns its new path. Raises UserError if
    a remediator runs, if a journal exists, or if the backup is damaged or of a later version.
    """
    if not backup.is_file():
        raise UserError(f"{backup}: file not found; specify a file that `remediator backup` wrote.")
    held = lock(data_dir)
    journal = data_dir / FILE
    part = data_dir / f".{FILE}.part"
    try:
        if journal.exists() and journal.samefile(backup):
            raise UserError(f"{backup} is the journal of this data directory; specify a backup.")
        if journal.exists() and not force:
            raise UserError(
                f"{journal}: a journal exists; specify another --data-dir, or replace it with --force."
            )
        part.unlink(missing_ok=True)
        _create(part)
        _copy(backup, part)
        _check(part)
        kept = _set_aside(journal, now) if journal.exists() else None
        _publish(part, journal)
        prepare(data_dir)
    except (sqlite3.Error, OSError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"{backup}: cannot be restored to {data_dir} ({cause}).") from None
    finally:
        part.unlink(missing_ok=True)
        held.close()
    return kept


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=5)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new, pages=2_000, sleep=0.01)
        # A backup is one file: the copy must not depend on a write-ahead log.
        new.execute("PRAGMA journal_mode=DELETE")


def _check(copy: Path) -> None:
    """Check that a copy is a complete journal of this or an earlier version. Raises UserError."""
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as connection:
        problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        version = schema_of(connection) if problem == "ok" else None
        if problem != "ok" or version is None:
            what = "it is damaged" if problem != "ok" else "it is not a journal"
            raise UserError(
                f"{copy.name.strip('.').removesuffix('.part')}: {what}; use another backup."
            )
        if version > SCHEMA_VERSION:
            raise UserError(
                f"the backup has schema {version}, but this version requires {SCHEMA_VERSION}; use the "
                "version that wrote it."
            )


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_aside(journal: Path, now: float) -> Path:
    """Rename a journal. Returns its new path."""
    time = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    kept = journal.with_name(f"{journal.name}.replaced-{time}")
    if kept.exists():
        raise UserError(f"{kept}: file exists; move it to another directory.")
    try:
        # Include the write-ahead log, which SQLite would otherwise apply to the new journal.
        with closing(sqlite3.connect(journal)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        pass  # a damaged journal is kept as it is, with its log
    for suffix in ("-wal", "-shm", ""):
        file = journal.with_name(journal.name + suffix)
        if file.exists():
            file.rename(kept.with_name(kept.name + suffix))
    return kept


def _publish(part: Path, target: Path) -> None:
    """Write a file durably under its final name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
