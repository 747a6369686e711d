"""Run a workload's gateway and the desired number of workers, and drain surplus workers.

A replica's row is written before its process starts, and the process claims its directory. So no
replica is lost or duplicated if the controller is killed in between.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleetmedic.kernel.files import write_atomic
from fleetmedic.localcluster import views
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import WorkloadView
from fleetmedic.localcluster.processes import (
    Launcher,
    Started,
    abandoned,
    claimed,
    read_started,
)
from fleetmedic.localcluster.store import Store

log = structlog.get_logger()
GATEWAY, WORKER = "gateway", "worker"
PREPARED, READY, DRAINING = "PREPARED", "READY", "DRAINING"
QUIET_SECONDS = 0.5  # the gateway reads its endpoints five times a second
KILL_SECONDS = 15.0
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The settings of the workload `serve`: its gateway's listen address and the number of workers."""

    listen: str = "127.0.0.1:9097"
    name: str = "serve"
    replicas: int = 2
    minimum: int = 1
    maximum: int = 8


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's row in the store, with its process."""

    n: int
    role: str
    state: str
    folder: Path
    drain_at: float
    started: Started | None


class Replicas:
    """The processes of one workload: its gateway and its workers."""

    def __init__(
        self, store: Store, layout: Layout, launcher: Launcher, settings: PoolSettings
    ) -> None:
        self._store = store
        self._layout = layout
        self._launcher = launcher
        self._settings = settings
        self._backoff = FIRST_BACKOFF
        self._not_before = 0.0
        self._endpoints: dict[str, int] | None = None
        with store.write() as db:
            db.execute(
                "INSERT INTO workloads (name, wanted, minimum, maximum) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",
                (settings.name, settings.replicas, settings.minimum, settings.maximum),
            )
            db.execute(
                "UPDATE workloads SET url = ? WHERE name = ?",
                (f"http://{settings.listen}", settings.name),
            )

    def tick(self, now: float) -> None:
        """Start or stop replicas until their number equals the desired number."""
        replicas, workload = self._read_store()
        alive = [replica for replica in replicas if self._keep(replica, now)]
        self._stop_draining([r for r in alive if r.state == DRAINING], now)
        serving = [r for r in alive if r.role == WORKER and r.state != DRAINING]
        missing = [WORKER] * (workload.wanted - len(serving))
        if not any(r.role == GATEWAY for r in alive):
            missing.append(GATEWAY)
        if missing and now >= self._not_before:
            self._prepare(missing, now)
        for surplus in sorted(serving, key=lambda r: r.n)[workload.wanted :]:
            log.info("replica_drains", workload=workload.name, replica=surplus.n)
            self._set(surplus.n, state=DRAINING, drain_at=now)
        self._publish_endpoints(serving[: workload.wanted], workload)

    # ---- observing

    def _read_store(self) -> tuple[list[Replica], WorkloadView]:
        name = self._settings.name
        with self._store.read() as db:
            rows = db.execute(
                "SELECT * FROM replicas WHERE workload = ? ORDER BY n", (name,)
            ).fetchall()
            workload = views.workload(db, name)
        assert workload is not None  # noqa: S101 - written above
        return [self._replica(row) for row in rows], workload

    def _replica(self, row: sqlite3.Row) -> Replica:
        folder = self._layout.replica(row["workload"], row["n"])
        started = read_started(folder)
        return Replica(row["n"], row["role"], row["state"], folder, row["drain_at"] or 0.0, started)

    def _keep(self, replica: Replica, now: float) -> bool:
        """Start the replica if it was never started. Returns whether the replica has a process or
        is starting."""
        if replica.started is not None:
            if not replica.started.command.alive:
                self._remove(replica, now)
                return False
            if replica.state == PREPARED:
                self._set(replica.n, state=READY)
                self._backoff = FIRST_BACKOFF
            return True
        if abandoned(replica.folder) or self._launcher.failed(replica.folder):
            self._remove(replica, now)
            return False
        if not claimed(replica.folder) and not self._launcher.starting(replica.folder):
            self._launch(replica)
        return True

    # ---- starting

    def _prepare(self, roles: list[str], now: float) -> None:
        name = self._settings.name
        with self._store.write() as db:
            row = db.execute("SELECT value FROM facts WHERE key = 'replica'").fetchone()
            last = int(row["value"]) if row else 0
            for n, role in enumerate(roles, last + 1):
                db.execute(
                    "INSERT INTO replicas (workload, n, role, state, prepared) VALUES (?, ?, ?, ?, ?)",
                    (name, n, role, PREPARED, now),
                )
            db.execute(
                "INSERT OR REPLACE INTO facts VALUES ('replica', ?)", (str(last + len(roles)),)
            )
        self._not_before = now + FIRST_BACKOFF

    def _launch(self, replica: Replica) -> None:
        module = f"fleetmedic.localcluster.pool.{replica.role}"
        arguments: list[str] = []
        if replica.role == GATEWAY:
            endpoints = self._layout.endpoints(self._settings.name)
            arguments = ["--listen", self._settings.listen, "--endpoints", str(endpoints)]
        try:
            replica.folder.mkdir(parents=True, exist_ok=True)
            self._launcher.start_module(replica.folder, module, *arguments)
        except OSError as error:
            log.error("replica_not_started", replica=replica.n, role=replica.role, error=str(error))

    # ---- ending

    def _stop_draining(self, draining: list[Replica], now: float) -> None:
        """Send TERM to a worker that gets no more requests from the gateway, and KILL after KILL_SECONDS."""
        for replica in draining:
            waited = now - replica.drain_at
            if replica.started is not None and waited >= QUIET_SECONDS:
                number = signal.SIGKILL if waited >= KILL_SECONDS else signal.SIGTERM
                replica.started.command.send(number)

    def _remove(self, replica: Replica, now: float) -> None:
        if replica.state != DRAINING:
            log.warning(
                "replica_died",
                replica=replica.n,
                role=replica.role,
                said=_last_line(replica.folder),
            )
            if replica.state == PREPARED:  # it never became ready: back off
                self._not_before = now + self._backoff
                self._backoff = min(LAST_BACKOFF, 2 * self._backoff)
        with self._store.write() as db:
            db.execute(
                "DELETE FROM replicas WHERE workload = ? AND n = ?",
                (self._settings.name, replica.n),
            )
        shutil.rmtree(replica.folder, ignore_errors=True)

    # ---- writing

    def _set(self, n: int, *, state: str, drain_at: float | None = None) -> None:
        with self._store.write() as db:
            db.execute(
                "UPDATE replicas SET state = ?, drain_at = ? WHERE workload = ? AND n = ?",
                (state, drain_at, self._settings.name, n),
            )

    def _publish_endpoints(self, serving: list[Replica], workload: WorkloadView) -> None:
        """Write the gateway's endpoints and the number of ready workers if they have changed."""
        ports = {r.folder.name: r.started.port for r in serving if r.started is not None}
        if ports != self._endpoints:
            path = self._layout.endpoints(workload.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps({"workers": ports}), sync=False)
            self._endpoints = ports
        if len(ports) != workload.ready:
            with self._store.write() as db:
                db.execute(
                    "UPDATE workloads SET ready = ? WHERE name = ?", (len(ports), workload.name)
                )


def _last_line(folder: Path) -> str:
    try:
        lines = (folder / "start.log").read_bytes()[-2000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
