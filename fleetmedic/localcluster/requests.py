"""Change the store according to a client's request. Each function needs an open transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, valid_name
from fleetmedic.localcluster import store_writes
from fleetmedic.localcluster.model import JobSpec, JobState, JobView, NodeView
from fleetmedic.localcluster.placement import touches
from fleetmedic.localcluster.retry import JobReason, Stop
from fleetmedic.terminal.stack_option import suggested

MAX_NAME = 100
MAX_ARGUMENTS = 1000
MAX_SPEC_BYTES = 100_000


def check_spec(spec: JobSpec, nodes: list[NodeView]) -> None:
    """Raise UserError for an invalid spec, or a job that can never be placed."""
    if not valid_name(spec.name) or len(spec.name) > MAX_NAME:
        raise UserError(
            f"job name: expected at most {MAX_NAME} letters, digits, '.', '_' and '-', starting with "
            f"a letter or digit, got {spec.name[:80]!r}."
        )
    if spec.command and not spec.command[0]:
        raise UserError("job command: the first word is empty; expected a program.")
    words = [*spec.command, *spec.env, *spec.env.values(), spec.cwd, spec.checkpoint_dir or ""]
    if not spec.command or len(spec.command) > MAX_ARGUMENTS:
        raise UserError(f"job command: expected 1 to {MAX_ARGUMENTS} words.")
    if any("\0" in word for word in words) or sum(map(len, words)) > MAX_SPEC_BYTES:
        raise UserError(
            f"job command and environment: expected at most {MAX_SPEC_BYTES} characters and no NUL. "
            "Move long values into a file."
        )
    if any(not name or "=" in name for name in spec.env):
        raise UserError("job environment: a variable's name is empty or contains '='.")
    if not 0 < spec.grace <= 600:
        raise UserError(f"grace: expected more than 0 and at most 600 seconds, got {spec.grace:g}.")
    if spec.node is not None and nodes:
        nodes = [node for node in nodes if node.name == spec.node]
        if not nodes:
            raise UserError(
                f"--node: node {spec.node[:80]!r} does not exist. {suggested('localcluster nodes')} lists "
                "all nodes."
            )
    most = max((len(node.gpus) for node in nodes), default=None)
    if spec.gpus < 0 or (most is not None and spec.gpus > most):
        raise UserError(
            f"--gpus: expected 1 to {most or 0}, the number of GPUs of {spec.node or 'the largest node'}, "
            f"got {spec.gpus}."
        )


def unique_id(db: sqlite3.Connection, name: str) -> str:
    """Return the name itself, or the first unused of NAME-2, NAME-3 and so on."""
    taken = {
        row["id"]
        for row in db.execute(
            "SELECT id FROM jobs WHERE id = ? OR substr(id, 1, ?) = ?",
            (name, len(name) + 1, f"{name}-"),
        )
    }
    number = 2
    job_id = name
    while job_id in taken:
        job_id = f"{name}-{number}"
        number += 1
    return job_id


def needs_restart(db: sqlite3.Connection, job: JobView, exclude: tuple[Target, ...]) -> bool:
    """Return whether a job must be stopped or placed again, so that it uses none of the excluded targets."""
    if job.state.ended:
        return False
    live = store_writes.live_attempt(db, job.id)
    settled = live is not None and live["stop"] is None and job.node is not None
    return not (settled and exclude and not touches(job.node or "", job.gpus, exclude))


def request_restart(
    db: sqlite3.Connection, job: JobView, exclude: Iterable[Target], now: float
) -> None:
    """Request that the controller stops the job and restarts it on other GPUs."""
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (job.id,)).fetchone()
    here = store_writes.gpu_targets(job.node, job.gpus) if job.node else []
    store_writes.set_job(
        db,
        job.id,
        excluded=store_writes.add_targets(row["excluded"], exclude),
        avoid=store_writes.add_targets(row["avoid"], here),
    )
    text = "stopped by request, to restart on other GPUs"
    live = store_writes.live_attempt(db, job.id)
    if live is None:
        store_writes.uncount_failure(db, row)
        store_writes.set_waiting_state(
            db, job.id, JobState.MOVING, JobReason.RESTART_REQUESTED, text, now
        )
        return
    if live["stop"] is None:
        store_writes.set_attempt(
            db, job.id, live["n"], stop=Stop.RESTART, stop_text=text, stop_at=now
        )
    store_writes.set_job(
        db,
        job.id,
        state=JobState.MOVING,
        reason=JobReason.RESTART_REQUESTED,
        text="being stopped by request, to restart on other GPUs",
    )


def request_stop(
    db: sqlite3.Connection, job: JobView, stop: Stop, reason: JobReason, text: str, now: float
) -> None:
    """Request that the controller stops the job without retry. Without a process, the job ends
    immediately."""
    state = JobState.FAILED if stop is Stop.FAIL else JobState.CANCELLED
    live = store_writes.live_attempt(db, job.id)
    if live is None:
        store_writes.set_waiting_state(db, job.id, state, reason, text, now)
        return
    at = live["stop_at"] if live["stop_at"] is not None else now
    store_writes.set_attempt(db, job.id, live["n"], stop=stop, stop_text=text, stop_at=at)
    store_writes.set_job(db, job.id, text=f"being stopped: {text}")
