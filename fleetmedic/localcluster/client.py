"""What the rest of fleetmedic, and a user's script, asks of the embedded cluster.

Every call is one short transaction on the store and safe from many processes at once. A call that
changes something takes an `op_id`: the same one a second time changes nothing and gets the first
answer again, also after a crash and from another process. The controller does the work; what it did
is read back from `nodes`, `job` and `workload`.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind, valid_name
from fleetmedic.localcluster import ledger, views
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.lock import Lock, ask_store
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
    ask_restart,
    ask_to_end,
    check_spec,
    needs_restart,
    unique_id,
)
from fleetmedic.localcluster.retry import Reason, Stop
from fleetmedic.localcluster.store import Store

__all__ = ["Conflict", "LocalCluster"]


class LocalCluster:
    """The cluster below a folder. With `hardware_dir`, its nodes are known without a controller."""

    def __init__(self, cluster_dir: Path, hardware_dir: Path | None = None) -> None:
        """Open the store, or make it. Raises UserError when that cannot be."""
        self.store = Store(cluster_dir)
        self._folder = cluster_dir
        if hardware_dir is not None and hardware_dir.is_dir() and not self.nodes():
            with self.store.write() as db:
                ledger.register(db, Inventory(hardware_dir).nodes())

    # ---- what is

    def nodes(self) -> list[NodeView]:
        """Every node with its GPUs, sorted by name."""
        with self.store.read() as db:
            return views.nodes(db)

    def allocations(self, node: str) -> list[Allocation]:
        """The GPUs of a node that jobs hold now."""
        with self.store.read() as db:
            return views.allocations(db, node)

    def jobs(self) -> list[JobView]:
        """All jobs that live and the 500 that ended last, oldest first."""
        with self.store.read() as db:
            return views.jobs(db, self._folder)

    def job(self, job_id: str) -> JobView:
        """One job. Raises UserError when there is none."""
        with self.store.read() as db:
            found = views.jobs(db, self._folder, job_id)
        if not found:
            raise UserError(f"there is no job {job_id[:80]!r}: see `fleetmedic jobs`.")
        return found[0]

    def workload(self, name: str) -> WorkloadView:
        """One workload. Raises UserError when there is none."""
        with self.store.read() as db:
            found = views.workload(db, name)
        if found is None:
            raise UserError(f"there is no workload {name[:80]!r}: the local cluster has `serve`.")
        return found

    def op_done(self, op_id: str) -> bool:
        """Whether this operation was ever accepted, which is durable."""
        with self.store.read() as db:
            return db.execute("SELECT 1 FROM ops WHERE op_id = ?", (op_id,)).fetchone() is not None

    def heartbeat(self) -> float | None:
        """When the controller last said that it lives (Unix seconds, once a second)."""
        with self.store.read() as db:
            row = db.execute("SELECT value FROM facts WHERE key = 'heartbeat'").fetchone()
        return float(row["value"]) if row else None

    # ---- what shall be

    def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> bool:
        """Give a GPU or node no more jobs; True if that changed something.

        A job that runs there goes on (see `restart`), one that waits there moves. Raises Conflict
        when somebody else holds it, UserError when there is no such GPU or node.
        """
        now = time.time()
        with self.store.write() as db:
            self._check_target(target)
            if (before := ledger.answered(db, op_id, "quarantine", str(target))) is not None:
                return bool(int(before))
            held = db.execute(
                "SELECT owner FROM quarantines WHERE target = ?", (str(target),)
            ).fetchone()
            if held and held["owner"] != owner:
                raise Conflict(f"{target} is quarantined by {held['owner']}: it must release it.")
            if not held:
                db.execute(
                    "INSERT INTO quarantines VALUES (?, ?, ?, ?, ?)",
                    (str(target), owner, reason[:1000], op_id, now),
                )
            ledger.accept(db, op_id, "quarantine", str(target), str(int(not held)), now)
            return not held

    def release(self, target: Target, *, op_id: str, owner: str) -> bool:
        """Take a quarantine of this owner back; True if that changed something.

        The cluster's own marks on the GPU, or on the node's GPUs, go with it, also without a quarantine.
        Jobs that wait because they were kept off the target may be placed there again.
        """
        now = time.time()
        with self.store.write() as db:
            self._check_target(target)
            if (before := ledger.answered(db, op_id, "release", str(target))) is not None:
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
                ledger.readmit(db, target)
            ledger.accept(db, op_id, "release", str(target), str(changed), now)
            return bool(changed)

    def signal(self, job_id: str, *, op_id: str) -> bool:
        """Ask a job to write a checkpoint now (SIGUSR1); True if it has a process to ask.

        Done once job.signals holds the op_id: at once where there is no process.
        """
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := ledger.answered(db, op_id, "signal", job_id)) is not None:
                return bool(int(before))
            live = ledger.live_attempt(db, job_id)
            self._job_op(op_id, "signal", job, done=live is None, answer=live is not None)
            return live is not None

    def restart(self, job_id: str, *, op_id: str, exclude: tuple[Target, ...] = ()) -> bool:
        """Stop a job and start it elsewhere from its checkpoint, at no cost; True if it will be.

        From acceptance until it runs again its state is MOVING. Without `exclude` its present GPUs
        are avoided. A job that already is on none of those excluded, or has ended, is left alone.
        """
        about = " ".join([job_id, *sorted(map(str, exclude))])
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := ledger.answered(db, op_id, "restart", about)) is not None:
                return bool(int(before))
            needed = needs_restart(db, job, exclude)
            self._job_op(op_id, "restart", job, done=not needed, answer=needed, about=about)
            if needed:
                ask_restart(db, job, exclude, time.time())
            return needed

    def fail(self, job_id: str, *, op_id: str, reason: str) -> bool:
        """Stop a job for good, as FAILED with this reason; True if it had not ended yet."""
        return self._end(job_id, op_id, Stop.FAIL, Reason.FAILED_BY_REQUEST, reason)

    def cancel(self, job_id: str, *, op_id: str, reason: str = "cancelled by its user") -> bool:
        """Stop a job for good, as CANCELLED; True if it had not ended yet."""
        return self._end(job_id, op_id, Stop.CANCEL, Reason.CANCELLED, reason)

    def scale(self, workload: str, replicas: int, *, op_id: str) -> bool:
        """Want so many workers; True if that changed something. Raises UserError out of range."""
        about = f"{workload} {replicas}"
        with self.store.write() as db:
            found = self.workload(workload)
            if (before := ledger.answered(db, op_id, "scale", about)) is not None:
                return bool(int(before))
            if not found.minimum <= replicas <= found.maximum:
                raise UserError(
                    f"workload {workload} cannot have {replicas} replicas: "
                    f"give {found.minimum} to {found.maximum}."
                )
            db.execute(
                "UPDATE workloads SET wanted = ?, last_op = ? WHERE name = ?",
                (replicas, op_id, workload),
            )
            changed = found.wanted != replicas
            ledger.accept(db, op_id, "scale", about, str(int(changed)), time.time())
            return changed

    def submit(self, spec: JobSpec, *, op_id: str | None = None) -> str:
        """Queue a job; returns its id, the spec's name or, where that is taken, NAME-2 and so on.

        Raises UserError for a spec that can never run.
        """
        check_spec(spec, self.nodes())
        op = op_id or f"submit-{secrets.token_hex(8)}"
        now = time.time()
        with self.store.write() as db:
            if (before := ledger.answered(db, op, "submit", spec.name)) is not None:
                return before
            job_id = unique_id(db, spec.name)
            stored = replace(spec, command=tuple(spec.command))
            db.execute(
                "INSERT INTO jobs (id, spec, user, state, reason, text, submitted)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (job_id, views.write_spec(stored), spec.user, JobState.PENDING, Reason.SUBMITTED,
                 "waiting to be placed", now),
            )  # fmt: skip
            ledger.accept(db, op, "submit", spec.name, job_id, now)
            return job_id

    def lock(self, installation: str, *, ttl: float, host: str, take_over: str = "") -> Lock:
        """Take or renew the remediators' lock for an installation; returns who holds it afterwards.

        It is free when it was not renewed for `ttl` seconds; with the reason `take_over` it is taken
        from another installation. Raises UserError when the stored lock is damaged.
        """
        with self.store.write() as db:
            return ask_store(db, installation, host, take_over, ttl=ttl)

    # ---- inside

    def _end(self, job_id: str, op_id: str, stop: Stop, reason: Reason, text: str) -> bool:
        with self.store.write() as db:
            job = self.job(job_id)
            if (before := ledger.answered(db, op_id, stop, job_id)) is not None:
                return bool(int(before))
            going = not job.state.ended
            self._job_op(op_id, stop, job, done=not going, answer=going)
            if going:
                ask_to_end(db, job, stop, reason, text[:1000], time.time())
            return going

    def _job_op(
        self, op_id: str, verb: str, job: JobView, *, done: bool, answer: bool, about: str = ""
    ) -> None:
        now = time.time()
        with self.store.write() as db:
            ledger.accept(db, op_id, verb, about or job.id, str(int(answer)), now)
            attempt = db.execute("SELECT attempt FROM jobs WHERE id = ?", (job.id,)).fetchone()[0]
            db.execute(
                "INSERT INTO job_ops VALUES (?, ?, ?, ?, ?, ?)",
                (op_id, job.id, verb, attempt, int(done), now),
            )

    def _check_target(self, target: Target) -> None:
        if target.kind not in (TargetKind.GPU, TargetKind.NODE) or not valid_name(target.name):
            raise UserError(f"{target} is neither a GPU nor a node: write NODE or NODE/3.")
        for node in self.nodes():
            if node.name == target.name and (
                target.gpu is None or any(gpu.index == target.gpu for gpu in node.gpus)
            ):
                return
        known = ", ".join(node.name for node in self.nodes()) or "none yet"
        raise UserError(f"the local cluster has no {target}; its nodes: {known}.")
