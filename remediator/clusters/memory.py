"""A fake cluster in memory, for tests and experiments. It follows the contract of `Cluster`.

Jobs hold GPUs, quarantined hardware gets no jobs, and an unhealthy GPU fails its test until the
right repair. Operations finish instantly here; on a real cluster they take time. Tests use the
synchronous methods to set up the state; the remediator uses the async methods only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.lock import Instant, Lock, request_lock
from remediator.clusters.base import (
    Capability,
    Cluster,
    ClusterError,
    GpuFacts,
    InstanceLock,
    JobFacts,
    JobFailure,
    NodeFacts,
    ProbeResult,
    QuarantineConflict,
    QuarantineFacts,
    WorkloadFacts,
    implemented,
)
from remediator.clusters.memory_state import (
    HealsBy,
    MemoryGpu,
    MemoryJob,
    MemoryJobs,
    MemoryNode,
    MemoryWorkload,
)


class MemorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings `cluster.memory` in remediator.yml."""

    nodes: int = 4
    gpus: int = 8


@dataclass(frozen=True, slots=True)
class ExecutedOperation:
    """An operation that the fake cluster executed: its name, the object, and its op_id."""

    verb: str
    subject: str
    op_id: str


class MemoryCluster(Cluster):
    """A cluster in memory with `nodes` nodes named node1, node2 ..., each with `gpus` GPUs.

    `capabilities` are by default those that this class implements. An operation that is not in
    `capabilities` raises Unsupported.
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        nodes: int = 4,
        gpus: int = 8,
        pool: str = "default",
        capabilities: frozenset[Capability] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.capabilities = implemented(MemoryCluster) if capabilities is None else capabilities
        self._clock = clock
        self._nodes = {
            f"node{number}": MemoryNode(
                [MemoryGpu(f"GPU-{number}-{index}") for index in range(gpus)], pool
            )
            for number in range(1, nodes + 1)
        }
        self._names = sorted(self._nodes)
        self._facts: dict[str, NodeFacts] = {}
        self._listed: tuple[NodeFacts, ...] | None = None
        self._jobs = MemoryJobs(self._nodes, self._changed)
        self._workloads: dict[str, MemoryWorkload] = {}
        self._effects: list[ExecutedOperation] = []
        self._taken: dict[str, str] = {}
        self._lock: Lock | None = None
        self._locking = threading.Lock()

    @classmethod
    def of(cls, name: str, settings: MemorySettings) -> Self:
        """Return a cluster with the number of nodes and GPUs from the settings."""
        return cls(name, nodes=settings.nodes, gpus=settings.gpus)

    # setup of the state

    @property
    def effects(self) -> tuple[ExecutedOperation, ...]:
        """Return all operations that the fake cluster executed, oldest first."""
        return tuple(self._effects)

    def submit(
        self, job_id: str, *, gpus: int = 1, nodes: int = 1, on: Target | None = None
    ) -> None:
        """Add a job that needs `gpus` GPUs on each of `nodes` nodes. It waits if they are not free.

        With `on`, it starts on this GPU even if others use it.
        """
        job = self._jobs.by_id[job_id] = MemoryJob(wanted=gpus, nodes=nodes)
        if on is not None and on.gpu is not None:
            job.state = "RUNNING"
            self._jobs.hold(job_id, (on,))
        self._jobs.place_waiting()

    def finish(self, job_id: str) -> None:
        """Mark a job of the fake cluster as completed."""
        self._end(job_id, "COMPLETED", "")

    def crash(self, job_id: str, text: str = "the command exited with 1") -> None:
        """Let the command of a running job fail by itself. The job waits on its GPUs for `retry`."""
        job = self._jobs.by_id[job_id]
        nodes = job.facts(job_id).nodes
        job.failure = JobFailure(self._clock(), nodes[0] if len(nodes) == 1 else None, text)
        job.state, job.reason, job.attempts = "RETRYING", text, job.attempts + 1

    def retry(self, job_id: str) -> None:
        """Start a job that has crashed again, on the same GPUs."""
        job = self._jobs.by_id[job_id]
        if job.state == "RETRYING":
            job.state, job.reason, job.restarts = "RUNNING", "", job.restarts + 1

    def make_unhealthy(self, target: Target, *, heals_by: HealsBy = "reset") -> None:
        """Make a GPU, or all GPUs of a node, fail tests until the repair `heals_by`."""
        for gpu in self._gpus(target):
            gpu.sick, gpu.heals_by = True, heals_by

    def set_uuid(self, target: Target, uuid: str) -> None:
        """Replace a GPU by another device with this UUID."""
        if target.gpu is None:
            raise ValueError(f"{target}: expected a GPU, because only GPUs have a UUID.")
        self._gpus(target)[0].uuid = uuid
        self._changed(target.name)

    def set_alive(self, node: str, alive: bool) -> None:
        """Set whether a node of the fake cluster is up."""
        self._nodes[node].alive = alive
        self._changed(node)

    def add_workload(self, name: str, *, replicas: int, minimum: int, maximum: int) -> None:
        """Add a workload that can be scaled."""
        self._workloads[name] = MemoryWorkload(replicas, minimum, maximum)

    # the interface

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        if self._listed is None:
            self._listed = tuple(self._node_facts(name) for name in self._names)
        return self._listed

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        self._need_quarantine(target)
        found = self._thing(target)
        _require_owner(target, found.quarantine, owner)
        if self._take(op_id, "quarantine", target) and found.quarantine is None:
            found.quarantine = QuarantineFacts(owner, reason, op_id, self._clock())
            self._changed(target.name)
            self._did("quarantine", str(target), op_id)

    async def quarantined(self, target: Target) -> QuarantineFacts | None:
        return self._thing(target).quarantine

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        self._need_quarantine(target)
        found = self._thing(target)
        _require_owner(target, found.quarantine, owner)
        if self._take(op_id, "release", target) and found.quarantine is not None:
            found.quarantine = None
            self._changed(target.name)
            self._did("release", str(target), op_id)
            self._jobs.place_waiting()

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        self._thing(target)
        on_node = self._jobs.on(target.name)
        facts = (self._job_facts(job_id) for job_id in sorted(on_node))
        return tuple(job for job in facts if job.uses(target))

    async def job(self, job_id: str) -> JobFacts | None:
        return self._job_facts(job_id) if job_id in self._jobs.by_id else None

    async def signal(self, job_id: str, *, op_id: str) -> None:
        self._need(Capability.SIGNAL, "signal a job")
        job = self._job_facts(job_id)
        if self._take(op_id, "signal", job_id) and job.running:
            self._did("signal", job_id, op_id)

    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        self._need(Capability.SIGNAL, "report whether a job was signalled")
        self._job_facts(job_id)
        return op_id in self._taken

    async def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...], always: bool = False
    ) -> None:
        self._need(Capability.RESTART, "restart a job")
        facts = self._job_facts(job_id)
        away = frozenset((*exclude, *facts.places) if always or not exclude else exclude)
        stays = facts.running and not any(facts.uses(one) for one in away)
        if not self._take(op_id, "restart", job_id) or facts.finished or stays:
            return
        job = self._jobs.by_id[job_id]
        self._jobs.hold(job_id, ())
        job.state, job.exclude = "MOVING", away
        job.restarts, job.failure = job.restarts + 1, None
        self._did("restart", job_id, op_id)
        self._jobs.place_waiting()

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        self._need(Capability.RESTART, "report whether a job was restarted")
        job = self._job_facts(job_id)
        return job.finished or (op_id in self._taken and job.state != "MOVING")

    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        self._need(Capability.FAIL, "fail a job")
        facts = self._job_facts(job_id)
        if self._take(op_id, "fail", job_id) and not facts.finished:
            self._end(job_id, "FAILED", reason)
            self._jobs.by_id[job_id].failed_by = op_id
            self._did("fail", job_id, op_id)

    async def failed(self, job_id: str, *, op_id: str) -> bool:
        self._need(Capability.FAIL, "report whether a job was failed")
        self._job_facts(job_id)
        return self._jobs.by_id[job_id].failed_by == op_id

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        self._need(Capability.GPU_RESET, "reset a GPU")
        await self._repair(target, "reset", op_id)

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        self._need(Capability.GPU_RESET, "report whether a GPU was reset")
        return op_id in self._taken

    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        self._need(Capability.REBOOT, "reboot a node")
        await self._repair(target, "reboot", op_id)

    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        self._need(Capability.REBOOT, "report whether a node was rebooted")
        return op_id in self._taken

    async def probe(self, target: Target) -> ProbeResult:
        self._need(Capability.PROBE, "test a GPU")
        sick = [gpu.uuid for gpu in self._gpus(target) if gpu.sick]
        if not self._nodes[target.name].alive:
            return ProbeResult(False, f"{target} cannot be tested, because its node is down.")
        if sick:
            return ProbeResult(False, f"{target}: {', '.join(sick)} failed the test.")
        return ProbeResult(True, f"{target} passed the test.")

    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        self._need(Capability.SCALE, "scale a workload")
        found = self._workloads.get(workload)
        if found is None:
            raise ClusterError(f"workload {workload!r} not found in cluster {self.name!r}.")
        if not found.minimum <= replicas <= found.maximum:
            raise ClusterError(
                f"workload {workload!r} allows {found.minimum} to {found.maximum} replicas,"
                f" got {replicas}."
            )
        if self._take(op_id, "scale", workload):
            found.replicas = replicas
            self._did("scale", workload, op_id)

    async def workload(self, name: str) -> WorkloadFacts | None:
        found = self._workloads.get(name)
        if found is None:
            return None
        return WorkloadFacts(name, found.replicas, found.replicas, found.minimum, found.maximum)

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        # All callers share one wall clock, so the time since boot is not needed.
        now = Instant(self._clock(), "", 0.0)
        with self._locking:
            held = self._lock = request_lock(
                self._lock, installation, host, take_over, ttl=ttl, now=now
            )
        return InstanceLock(
            held.installation, held.host, held.since, held.renewed.wall, held.taken_over
        )

    # internal

    def _need(self, capability: Capability, verb: str) -> None:
        if capability not in self.capabilities:
            self._lacks(verb)

    def _need_quarantine(self, target: Target) -> None:
        if target.kind is TargetKind.GPU:
            self._need(Capability.GPU_QUARANTINE, "quarantine a single GPU")

    def _take(self, op_id: str, verb: str, subject: object) -> bool:
        """Record an operation and return whether it is new. Raises ClusterError for a reused op_id."""
        if op_id in self._taken and self._taken[op_id] != f"{verb} {subject}":
            raise ClusterError(f"the op_id {op_id!r} was already used for {self._taken[op_id]!r}.")
        new = op_id not in self._taken
        self._taken[op_id] = f"{verb} {subject}"
        return new

    def _did(self, verb: str, subject: str, op_id: str) -> None:
        self._effects.append(ExecutedOperation(verb, subject, op_id))

    def _thing(self, target: Target) -> MemoryNode | MemoryGpu:
        node = self._nodes.get(target.name) if target.node else None
        if node is None:
            raise ClusterError(f"{target} not found in cluster {self.name!r}.")
        if target.gpu is None:
            return node
        if not 0 <= target.gpu < len(node.gpus):
            raise ClusterError(f"{target} not found: {target.name} has no such GPU.")
        return node.gpus[target.gpu]

    def _gpus(self, target: Target) -> list[MemoryGpu]:
        found = self._thing(target)
        return found.gpus if isinstance(found, MemoryNode) else [found]

    async def _repair(self, target: Target, how: HealsBy, op_id: str) -> None:
        wanted = TargetKind.GPU if how == "reset" else TargetKind.NODE
        if target.kind is not wanted:
            raise ClusterError(f"{how}: expected a {wanted}, got {target}.")
        gpus = self._gpus(target)
        if op_id in self._taken:
            return
        if holders := [job.job_id for job in await self.jobs_on(target)]:
            raise ClusterError(
                f"{target} is in use by {', '.join(holders)}; move these jobs first.",
                transient=True,
            )
        self._take(op_id, how, target)
        for gpu in gpus:
            if gpu.heals_by == how or (how == "reboot" and gpu.heals_by == "reset"):
                gpu.sick = False
        self._did(how, str(target), op_id)

    def _end(self, job_id: str, state: str, reason: str) -> None:
        job = self._jobs.by_id[job_id]
        job.state, job.reason = state, reason
        self._jobs.hold(job_id, ())
        self._jobs.place_waiting()

    def _changed(self, node: str) -> None:
        """Forget the facts of a node, because it has changed."""
        self._facts.pop(node, None)
        self._listed = None

    def _node_facts(self, name: str) -> NodeFacts:
        """Return the facts of a node. They are kept until the node changes."""
        known = self._facts.get(name)
        if known is None:
            node = self._nodes[name]
            jobs = self._jobs.on(name)
            holder = {gpu: job_id for job_id, gpus in jobs.items() for gpu in gpus}
            gpus = tuple(
                GpuFacts(index, gpu.uuid, gpu.quarantine, holder.get(index))
                for index, gpu in enumerate(node.gpus)
            )
            known = NodeFacts(name, node.alive, gpus, node.quarantine, node.pool)
            self._facts[name] = known
        return known

    def _job_facts(self, job_id: str) -> JobFacts:
        job = self._jobs.by_id.get(job_id)
        if job is None:
            raise ClusterError(f"job {job_id!r} not found in cluster {self.name!r}.")
        return job.facts(job_id)


def _require_owner(target: Target, held: QuarantineFacts | None, owner: str) -> None:
    if held is not None and held.owner != owner:
        raise QuarantineConflict(f"{target} is quarantined by {held.owner}: {held.reason}")
