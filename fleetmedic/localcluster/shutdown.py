"""Stop all jobs, which write a checkpoint first, and the worker pool.

`fleetmedic up down` uses this after the controller has exited. When the controller starts again, it
restarts the jobs from their checkpoints. The stop does not count as a failure of the job.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

from fleetmedic.localcluster import store_writes
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.processes import RecordedProcess, read_started
from fleetmedic.localcluster.retry import Stop
from fleetmedic.localcluster.store import Store

POLL_SECONDS = 0.05


def shutdown(state: Path, grace: float = 4.0) -> int:
    """Send TERM to every job and replica, and KILL after the grace period; returns how many were running."""
    layout = Layout(state)
    if not (layout.cluster / "cluster.db").exists():
        return 0
    store = Store(layout.cluster)
    try:
        with store.write() as db:
            groups = _jobs(db, layout)
            singles = _replicas(db, layout)
    finally:
        store.close()
    for process in groups:
        process.send(signal.SIGTERM, group=True)
    for process in singles:
        process.send(signal.SIGTERM)
    deadline = time.monotonic() + grace
    running = [*groups, *singles]
    while any(process.alive for process in running) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in running:
        process.send(signal.SIGKILL, group=process in groups)
    return len(running)


def _jobs(db: sqlite3.Connection, layout: Layout) -> list[RecordedProcess]:
    found = []
    for row in db.execute("SELECT * FROM attempts WHERE state != 'ENDED'").fetchall():
        started = read_started(layout.attempt(row["job_id"], row["n"]))
        if started is not None and started.command.alive:
            found.append(started.command)
            if row["stop"] is None:
                store_writes.set_attempt(
                    db,
                    row["job_id"],
                    row["n"],
                    stop=Stop.SHUTDOWN,
                    stop_at=time.time(),
                    stop_text="the cluster was stopped",
                )
    return found


def _replicas(db: sqlite3.Connection, layout: Layout) -> list[RecordedProcess]:
    rows = db.execute("SELECT workload, n FROM replicas").fetchall()
    started = [read_started(layout.replica(row["workload"], row["n"])) for row in rows]
    return [item.command for item in started if item is not None and item.command.alive]
