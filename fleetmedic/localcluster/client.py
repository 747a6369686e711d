"""The client of the embedded cluster, for fleetmedic and for users' scripts.

Every call is one short transaction on the store, and several processes may make calls at the same
time. A call that changes something takes an `op_id`. A repeated `op_id` changes nothing and returns
the first result again, even after a crash or in another process. The controller carries out the
request; `nodes`, `job` and `workload` show the result.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path

from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.kernel.labels import Target, TargetKind, valid_name
from fleetmedic.localcluster import store_writes, views
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.lock import Lock, request_lock_in_store
from fleetmedic.localcluster.model import (
    Allocation,
    Conflict,
    JobSpec,
    JobState,
    JobView,
    NodeView,
    WorkloadView,
)
from fleetmedic.localcluster.requests import (
    check_spec,
    needs_restart,
    request_restart,
    request_stop,
    unique_id,
)
from fleetmedic.localcluster.retry import JobReason, Stop
from fleetmedic.localcluster.store import Store
from fleetmedic.terminal.stack_option import suggested

__all__ = ["Conflict", "LocalCluster"]
MAX_REASON = 1000


class LocalCluster:
    """The embedded cluster in a directory. With `hardware_dir`, nodes are listed without a controller."""

    def __init__(self, cluster_dir: Path, hardware_dir: Path | None = None) -> None:
        """Open or create the store. Raises UserError if that fails."""
        self.store = Store(cluster_dir)
        self._folder = cluster_dir
        if hardware_dir is not None and hardware_dir.is_dir() and not self.nodes():
            with self.store.write() as db:
                store_writes.write_inventory(db, Inventory(hardware_dir).nodes())

    # ---- queries

    def nodes(self) -> list[NodeView]:
        """Return all nodes with their GPUs, sorted by name."""
        with self.store.read() as db:
            return views.nodes(db)

    def allocations(self, node: str) -> list[Allocation]:
        """Return the GPUs of a node that jobs hold now."""
        with self.store.read() as db:
            return views.allocations(db, node)

    def jobs(self) -> list[JobView]:
        """Return all jobs that have not ended and the 500 that ended last, oldest first."""
        with self.store.read() as db:
            return views.jobs(db, self._folder)

    def job(self, job_id: str) -> JobView:
        """Return one job. Raises UserError if it does not exist."""
        with self.store.read() as db:
            found = views.jobs(db, self._folder, job_id)
        if not found:
            raise UserError(
                f"job {job_id[:80]!r} does not exist. {suggested('jobs')} lists all jobs."
            )
        return found[0]

    def output(self, job_id: str, attempt: int) -> Path:
        """Return the output file of an attempt. It does not exist before the command starts."""
        return views.attempt_dir(self._folder, job_id, attempt) / views.LOG_NAME

    def workload(self, name: str) -> WorkloadView:
        """Return one workload. Raises UserError if it does not exist."""
        with self.store.read() as db:
            found = views.workload(db, name)
        if found is None:
            raise UserError(
                f"workload {name[:80]!r} does not exist. The embedded cluster has only `serve`."
            )
        return found

    def heartbeat(self) -> float | None:
        """Return the time of the controller's last heartbeat (Unix seconds), None if there was none.

        The controller writes one heartbeat a second.
        """
        with self.store.read() as db:
            row = db.execute("SELECT value FROM facts WHERE key = 'heartbeat'").fetchone()
        return float(row["value"]) if row else None

    # ---- operations

    def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> bool:
        """Quarantine a GPU or node, so that it gets no new jobs. Returns whether this changed anything.

        A job that runs there continues (see `restart`). A job that waits there for a retry is moved.
        Raises Conflict if another user or program quarantined it, UserError if it does not exist.
        """
        now = time.time()
        with self.store.write() as db:
            self._check_target(target)
            if (
                before := store_writes.recorded_answer(db, op_id, "quarantine", str(target))
            ) is not None:
                return bool(int(before))
            held = db.execute(
                "SELECT owner FROM quarantines WHERE target = ?", (str(target),)
            ).fetchone()
            if held and held["owner"] != owner:
                raise Conflict(
                    f"{target} is quarantined by {held['owner']}; only that owner can release it."
                )
            if not held:
                db.execute(
                    "INSERT INTO quarantines VALUES (?, ?, ?, ?, ?)",
                    (str(target), owner, shortened(reason, MAX_REASON), op_id, now),
                )
            store_writes.record_operation(
                db, op_id, "quarantine", str(target), str(int(not held)), now
            )
            return not held

    def release(self, target: Target, *, op_id: str, owner: str) -> bool:
        """Release this owner's quarantine of a GPU or node. Returns whether this changed anything.

        Also clears the cluster's own marks on the GPU, or on the node's GPUs, even without a
        quarantine. Waiting jobs for which the target was excluded can be placed there again.
        """
        now = time.time()
        with self.store.write() as db:
            self._check_target(target)
            if (
                before := store_writes.recorded_answer(db, op_id, "release", str(target))
            ) is not None:
                return bool(int(before))
            changed = db.execute(
                "DELETE FROM quarantines WHERE target = ? AND owner = ?", (str(target), owner)
            ).rowcount
            held = db.execute(
                "SELECT 1 FROM quarantines WHERE target = ?", (str(target),)
            ).fetchone()
            if held is None:
                where = "node = ?" if target.gpu is None else "node = ? AND idx = ?"
                values = (target.name,) if target.gpu is None else (target.name, target.gpu)
                db.execute(f"UPDATE gpus SET marked = NULL WHERE {where}", values)  # noqa: S608
                db.execute(f"DELETE FROM suspicions WHERE {where}", values)  # noqa: S608
                store_writes.clear_exclusions(db, target)
            store_writes.record_operation(db, op_id, "release", str(target), str(changed), now)
            return bool(changed)

    def signal(self, job_id: str, *, op_id: str) -> bool:
        """Request a checkpoint from a job (SIGUSR1); returns whether the job has a process.

        The request is done when `job.signals` contains the op_id, or immediately if there is no
        process.
        """
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := store_writes.recorded_answer(db, op_id, "signal", job_id)) is not None:
                return bool(int(before))
            live = store_writes.live_attempt(db, job_id)
            self._job_op(op_id, "signal", job, done=live is None, answer=live is not None)
            return live is not None

    def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...] = (), always: bool = False
    ) -> bool:
        """Stop a job and restart it on other GPUs from its checkpoint; returns whether a restart is needed.

        The restart does not count as a failure. The job's state is MOVING until it runs again. Does
        nothing if the job has ended, or uses none of the excluded targets. If `exclude` is empty,
        or if `always` is set, the job always restarts. It then uses its current GPUs again only if
        no other GPUs fit.
        """
        about = " ".join([job_id, *sorted(map(str, exclude))])
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := store_writes.recorded_answer(db, op_id, "restart", about)) is not None:
                return bool(int(before))
            needed = needs_restart(db, job, () if always else exclude)
            self._job_op(op_id, "restart", job, done=not needed, answer=needed, about=about)
            if needed:
                request_restart(db, job, exclude, time.time())
            return needed

    def fail(self, job_id: str, *, op_id: str, reason: str) -> bool:
        """Stop a job without retry, as FAILED with this reason; returns False if it had already ended."""
        return self._end(job_id, op_id, Stop.FAIL, JobReason.FAILED_BY_REQUEST, reason)

    def cancel(self, job_id: str, *, op_id: str, reason: str = "cancelled by its user") -> bool:
        """Stop a job without retry, as CANCELLED; returns False if it had already ended."""
        return self._end(job_id, op_id, Stop.CANCEL, JobReason.CANCELLED, reason)

    def scale(self, workload: str, replicas: int, *, op_id: str) -> bool:
        """Set a workload's number of workers. Returns whether this changed anything.

        Raises UserError if the number is out of range.
        """
        about = f"{workload} {replicas}"
        with self.store.write() as db:
            found = self.workload(workload)
            if (before := store_writes.recorded_answer(db, op_id, "scale", about)) is not None:
                return bool(int(before))
            if not found.minimum <= replicas <= found.maximum:
                raise UserError(
                    f"workload {workload}: expected {found.minimum} to {found.maximum} replicas, "
                    f"got {replicas}."
                )
            db.execute(
                "UPDATE workloads SET wanted = ?, last_op = ? WHERE name = ?",
                (replicas, op_id, workload),
            )
            changed = found.wanted != replicas
            store_writes.record_operation(db, op_id, "scale", about, str(int(changed)), time.time())
            return changed

    def submit(self, spec: JobSpec, *, op_id: str | None = None) -> str:
        """Queue a job; returns its id: the name in the spec, or NAME-2 and so on if the name is in use.

        Raises UserError for an invalid spec, or a job that can never be placed.
        """
        check_spec(spec, self.nodes())
        op = op_id or f"submit-{secrets.token_hex(8)}"
        now = time.time()
        with self.store.write() as db:
            if (before := store_writes.recorded_answer(db, op, "submit", spec.name)) is not None:
                return before
            job_id = unique_id(db, spec.name)
            stored = replace(spec, command=tuple(spec.command))
            db.execute(
                "INSERT INTO jobs (id, spec, user, state, reason, text, submitted)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job_id,
                    views.write_spec(stored),
                    spec.user,
                    JobState.PENDING,
                    JobReason.SUBMITTED,
                    "waiting for placement",
                    now,
                ),
            )
            store_writes.record_operation(db, op, "submit", spec.name, job_id, now)
            return job_id

    def lock(self, installation: str, *, ttl: float, host: str, take_over: str = "") -> Lock:
        """Request or renew the cluster's lock for an installation. Returns the lock as stored after the request.

        The lock is free if it was not renewed for `ttl` seconds. If `take_over` contains a reason, the
        installation takes the lock from the present holder. Raises UserError if the stored lock is damaged.
        """
        with self.store.write() as db:
            return request_lock_in_store(db, installation, host, take_over, ttl=ttl)

    # ---- internal

    def _end(self, job_id: str, op_id: str, stop: Stop, reason: JobReason, text: str) -> bool:
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := store_writes.recorded_answer(db, op_id, stop, job_id)) is not None:
                return bool(int(before))
            going = not job.state.ended
            self._job_op(op_id, stop, job, done=not going, answer=going)
            if going:
                request_stop(db, job, stop, reason, shortened(text, MAX_REASON), time.time())
            return going

    def _job_op(
        self, op_id: str, verb: str, job: JobView, *, done: bool, answer: bool, about: str = ""
    ) -> None:
        now = time.time()
        with self.store.write() as db:
            store_writes.record_operation(db, op_id, verb, about or job.id, str(int(answer)), now)
            attempt = db.execute("SELECT attempt FROM jobs WHERE id = ?", (job.id,)).fetchone()[0]
            db.execute(
                "INSERT INTO job_ops VALUES (?, ?, ?, ?, ?, ?)",
                (op_id, job.id, verb, attempt, int(done), now),
            )

    def _check_target(self, target: Target) -> None:
        if target.kind not in (TargetKind.GPU, TargetKind.NODE) or not valid_name(target.name):
            raise UserError(f"expected a target NODE or NODE/INDEX, got {target}.")
        for node in self.nodes():
            if node.name == target.name and (
                target.gpu is None or any(gpu.index == target.gpu for gpu in node.gpus)
            ):
                return
        known = ", ".join(node.name for node in self.nodes()) or "none yet"
        raise UserError(f"{target} does not exist in the embedded cluster. Its nodes: {known}.")
