"""The interface between the remediator and a cluster: facts, effects and observations.

Every effect takes an `op_id` and is idempotent by it: repeating a call with the same `op_id` changes
nothing, even after its effect was undone. One `op_id` is one verb on one subject; any other use is a
ClusterError. Every effect has an observation that reads the cluster itself, so that the engine checks the effect
after a crash before it acts again. If the observation is impossible, it raises ClusterError; False never means
"unknown".

Adapters inherit from `Cluster`. A verb that an adapter does not implement raises Unsupported, the default here;
`capabilities` lists the supported verbs, so that plans can exclude the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, Protocol

from fleetmedic.kernel.labels import Target, TargetKind


class Capability(StrEnum):
    """What a cluster can do beyond listing nodes and jobs and quarantining a node."""

    GPU_QUARANTINE = "gpu_quarantine"
    GPU_RESET = "gpu_reset"
    REBOOT = "reboot"
    SIGNAL = "signal"
    RESTART = "restart"
    FAIL = "fail"
    PROBE = "probe"
    SCALE = "scale"


class ClusterError(Exception):
    """The cluster did not carry out a call, or could not answer it; the message is one sentence.

    `transient`: whether the same call may succeed later.
    """

    transient: bool

    def __init__(self, sentence: str, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.transient = transient


class Unsupported(ClusterError):  # noqa: N818 - a word of the domain
    """This cluster does not support the verb."""


class QuarantineConflict(ClusterError):  # noqa: N818 - a word of the domain
    """The target is quarantined by another owner; only that owner can release it."""


@dataclass(frozen=True, slots=True)
class QuarantineFacts:
    """The quarantine of a target: its owner, reason, and start (Unix seconds)."""

    owner: str
    reason: str
    op_id: str
    since: float


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU as the cluster sees it.

    `quarantine` is the GPU's own; its node may be quarantined in addition. `job_id` is the job that holds
    the GPU; `marked` is the cluster's own report of a problem, such as "different jobs keep failing here".
    """

    index: int
    uuid: str
    quarantine: QuarantineFacts | None = None
    job_id: str | None = None
    marked: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `alive` is the cluster's own assessment; `pool` groups nodes for budgets."""

    name: str
    alive: bool
    gpus: tuple[GpuFacts, ...]
    quarantine: QuarantineFacts | None = None
    pool: str = "default"

    def gpu(self, index: int) -> GpuFacts | None:
        """The GPU with that index, or None."""
        return next((gpu for gpu in self.gpus if gpu.index == index), None)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job. `node` and `gpus` are what it holds now; None and () if it waits for placement.

    `state` is the cluster's own name of the state; the remediator only uses `running` and `finished`.
    `attempts` counts the attempts of the retry policy; `restarts` counts every new start.
    """

    job_id: str
    state: str
    node: str | None = None
    gpus: tuple[int, ...] = ()
    running: bool = False
    finished: bool = False
    attempts: int = 0
    restarts: int = 0
    reason: str = ""

    def places(self) -> tuple[Target, ...]:
        """The GPUs that the job holds, or its node if it holds none."""
        if self.node is None:
            return ()
        held = tuple(Target(TargetKind.GPU, self.node, gpu) for gpu in self.gpus)
        return held or (Target(TargetKind.NODE, self.node),)


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """A scalable workload: desired replicas, ready replicas, and its bounds."""

    name: str
    wanted: int
    ready: int
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of an active test, and a text for people. A test without a result has not passed."""

    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class InstanceLock:
    """The one installation of the remediator that may act on a cluster, and its host.

    `since`: when it took the lock. `renewed`: its last renewal (both Unix seconds). `taken_over`: the
    reason with which it took the lock from another installation.
    """

    installation: str
    host: str
    since: float
    renewed: float
    taken_over: str = ""


class Cluster(Protocol):
    """One cluster. Calls may raise ClusterError and its subclasses only.

    `target` is a GPU or a node in every method. An unknown target is a ClusterError that is not transient.
    """

    name: str
    capabilities: frozenset[Capability]

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        """All nodes, sorted by name, including nodes that are down."""
        self._lacks("list nodes")

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        """Quarantine a target: it gets no new jobs. Running jobs stay. Conflict if another owner has it."""
        self._lacks("quarantine")

    async def quarantined(self, target: Target) -> QuarantineFacts | None:
        """The quarantine of exactly this target, by any owner."""
        self._lacks("report quarantines")

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        """Release a quarantine. Without a quarantine nothing changes; Conflict if another owner has it."""
        self._lacks("release a quarantine")

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        """The unfinished jobs that hold a target, sorted by id."""
        self._lacks("list the jobs on a target")

    async def job(self, job_id: str) -> JobFacts | None:
        """A job, including finished jobs; None if the cluster does not know the id."""
        self._lacks("query a job")

    async def signal(self, job_id: str, *, op_id: str) -> None:
        """Signal a job to write a checkpoint now. A finished job is not signalled."""
        self._lacks("signal a job")

    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        """Whether the signal of this operation has reached the job."""
        self._lacks("report whether a job was signalled")

    async def restart(self, job_id: str, *, op_id: str, exclude: tuple[Target, ...]) -> None:
        """Stop a job and restart it elsewhere from its checkpoint, without counting an attempt.

        Returns when the cluster has accepted the order. If `exclude` is empty, the job's current place is
        excluded. A job that has finished, or uses nothing that is excluded, is not restarted.
        """
        self._lacks("restart a job")

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        """Whether this operation has restarted the job, or the job needed no restart, or has finished."""
        self._lacks("report whether a job was restarted")

    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        """Fail a job permanently, with a reason for its owner."""
        self._lacks("fail a job")

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        """Reset a GPU. `probe` checks whether that repaired it.

        If a job holds the GPU, this raises a transient ClusterError.
        """
        self._lacks("reset a GPU")

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        """Whether the reset of this operation has happened."""
        self._lacks("report whether a GPU was reset")

    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        """Reboot a node. Returns when the order is accepted.

        If jobs hold GPUs of the node, this raises a transient ClusterError.
        """
        self._lacks("reboot a node")

    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        """Whether the node has finished the reboot of this operation."""
        self._lacks("report whether a node was rebooted")

    async def probe(self, target: Target) -> ProbeResult:
        """Test a GPU, or every GPU of a node, under load. Takes seconds and disturbs running jobs."""
        self._lacks("test a GPU")

    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        """Set the number of replicas. A number outside the workload's bounds is a ClusterError."""
        self._lacks("scale a workload")

    async def workload(self, name: str) -> WorkloadFacts | None:
        """The current state of a workload; None if the cluster does not know the name."""
        self._lacks("query a workload")

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        """Take or renew the cluster's lock for an installation, in one atomic step in its store.

        The lock is granted if it is free, already held by that installation, or not renewed for `ttl`
        seconds by the store's clock; with a reason in `take_over` it is always granted. Returns the holder
        afterwards; the caller compares `installation` with its own id. A repeated call renews the lock;
        there is no op_id.
        """
        self._lacks("lock itself for one remediator")

    async def close(self) -> None:
        """Close open resources; the cluster is not used afterwards. Most adapters have none."""
        return

    def _lacks(self, verb: str) -> NoReturn:
        raise Unsupported(f"the cluster {self.name!r} cannot {verb}.")
