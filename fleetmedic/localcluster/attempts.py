"""Track the attempts of jobs from PREPARED to RUNNING to ENDED, and stop attempts on request.

All state is in the attempt's directory, including pids with start times. So a controller can be
killed at any time; the next one continues and starts no attempt twice.
"""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import structlog

from fleetmedic.localcluster import store_writes, views
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import JobState
from fleetmedic.localcluster.placement import Placement
from fleetmedic.localcluster.processes import (
    Launcher,
    Started,
    abandoned,
    claimed,
    read_exit,
    read_started,
)
from fleetmedic.localcluster.retry import (
    Ended,
    ExitStatus,
    JobReason,
    RetryDecision,
    Stop,
    after_exit,
)
from fleetmedic.localcluster.store import Store

log = structlog.get_logger()


class Attempts:
    """Tracks all attempts of jobs that may have a process."""

    def __init__(
        self, store: Store, layout: Layout, inventory: Inventory, launcher: Launcher
    ) -> None:
        self._store = store
        self._layout = layout
        self._inventory = inventory
        self._launcher = launcher
        self._termed: dict[tuple[str, int], float] = {}
        self._troubled: set[tuple[str, int]] = set()

    def watch(self, now: float) -> bool:
        """Check each attempt of a job once. Returns whether an attempt is starting or stopping."""
        with self._store.read() as db:
            live = db.execute("SELECT * FROM attempts WHERE state != 'ENDED'").fetchall()
            signals = db.execute(
                "SELECT op_id, job_id FROM job_ops WHERE verb = 'signal' AND done = 0"
            ).fetchall()
        wanted: dict[str, list[str]] = {}
        for row in signals:
            wanted.setdefault(row["job_id"], []).append(row["op_id"])
        for attempt in live:
            if attempt["state"] == "PREPARED":
                self._begin(attempt, now)
            else:
                self._follow(attempt, wanted.get(attempt["job_id"], []), now)
        return any(row["state"] == "PREPARED" or row["stop"] for row in live)

    # ---- beginning

    def _begin(self, attempt: sqlite3.Row, now: float) -> None:
        folder = self._layout.attempt(attempt["job_id"], attempt["n"])
        started = read_started(folder)
        if started is not None:
            self._running(attempt, started)
        elif claimed(folder):
            if abandoned(folder):
                self._ended(
                    attempt, ExitStatus(error="its shim exited before the command started"), now
                )
        elif self._launcher.failed(folder):
            self._ended(attempt, ExitStatus(error="its shim failed to start"), now)
        elif not self._launcher.starting(folder):
            self._launch(attempt, now)

    def _launch(self, attempt: sqlite3.Row, now: float) -> None:
        key = (attempt["job_id"], attempt["n"])
        with self._store.read() as db:
            row = db.execute("SELECT spec FROM jobs WHERE id = ?", (key[0],)).fetchone()
        where = Placement(attempt["node"], _gpus(attempt))
        try:
            spec = views.read_spec(row["spec"])
            self._launcher.start_attempt(self._layout.write_order(*key, spec, where))
            self._troubled.discard(key)
        except OSError as error:
            if key not in self._troubled:
                log.error("attempt_not_started", job_id=key[0], attempt=key[1], error=str(error))
            self._troubled.add(key)
            ours = Path(error.filename or "").is_relative_to(self._layout.state)
            if attempt["stop"] is not None or (error.filename and not ours):
                # A stop ends the attempt. A directory of the job that cannot be used does so too; a full disk
                # of the cluster may be free soon.
                text = f"it cannot start: {error.filename}: {error.strerror}"
                self._ended(attempt, ExitStatus(error=text), now)

    def _running(self, attempt: sqlite3.Row, started: Started) -> None:
        job_id, n = attempt["job_id"], attempt["n"]
        with self._store.write() as db:
            fresh = store_writes.live_attempt(db, job_id)
            if fresh is None or fresh["n"] != n:
                return
            store_writes.set_attempt(
                db, job_id, n, state="RUNNING", pid=started.command.pid, started=started.at
            )
            if fresh["stop"] is not None:
                return  # a stop was requested in the meantime
            db.execute(
                "UPDATE jobs SET started = coalesce(started, ?) WHERE id = ?", (started.at, job_id)
            )
            store_writes.set_job(
                db,
                job_id,
                state=JobState.RUNNING,
                reason=JobReason.STARTED,
                excluded="[]",
                verdict_until=None,
                text=f"attempt {n} is running",
            )
            db.execute(
                "UPDATE job_ops SET done = 1 WHERE job_id = ? AND verb = 'restart' AND attempt < ?",
                (job_id, n),
            )
        log.info("job_started", job_id=job_id, attempt=n, pid=started.command.pid)

    # ---- following

    def _follow(self, attempt: sqlite3.Row, signals: list[str], now: float) -> None:
        folder = self._layout.attempt(attempt["job_id"], attempt["n"])
        started = read_started(folder)
        ended = read_exit(folder)
        if ended is None and started is not None:
            if started.shim.alive or started.command.alive:
                self._steer(attempt, started, signals, now)
                return
            ended = read_exit(folder)  # it may have been written since the first read
        self._ended(
            attempt,
            ended or ExitStatus(error="command and shim are gone without an exit code"),
            now,
        )

    def _steer(
        self, attempt: sqlite3.Row, started: Started, signals: list[str], now: float
    ) -> None:
        boot = self._inventory.boot_id(attempt["node"])
        if boot is not None and boot != attempt["boot_id"]:
            self._node_rebooted(attempt, started, now)
        elif attempt["stop"] is not None:
            self._stop(attempt, started, now)
        elif signals:
            self._send(started, signal.SIGUSR1)
            with self._store.write() as db:
                db.executemany(
                    "UPDATE job_ops SET done = 1 WHERE op_id = ?", [(op,) for op in signals]
                )
            log.info("job_signalled", job_id=attempt["job_id"], op_ids=signals)

    def _node_rebooted(self, attempt: sqlite3.Row, started: Started, now: float) -> None:
        if attempt["stop"] is None:
            with self._store.write() as db:
                store_writes.set_attempt(
                    db,
                    attempt["job_id"],
                    attempt["n"],
                    stop=Stop.REBOOT,
                    stop_at=now,
                    stop_text=f"{attempt['node']} rebooted",
                )
        started.command.send(signal.SIGKILL, group=True)

    def _stop(self, attempt: sqlite3.Row, started: Started, now: float) -> None:
        """Stop an attempt: send TERM once, then KILL after the grace period.

        The grace period starts again if the controller restarts.
        """
        key = (attempt["job_id"], attempt["n"])
        if key not in self._termed:
            self._termed[key] = now
            self._send(started, signal.SIGTERM)
            return
        with self._store.read() as db:
            row = db.execute("SELECT spec FROM jobs WHERE id = ?", (key[0],)).fetchone()
        if now - self._termed[key] >= views.read_spec(row["spec"]).grace:
            started.command.send(signal.SIGKILL, group=True)

    @staticmethod
    def _send(started: Started, number: int) -> None:
        """Send a signal to an attempt through its shim, which selects the processes.

        If the shim is gone, signal the process group instead.
        """
        if not started.shim.send(number) and number != signal.SIGUSR1:
            started.command.send(number, group=True)

    # ---- ending

    def _ended(self, attempt: sqlite3.Row, ended: ExitStatus, now: float) -> None:
        job_id, n = attempt["job_id"], attempt["n"]
        with self._store.write() as db:
            fresh = store_writes.live_attempt(db, job_id)
            job = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if fresh is None or fresh["n"] != n:
                return
            stop = Stop(fresh["stop"]) if fresh["stop"] else None
            facts = Ended(
                ended,
                job["failures"],
                now - (fresh["started"] or now),
                stop,
                fresh["stop_text"] or "",
                self._inventory.unresponsive_gpus(fresh["node"], _gpus(fresh)),
            )
            decision = after_exit(facts, now)
            store_writes.set_attempt(db, job_id, n, state="ENDED", ended=now, exit=str(ended))
            self._apply(db, fresh, decision, now)
        self._termed.pop((job_id, n), None)
        self._layout.stop_progress(attempt["node"], job_id)
        log.info(
            "job_ended",
            job_id=job_id,
            attempt=n,
            exit=str(ended),
            state=decision.state,
            reason=decision.reason,
            text=decision.text,
        )

    @staticmethod
    def _apply(
        db: sqlite3.Connection, attempt: sqlite3.Row, decision: RetryDecision, now: float
    ) -> None:
        job_id = attempt["job_id"]
        gpus = _gpus(attempt)
        store_writes.set_waiting_state(
            db, job_id, decision.state, decision.reason, decision.text, now
        )
        store_writes.set_job(
            db, job_id, due=decision.due, failures=decision.failures, charged=int(decision.charged)
        )
        db.execute("UPDATE job_ops SET done = 1 WHERE job_id = ? AND verb = 'signal'", (job_id,))
        if decision.suspect:
            db.executemany(
                "INSERT OR REPLACE INTO suspicions VALUES (?, ?, ?, ?)",
                [(attempt["node"], index, job_id, now) for index in gpus],
            )
            row = db.execute("SELECT avoid FROM jobs WHERE id = ?", (job_id,)).fetchone()
            avoid = store_writes.add_targets(
                row["avoid"], store_writes.gpu_targets(attempt["node"], gpus)
            )
            store_writes.set_job(db, job_id, avoid=avoid)
        if decision.acquit:
            db.execute("DELETE FROM suspicions WHERE job_id = ?", (job_id,))


def _gpus(attempt: sqlite3.Row) -> tuple[int, ...]:
    return tuple(json.loads(attempt["gpus"]))
