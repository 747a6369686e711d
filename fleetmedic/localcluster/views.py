"""Convert rows of the store to the views of `LocalCluster` and the controller."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.localcluster.model import (
    Allocation,
    AttemptFailure,
    GpuView,
    JobSpec,
    JobState,
    JobView,
    NodeView,
    Quarantine,
    WorkloadView,
)
from fleetmedic.localcluster.retry import JobReason, Suspicion, suspected

LOG_NAME = "output.log"


def attempt_dir(folder: Path, job_id: str, attempt: int) -> Path:
    """Return an attempt's directory, with its command and environment, pids, exit status and output."""
    return folder / "jobs" / job_id / f"attempt-{attempt}"


def checkpoint_dir(folder: Path, job_id: str, spec: JobSpec) -> Path:
    """Return the job's checkpoint directory: the directory in its spec, otherwise the default in
    the cluster's directory."""
    given = spec.checkpoint_dir
    return Path(given) if given else folder / "jobs" / job_id / "checkpoints"


def read_spec(text: str) -> JobSpec:
    """Decode a job's spec from the store."""
    return msgspec.json.decode(text, type=JobSpec)


def write_spec(spec: JobSpec) -> str:
    """Encode a job's spec for the store."""
    return msgspec.json.encode(spec).decode()


def nodes(db: sqlite3.Connection) -> list[NodeView]:
    """Return all nodes in the store, sorted by name."""
    quarantines = {
        row["target"]: Quarantine(row["owner"], row["reason"], row["at"], row["op_id"])
        for row in db.execute("SELECT * FROM quarantines")
    }
    jobs = {
        (row["node"], row["idx"]): row["job_id"] for row in db.execute("SELECT * FROM allocations")
    }
    suspects = suspected(
        (
            Suspicion(row["node"], row["idx"], row["job_id"], row["at"])
            for row in db.execute("SELECT * FROM suspicions ORDER BY at")
        ),
        time.time(),
    )
    gpus: dict[str, list[GpuView]] = {}
    for row in db.execute("SELECT * FROM gpus ORDER BY node, idx"):
        place = (row["node"], row["idx"])
        marked = row["marked"] or suspects.get(place)
        if not row["present"]:
            marked = "the GPU is no longer present on the node"
        gpus.setdefault(row["node"], []).append(
            GpuView(
                row["idx"],
                row["uuid"],
                quarantines.get(f"gpu/{place[0]}/{place[1]}"),
                marked,
                jobs.get(place),
            )
        )
    return [
        NodeView(
            row["name"],
            tuple(gpus.get(row["name"], ())),
            quarantines.get(f"node/{row['name']}"),
            bool(row["present"]),
        )
        for row in db.execute("SELECT * FROM nodes ORDER BY name")
    ]


def allocations(db: sqlite3.Connection, node: str) -> list[Allocation]:
    """Return the allocated GPUs of a node, by index."""
    rows = db.execute(
        "SELECT a.idx, g.uuid, a.job_id, j.user FROM allocations a"
        " JOIN gpus g ON g.node = a.node AND g.idx = a.idx JOIN jobs j ON j.id = a.job_id"
        " WHERE a.node = ? ORDER BY a.idx",
        (node,),
    )
    return [Allocation(row["idx"], row["uuid"], row["job_id"], row["user"]) for row in rows]


# `e` is the latest ended attempt of a job whose last end counts as its own failure (jobs.charged).
_JOB = (
    "SELECT j.*, a.pid, e.ended AS failed_at, e.node AS failed_on, e.exit AS failed_with"
    " FROM jobs j LEFT JOIN attempts a"
    " ON a.job_id = j.id AND a.n = j.attempt AND a.state = 'RUNNING'"
    " LEFT JOIN attempts e ON j.charged AND e.job_id = j.id AND e.n ="
    " (SELECT max(n) FROM attempts WHERE job_id = j.id AND state = 'ENDED')"
)
_ONE_JOB = f"{_JOB} WHERE j.id = ?"
_ALL_JOBS = (
    f"{_JOB} WHERE j.finished IS NULL OR j.id IN"  # noqa: S608 - no input in it
    " (SELECT id FROM jobs WHERE finished IS NOT NULL ORDER BY finished DESC LIMIT 500)"
    " ORDER BY j.submitted, j.rowid"
)


def jobs(db: sqlite3.Connection, folder: Path, job_id: str | None = None) -> list[JobView]:
    """Return one job, or all unfinished jobs and the 500 jobs that ended last, oldest first."""
    ops: dict[str, list[Any]] = {}
    which, values = ("WHERE job_id = ?", (job_id,)) if job_id else ("", ())
    for row in db.execute(f"SELECT * FROM job_ops {which} ORDER BY at", values):  # noqa: S608
        ops.setdefault(row["job_id"], []).append(row)
    rows = db.execute(_ONE_JOB if job_id else _ALL_JOBS, values).fetchall()
    return [_job(row, folder, ops.get(row["id"], [])) for row in rows]


def _job(row: sqlite3.Row, folder: Path, ops: list[Any]) -> JobView:
    spec = read_spec(row["spec"])
    log = attempt_dir(folder, row["id"], row["attempt"]) / LOG_NAME if row["attempt"] else None
    restarts = [op for op in ops if op["verb"] == "restart"]
    by_request = (row["state"], row["reason"]) == (JobState.FAILED, JobReason.FAILED_BY_REQUEST)
    failure = None
    if row["failed_at"] is not None:
        failure = AttemptFailure(row["failed_at"], row["failed_on"], row["failed_with"])
    return JobView(
        id=row["id"],
        state=JobState(row["state"]),
        node=row["node"],
        gpus=tuple(json.loads(row["gpus"])),
        attempts=row["failures"],
        restarts=max(0, row["attempt"] - 1),
        moves=row["moves"],
        reason=row["reason"],
        text=row["text"],
        submitted=row["submitted"],
        started=row["started"],
        finished=row["finished"],
        pid=row["pid"],
        user=row["user"],
        command=spec.command,
        checkpoint_dir=checkpoint_dir(folder, row["id"], spec),
        log=log,
        signals=tuple(op["op_id"] for op in ops if op["verb"] == "signal" and op["done"]),
        restart_ops=tuple(op["op_id"] for op in restarts),
        restarts_done=tuple(op["op_id"] for op in restarts if op["done"]),
        # The first request ends the job; later ones find an ended job, or one that is being stopped.
        failed_by=tuple(op["op_id"] for op in ops if by_request and op["verb"] == "fail")[:1],
        failure=failure,
    )


def workload(db: sqlite3.Connection, name: str) -> WorkloadView | None:
    """Return one workload; None if it does not exist."""
    row = db.execute("SELECT * FROM workloads WHERE name = ?", (name,)).fetchone()
    return WorkloadView(**dict(row)) if row else None
