"""The durable state of the embedded cluster: a SQLite file that many processes share.

WAL mode lets readers continue while a process writes. synchronous=FULL is needed because an
accepted operation must survive a power failure: without its quarantine, a failed GPU would get a
job. The cost is one fsync per commit; an idle controller commits about once a second.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.terminal.disk_errors import explain

SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
_SCHEMA = (
    """CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL)""",
    # Every accepted operation, with its answer.
    """CREATE TABLE ops (
        op_id TEXT PRIMARY KEY, verb TEXT NOT NULL, about TEXT NOT NULL, answer TEXT NOT NULL,
        at REAL NOT NULL)""",
    """CREATE TABLE nodes (
        name TEXT PRIMARY KEY, boot_id TEXT NOT NULL, present INTEGER NOT NULL)""",
    """CREATE TABLE gpus (
        node TEXT NOT NULL, idx INTEGER NOT NULL, uuid TEXT NOT NULL, present INTEGER NOT NULL,
        marked TEXT, PRIMARY KEY (node, idx))""",
    """CREATE TABLE quarantines (
        target TEXT PRIMARY KEY, owner TEXT NOT NULL, reason TEXT NOT NULL, op_id TEXT NOT NULL,
        at REAL NOT NULL)""",
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY, spec TEXT NOT NULL, user TEXT NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL, text TEXT NOT NULL, submitted REAL NOT NULL, started REAL,
        finished REAL, attempt INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
        charged INTEGER NOT NULL DEFAULT 0, moves INTEGER NOT NULL DEFAULT 0, node TEXT,
        gpus TEXT NOT NULL DEFAULT '[]', due REAL NOT NULL DEFAULT 0, verdict_until REAL,
        excluded TEXT NOT NULL DEFAULT '[]', avoid TEXT NOT NULL DEFAULT '[]')""",
    """CREATE INDEX jobs_state ON jobs (state)""",
    # An attempt is PREPARED before a process starts, RUNNING when its pid is known, then ENDED.
    """CREATE TABLE attempts (
        job_id TEXT NOT NULL, n INTEGER NOT NULL, state TEXT NOT NULL, node TEXT NOT NULL,
        gpus TEXT NOT NULL, boot_id TEXT NOT NULL, prepared REAL NOT NULL, started REAL, pid INTEGER,
        stop TEXT, stop_text TEXT, stop_at REAL, ended REAL, exit TEXT,
        PRIMARY KEY (job_id, n))""",
    """CREATE INDEX attempts_live ON attempts (state) WHERE state != 'ENDED'""",
    # The primary key prevents that two jobs get the same GPU.
    """CREATE TABLE allocations (
        node TEXT NOT NULL, idx INTEGER NOT NULL, job_id TEXT NOT NULL, PRIMARY KEY (node, idx))""",
    """CREATE INDEX allocations_job ON allocations (job_id)""",
    # `attempt` is the newest attempt at the time of the request; done when a later attempt runs.
    """CREATE TABLE job_ops (
        op_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, verb TEXT NOT NULL, attempt INTEGER NOT NULL,
        done INTEGER NOT NULL, at REAL NOT NULL)""",
    """CREATE INDEX job_ops_job ON job_ops (job_id)""",
    """CREATE TABLE suspicions (
        node TEXT NOT NULL, idx INTEGER NOT NULL, job_id TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (node, idx, job_id))""",
    """CREATE TABLE workloads (
        name TEXT PRIMARY KEY, wanted INTEGER NOT NULL, ready INTEGER NOT NULL DEFAULT 0,
        minimum INTEGER NOT NULL, maximum INTEGER NOT NULL, last_op TEXT, url TEXT)""",
    """CREATE TABLE replicas (
        workload TEXT NOT NULL, n INTEGER NOT NULL, role TEXT NOT NULL, state TEXT NOT NULL,
        prepared REAL NOT NULL, drain_at REAL, PRIMARY KEY (workload, n))""",
)


class Store:
    """The database in the cluster's directory. Many processes and threads can use it."""

    def __init__(self, folder: Path) -> None:
        """Open or create the database. Raises UserError if the directory or the file is unusable."""
        self.folder = folder
        self.path = folder / "cluster.db"
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            # A store that nobody refers to any more closes its file.
            weakref.finalize(self, self._db.close)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            said = (
                f"{self.path}: cannot open the cluster's store ({error}). Check that the file is not "
                "damaged."
            )
            raise UserError(explain(error, self.path) or said) from None

    def _prepare(self) -> None:
        if self._version() == SCHEMA_VERSION:
            return
        with self.write() as db:
            version = self._version()
            if version > SCHEMA_VERSION:
                raise UserError(
                    f"{self.path}: expected schema {SCHEMA_VERSION}, got {version}. Use the newer version "
                    "of fleetmedic that wrote this file."
                )
            if version == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction. It is durable after the commit. A nested call joins the
        outer transaction.
        """
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a read transaction, which sees a consistent state of the store."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db.in_transaction:  # the outer transaction of this thread commits
                yield self._db
                return
            self._db.execute(begin)
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the store's database file."""
        with self._lock:
            self._db.close()
