"""Store changes that client and controller share. Each function needs an open transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.inventory import InventoryNode
from fleetmedic.localcluster.model import Conflict, JobState
from fleetmedic.localcluster.retry import JobReason


def recorded_answer(db: sqlite3.Connection, op_id: str, verb: str, about: str) -> str | None:
    """Return the recorded result of a client's operation; None if the op_id is new.

    Raises Conflict if the op_id was used for a different operation.
    """
    row = db.execute("SELECT verb, about, answer FROM ops WHERE op_id = ?", (op_id,)).fetchone()
    if row is None:
        return None
    if (row["verb"], row["about"]) != (verb, about):
        raise Conflict(
            f"op_id {op_id!r} was already used for {row['verb']} {row['about']}. "
            "Use a unique op_id for each operation."
        )
    return str(row["answer"])


def record_operation(
    db: sqlite3.Connection, op_id: str, verb: str, about: str, answer: str, now: float
) -> None:
    """Record a client's operation and its result under its op_id."""
    db.execute("INSERT INTO ops VALUES (?, ?, ?, ?, ?)", (op_id, verb, about, answer, now))


def write_inventory(db: sqlite3.Connection, found: Iterable[InventoryNode]) -> None:
    """Write the inventory to the store. Nodes and GPUs that are missing in the inventory stay in
    the store, as not present."""
    db.execute("UPDATE nodes SET present = 0")
    db.execute("UPDATE gpus SET present = 0")
    for node in found:
        db.execute(
            "INSERT INTO nodes VALUES (?, ?, 1) ON CONFLICT (name) DO UPDATE SET"
            " boot_id = excluded.boot_id, present = 1",
            (node.name, node.boot_id),
        )
        db.executemany(
            "INSERT INTO gpus VALUES (?, ?, ?, 1, NULL) ON CONFLICT (node, idx) DO UPDATE SET"
            " uuid = excluded.uuid, present = 1",
            [(node.name, index, uuid) for index, uuid in node.gpus],
        )


def set_job(db: sqlite3.Connection, job_id: str, **values: Any) -> None:
    """Set columns of a job's row in the store."""
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), job_id))  # noqa: S608


def set_attempt(db: sqlite3.Connection, job_id: str, n: int, **values: Any) -> None:
    """Set columns of an attempt's row in the store."""
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(
        f"UPDATE attempts SET {columns} WHERE job_id = ? AND n = ?",  # noqa: S608
        (*values.values(), job_id, n),
    )


def set_waiting_state(
    db: sqlite3.Connection, job_id: str, state: JobState, reason: JobReason, text: str, now: float
) -> None:
    """Set the state of a job that has no live attempt. Only RETRYING keeps the job's GPUs."""
    values: dict[str, Any] = {"state": state, "reason": reason, "text": text, "verdict_until": None}
    if state.ended:
        values["finished"] = now
    if state is JobState.MOVING:
        values["due"] = now
    if state is not JobState.RETRYING:
        db.execute("DELETE FROM allocations WHERE job_id = ?", (job_id,))
    if state.ended:
        db.execute("UPDATE job_ops SET done = 1 WHERE job_id = ?", (job_id,))
    set_job(db, job_id, **values)


def uncount_failure(db: sqlite3.Connection, job: sqlite3.Row) -> None:
    """Reduce the failure count of a waiting job by one, because the job did not cause its last
    failure."""
    if job["charged"]:
        set_job(db, job["id"], failures=max(0, job["failures"] - 1), charged=0)


def live_attempt(db: sqlite3.Connection, job_id: str) -> sqlite3.Row | None:
    """Return the attempt of a job that may have a process now, or None."""
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM attempts WHERE job_id = ? AND state != 'ENDED'", (job_id,)
    ).fetchone()
    return row


def add_targets(text: str, targets: Iterable[Target]) -> str:
    """Add targets to a stored list of targets; returns the new list as JSON."""
    return json.dumps(sorted({*json.loads(text), *map(str, targets)}))


def parse_targets(text: str) -> frozenset[Target]:
    """Parse a stored list of targets."""
    return frozenset(map(Target.parse, json.loads(text)))


def clear_exclusions(db: sqlite3.Connection, target: Target) -> None:
    """Remove a released target from the exclusions of all jobs."""
    for row in db.execute("SELECT id, excluded FROM jobs WHERE excluded != '[]'").fetchall():
        kept = parse_targets(row["excluded"]) - {target}
        set_job(db, row["id"], excluded=json.dumps(sorted(map(str, kept))))


def gpu_targets(node: str, gpus: Iterable[int]) -> list[Target]:
    """Return a node's GPUs as targets such as gpu/NODE/3."""
    return [Target(TargetKind.GPU, node, index) for index in gpus]
