"""What the remediator may ask of a cluster, and the facts that it gets back.

Every effect takes an `op_id` and is idempotent by it: repeating a call with the same `op_id` changes
nothing, even after what it did was undone. One `op_id` is one verb on one subject; using it for
another is a ClusterError. Every effect has an observation beside it that reads the cluster itself, so that after a
crash the engine looks before it acts again. An observation that cannot be made raises ClusterError;
it never answers False for "I do not know".

Adapters inherit from `Cluster`. A verb that an adapter does not have raises Unsupported, which is
the default here; `capabilities` says the same in advance, so that a plan can degrade visibly.
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
    """The cluster did not do, or could not say, what was asked; the message is one sentence.

    `transient` says whether the same call may succeed later.
    """

    transient: bool

    def __init__(self, sentence: str, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.transient = transient


class Unsupported(ClusterError):  # noqa: N818 - a word of the domain
    """This cluster has no such verb."""


class Conflict(ClusterError):  # noqa: N818 - a word of the domain
    """The target is quarantined by another owner: it is theirs to release."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Who keeps new jobs off a target, why, and since when (Unix seconds)."""

    owner: str
    reason: str
    op_id: str
    since: float


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU as the cluster sees it.

    `quarantine` is the GPU's own; that of its node comes on top. `job_id` is the job that holds it;
    `marked` is the cluster's own complaint, such as "different jobs keep failing here".
    """

    index: int
    uuid: str
    quarantine: Quarantine | None = None
    job_id: str | None = None
    marked: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `alive` is the cluster's own judgement; `pool` groups nodes for budgets."""

    name: str
    alive: bool
    gpus: tuple[GpuFacts, ...]
    quarantine: Quarantine | None = None
    pool: str = "default"

    def gpu(self, index: int) -> GpuFacts | None:
        """The GPU of that index, if the node has one."""
        return next((gpu for gpu in self.gpus if gpu.index == index), None)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job. `node` and `gpus` say what it holds now; None and () when it waits for a place.

    `running` and `finished` are the two questions that the remediator asks of `state`, the cluster's
    own word. `attempts` counts what its retry policy charges; `restarts` counts every new start.
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
        """The GPUs that it holds, or its node when it holds none."""
        if self.node is None:
            return ()
        held = tuple(Target(TargetKind.GPU, self.node, gpu) for gpu in self.gpus)
        return held or (Target(TargetKind.NODE, self.node),)


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """A scalable workload: replicas asked for, replicas that serve, and its bounds."""

    name: str
    wanted: int
    ready: int
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The outcome of an active test, and a sentence for people. Unknown is not passed."""

    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class InstanceLock:
    """The one installation of the remediator that may act on a cluster, and its host.

    `since` is when it took the lock and `renewed` when it last renewed it (Unix seconds).
    `taken_over` is the reason with which it took the lock from another installation.
    """

    installation: str
    host: str
    since: float
    renewed: float
    taken_over: str = ""


class Cluster(Protocol):
    """One cluster. Calls may raise ClusterError and its kinds, and nothing else.

    `target` is a GPU or a node wherever a method takes one. A target that the cluster does not know
    is a ClusterError that is not transient.
    """

    name: str
    capabilities: frozenset[Capability]

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        """All nodes, sorted by name, those that are down included."""
        self._lacks("list nodes")

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        """Keep new jobs off a target. Its running jobs stay. Raises Conflict if another owner has it."""
        self._lacks("quarantine")

    async def quarantined(self, target: Target) -> Quarantine | None:
        """The quarantine of exactly this target, whoever owns it."""
        self._lacks("say what is quarantined")

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        """Let jobs on a target again. One that is not quarantined stays so; Conflict if not ours."""
        self._lacks("release a quarantine")

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        """The unfinished jobs that hold a target, sorted by id."""
        self._lacks("list the jobs on a target")

    async def job(self, job_id: str) -> JobFacts | None:
        """A job, finished ones included; None when the cluster knows none of that id."""
        self._lacks("look at a job")

    async def signal(self, job_id: str, *, op_id: str) -> None:
        """Ask a job to write a checkpoint now. A job that has finished is left alone."""
        self._lacks("signal a job")

    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        """Whether this operation's signal has reached the job."""
        self._lacks("say whether a job was signalled")

    async def restart(self, job_id: str, *, op_id: str, exclude: tuple[Target, ...]) -> None:
        """Stop a job and start it elsewhere from its checkpoint, at no cost of an attempt.

        Returns once the cluster has taken the order. Without `exclude` it leaves its present place.
        A job that has finished, or runs on nothing that is excluded, is left alone.
        """
        self._lacks("restart a job")

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        """Whether the job has been started again by this operation, needed none, or has finished."""
        self._lacks("say whether a job was restarted")

    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        """End a job for good, with a reason its owner will read."""
        self._lacks("fail a job")

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        """Reset a GPU. Whether that healed it is for `probe` to say.

        A GPU that a job holds is not reset: that is a transient ClusterError.
        """
        self._lacks("reset a GPU")

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        """Whether this operation's reset has happened."""
        self._lacks("say whether a GPU was reset")

    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        """Reboot a node. Returns once the order is taken.

        A node on which jobs hold GPUs is not rebooted: that is a transient ClusterError.
        """
        self._lacks("reboot a node")

    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        """Whether the node has come back from this operation's reboot."""
        self._lacks("say whether a node was rebooted")

    async def probe(self, target: Target) -> ProbeResult:
        """Test a GPU, or every GPU of a node, under load. Takes seconds; disturbs what runs there."""
        self._lacks("test a GPU")

    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        """Ask for that many replicas. Outside the workload's bounds is a ClusterError."""
        self._lacks("scale a workload")

    async def workload(self, name: str) -> WorkloadFacts | None:
        """A workload as it is now; None when the cluster knows none of that name."""
        self._lacks("look at a workload")

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        """Take or renew the cluster's lock for an installation, in one atomic step in its store.

        The lock is given if it is free, already that installation's, or not renewed for `ttl` seconds
        by the store's clock; with the reason `take_over` it is given in any case. Returns who holds
        it afterwards: the caller compares `installation` with its own id. It is renewed by asking
        again; it has no op_id.
        """
        self._lacks("lock itself for one remediator")

    async def close(self) -> None:
        """Let go of what it holds open; it is not used afterwards. Most hold nothing."""
        return

    def _lacks(self, verb: str) -> NoReturn:
        raise Unsupported(f"the cluster {self.name!r} cannot {verb}.")
