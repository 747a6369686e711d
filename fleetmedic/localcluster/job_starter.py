"""Start jobs: select, probe and allocate their GPUs in one transaction, before a process starts.

The store's primary key prevents two jobs from getting the same GPU. The transaction prevents a job
from getting a quarantined GPU.
"""

from __future__ import annotations

import json
import sqlite3

import structlog

from fleetmedic.localcluster import store_writes, views
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import JobState, NodeView
from fleetmedic.localcluster.placement import NoPlacement, Placement, select_gpus
from fleetmedic.localcluster.retry import InPlace, JobReason, RetryStep, in_place
from fleetmedic.localcluster.store import Store

log = structlog.get_logger()
PROBE_MARK = "the GPU did not answer a probe"
MAX_PROBES = 64
# How long (seconds) the targets that a job was moved away from stay excluded while it waits.
EXCLUDED_FOR = 600.0
_WAITING = (
    "SELECT * FROM jobs WHERE state IN ('PENDING', 'MOVING', 'RETRYING') AND NOT EXISTS"
    " (SELECT 1 FROM attempts a WHERE a.job_id = jobs.id AND a.state != 'ENDED')"
)


class JobStarter:
    """Places and starts the jobs that have no process."""

    def __init__(self, store: Store, layout: Layout, inventory: Inventory) -> None:
        self._store = store
        self._layout = layout
        self._inventory = inventory
        self._prepared = False

    def advance(self, now: float) -> bool:
        """Check each waiting job once, oldest first. Returns whether an attempt of a job was prepared.

        The caller then starts the attempt. A job that does not fit blocks no other job.
        """
        self._prepared = False
        with self._store.read() as db:
            waiting = db.execute(f"{_WAITING} ORDER BY submitted, rowid").fetchall()
            nodes = views.nodes(db) if waiting else []
        for job in waiting:
            if job["state"] == JobState.RETRYING:
                self._retry(job, nodes, now)
            elif job["due"] <= now:
                self._place(job, nodes, now)
        return self._prepared

    def recheck_marks(self) -> None:
        """Clear the marks of GPUs that respond to a probe again."""
        with self._store.read() as db:
            marked = db.execute("SELECT node, idx FROM gpus WHERE marked IS NOT NULL").fetchall()
        for row in marked:
            if not self._inventory.unresponsive_gpus(row["node"], (row["idx"],)):
                with self._store.write() as db:
                    db.execute(
                        "UPDATE gpus SET marked = NULL WHERE node = ? AND idx = ?", tuple(row)
                    )
                log.info("gpu_unmarked", node=row["node"], gpu=row["idx"])

    # ---- on its own GPUs

    def _retry(self, job: sqlite3.Row, nodes: list[NodeView], now: float) -> None:
        gpus = tuple(json.loads(job["gpus"]))
        quarantined = _out_of_service(nodes, job["node"], gpus)
        due = job["due"] <= now and not quarantined
        step = in_place(
            due=job["due"],
            verdict_until=job["verdict_until"],
            quarantined=quarantined,
            unresponsive=self._inventory.unresponsive_gpus(job["node"], gpus) if due else (),
            now=now,
        )
        if step.step is RetryStep.WAIT and step.due == job["due"]:
            return
        with self._store.write() as db:
            fresh = _waiting(db, job["id"])
            if fresh is None or fresh["state"] != JobState.RETRYING:
                return
            if step.step is RetryStep.START:
                if not _out_of_service(views.nodes(db), job["node"], gpus):
                    self._prepare(db, fresh, Placement(job["node"], gpus), now)
            else:
                self._wait_or_move(db, fresh, step, now)

    def _wait_or_move(
        self, db: sqlite3.Connection, job: sqlite3.Row, step: InPlace, now: float
    ) -> None:
        if step.refund:
            store_writes.uncount_failure(db, job)
        self._mark(db, job["node"], step.mark)
        if step.step is RetryStep.WAIT:
            store_writes.set_job(
                db,
                job["id"],
                due=step.due,
                verdict_until=step.verdict_until,
                reason=step.reason,
                text=step.text,
            )
            return
        store_writes.set_waiting_state(db, job["id"], JobState.MOVING, step.reason, step.text, now)
        log.info("job_moves", job_id=job["id"], reason=step.reason, text=step.text)

    # ---- anywhere

    def _place(self, job: sqlite3.Row, nodes: list[NodeView], now: float) -> None:
        found = self._choose(job, nodes, now)
        if isinstance(found, NoPlacement):
            if (job["reason"], job["text"]) != (JobReason.NO_ROOM, found.text):
                with self._store.write() as db:
                    if _waiting(db, job["id"]) is not None:
                        store_writes.set_job(
                            db, job["id"], reason=JobReason.NO_ROOM, text=found.text
                        )
            return
        with self._store.write() as db:
            fresh = _waiting(db, job["id"])
            for _ in range(MAX_PROBES):
                if fresh is None or fresh["state"] == JobState.RETRYING:
                    return
                found = self._choose(fresh, views.nodes(db), now)
                if isinstance(found, NoPlacement):
                    return
                unresponsive = self._inventory.unresponsive_gpus(found.node, found.gpus)
                if not unresponsive:
                    self._prepare(db, fresh, found, now)
                    return
                self._mark(db, found.node, unresponsive)

    @staticmethod
    def _choose(job: sqlite3.Row, nodes: list[NodeView], now: float) -> Placement | NoPlacement:
        excluded, avoid = (
            store_writes.parse_targets(job["excluded"]),
            store_writes.parse_targets(job["avoid"]),
        )
        if now - job["due"] > EXCLUDED_FOR:
            # Failed hardware is quarantined by now. The rest is only avoided, so that the job can start.
            excluded, avoid = frozenset(), avoid | excluded
        spec = views.read_spec(job["spec"])
        if spec.node is None or job["attempt"]:
            return select_gpus(nodes, spec.gpus, excluded=excluded, avoid=avoid)
        only = [node for node in nodes if node.name == spec.node]
        found = select_gpus(only, spec.gpus, excluded=excluded, avoid=avoid)
        return (
            NoPlacement(f"{spec.node}: {found.text}") if isinstance(found, NoPlacement) else found
        )

    def _prepare(
        self, db: sqlite3.Connection, job: sqlite3.Row, found: Placement, now: float
    ) -> None:
        job_id, n = job["id"], job["attempt"] + 1
        before = (job["node"], tuple(json.loads(job["gpus"])))
        moved = job["attempt"] > 0 and before != (found.node, found.gpus)
        if job["state"] != JobState.RETRYING:
            db.executemany(
                "INSERT INTO allocations VALUES (?, ?, ?)",
                [(found.node, index, job_id) for index in found.gpus],
            )
        boot = self._inventory.boot_id(found.node) or ""
        gpus = json.dumps(found.gpus)
        db.execute(
            "INSERT INTO attempts (job_id, n, state, node, gpus, boot_id, prepared)"
            " VALUES (?, ?, 'PREPARED', ?, ?, ?, ?)",
            (job_id, n, found.node, gpus, boot, now),
        )
        store_writes.set_job(
            db, job_id, attempt=n, node=found.node, gpus=gpus, moves=job["moves"] + int(moved)
        )
        if moved and before[0] != found.node:
            self._layout.drop_progress(before[0], job_id)
        self._prepared = True
        log.info("job_placed", job_id=job_id, attempt=n, node=found.node, gpus=found.gpus)

    @staticmethod
    def _mark(db: sqlite3.Connection, node: str, gpus: tuple[int, ...]) -> None:
        for index in gpus:
            db.execute(
                "UPDATE gpus SET marked = ? WHERE node = ? AND idx = ?", (PROBE_MARK, node, index)
            )
            log.warning("gpu_marked", node=node, gpu=index, why=PROBE_MARK)


def _waiting(db: sqlite3.Connection, job_id: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(f"{_WAITING} AND id = ?", (job_id,)).fetchone()
    return row


def _out_of_service(nodes: list[NodeView], name: str, gpus: tuple[int, ...]) -> bool:
    for node in nodes:
        if node.name == name:
            return node.quarantined is not None or any(
                gpu.quarantined is not None for gpu in node.gpus if gpu.index in gpus
            )
    return True
