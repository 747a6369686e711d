"""Define the interface between the remediator and a cluster.

A cluster offers queries and operations. Every operation takes an `op_id` and is idempotent: a
repeated `op_id` changes nothing, even if the effect was undone meanwhile. An `op_id` belongs to one
operation on one object; any other use raises ClusterError.

For every operation, a query reads from the cluster whether the effect is present. The engine runs
it after a crash before it acts again. A query that cannot be answered raises ClusterError; it never
returns False for "unknown".

Adapters inherit from `Cluster`. An operation that an adapter does not implement raises Unsupported.
`capabilities` lists the supported operations, so that plans can leave out the others. The methods of an
optional operation are declared with `needs`, and `implemented` reads which ones an adapter has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import NoReturn, Protocol, TypeVar

from fleetmedic.kernel.labels import Target
from remediator.core.action import Capability as Capability  # part of this interface


class ClusterError(Exception):
    """The exception for a failed operation or query of the cluster. The message is one sentence.

    `transient`: the same call may succeed later.
    """

    transient: bool

    def __init__(self, sentence: str, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.transient = transient


class Unsupported(ClusterError):  # noqa: N818 - a word of the domain
    """The exception for an operation that the cluster does not support."""


class QuarantineConflict(ClusterError):  # noqa: N818 - a word of the domain
    """The exception for a target that another user or program quarantined. Only they can release it."""


@dataclass(frozen=True, slots=True)
class QuarantineFacts:
    """The quarantine of a GPU or node: its owner, reason, and start (Unix seconds)."""

    owner: str
    reason: str
    op_id: str
    since: float


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU as the cluster reports it.

    `quarantine` is the quarantine of this GPU only; its node can have its own. `job_id` is the job that holds
    the GPU. `marked` is a problem that the cluster itself reports, such as "different jobs keep failing here".
    """

    index: int
    uuid: str
    quarantine: QuarantineFacts | None = None
    job_id: str | None = None
    marked: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `alive`: the cluster reports the node as up. `pool` groups nodes for budgets."""

    name: str
    alive: bool
    gpus: tuple[GpuFacts, ...]
    quarantine: QuarantineFacts | None = None
    pool: str = "default"

    def gpu(self, index: int) -> GpuFacts | None:
        """Return the node's GPU with this index; None if the node has no such GPU."""
        return next((gpu for gpu in self.gpus if gpu.index == index), None)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A failure of a job's own command: its time (Unix seconds), its node (None if unknown), and a description."""

    at: float
    node: str | None
    text: str


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job. `job_id` is an opaque string. `places` are the GPUs that the job holds now, on one or several
    nodes, or its nodes if it runs without GPUs; () while it waits for placement.

    `state` is the cluster's own name for the state, for display only; the remediator uses `running`
    and `finished`. `attempts` counts the attempts of the cluster's retry policy; `restarts` counts
    every restart. `failure` describes the end of the latest ended attempt if the command failed by
    itself; None if the cluster or a GPU ended the attempt, or if the cluster cannot tell.
    """

    job_id: str
    state: str
    places: tuple[Target, ...] = ()
    running: bool = False
    finished: bool = False
    attempts: int = 0
    restarts: int = 0
    reason: str = ""
    failure: JobFailure | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of the nodes on which the job runs."""
        return tuple(dict.fromkeys(place.name for place in self.places))

    def uses(self, target: Target) -> bool:
        """Return whether the job runs on a GPU, or anywhere on a node."""
        if target.gpu is not None:
            return target in self.places
        return target.name in self.nodes


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """A scalable workload: desired and ready replicas, and the minimum and maximum."""

    name: str
    wanted: int
    ready: int
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of an active test, with a human-readable text. A test without a result has not
    passed."""

    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class InstanceLock:
    """The holder of the cluster's lock: the one remediator installation that may act, and its host.

    `since` is when it acquired the lock, `renewed` the last renewal (Unix seconds). `taken_over` is
    the reason given for taking the lock from another installation; empty if it was free.
    """

    installation: str
    host: str
    since: float
    renewed: float
    taken_over: str = ""


F = TypeVar("F", bound=Callable[..., object])


def needs(capability: Capability) -> Callable[[F], F]:
    """Declare that a method of `Cluster` belongs to an optional operation."""

    def declare(method: F) -> F:
        _DECLARED[method.__name__] = capability
        return method

    return declare


_DECLARED: dict[str, Capability] = {}


class Cluster(Protocol):
    """The interface of a cluster. Calls raise ClusterError and its subclasses only.

    In every method, `target` is a GPU or a node. An unknown target raises a ClusterError that is not transient.
    """

    name: str
    capabilities: frozenset[Capability]

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        """Return all nodes, sorted by name, including nodes that are down."""
        self._lacks("list nodes")

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        """Quarantine a target, so that it gets no new jobs. Running jobs continue.

        Raises QuarantineConflict if another user or program quarantined the target.
        """
        self._lacks("quarantine")

    async def quarantined(self, target: Target) -> QuarantineFacts | None:
        """Return the quarantine of exactly this target, by any owner; None if not quarantined."""
        self._lacks("report quarantines")

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        """Release the quarantine of a target. Does nothing if the target is not quarantined.

        Raises QuarantineConflict if another user or program quarantined the target.
        """
        self._lacks("release a quarantine")

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        """Return the unfinished jobs on a target, sorted by id."""
        self._lacks("list the jobs on a target")

    async def job(self, job_id: str) -> JobFacts | None:
        """Return a job, finished jobs included; None if the cluster does not know the id."""
        self._lacks("query a job")

    @needs(Capability.SIGNAL)
    async def signal(self, job_id: str, *, op_id: str) -> None:
        """Signal a job to write a checkpoint now. A finished job gets no signal."""
        self._lacks("signal a job")

    @needs(Capability.SIGNAL)
    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        """Return whether the job has received the signal with this `op_id`."""
        self._lacks("report whether a job was signalled")

    @needs(Capability.RESTART)
    async def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...], always: bool = False
    ) -> None:
        """Stop a job and restart it elsewhere from its checkpoint, without counting an attempt.

        Returns when the cluster has accepted the request. A job is not restarted if it has
        finished, or if it uses none of the excluded targets. If `exclude` is empty, or if `always`
        is set, the job is always restarted. The cluster then prefers other GPUs, but may use the
        current GPUs again.
        """
        self._lacks("restart a job")

    @needs(Capability.RESTART)
    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        """Return whether the restart with this `op_id` is complete.

        Also true if the job needed no restart or has finished.
        """
        self._lacks("report whether a job was restarted")

    @needs(Capability.FAIL)
    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        """Fail a job permanently. `reason` is shown to the job's owner. A finished job does not change."""
        self._lacks("fail a job")

    @needs(Capability.FAIL)
    async def failed(self, job_id: str, *, op_id: str) -> bool:
        """Return whether the job has failed because of the request with this `op_id`.

        False while the job is being stopped, and for a job that has ended otherwise.
        """
        self._lacks("report whether a job was failed")

    @needs(Capability.GPU_RESET)
    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        """Reset a GPU. A later `probe` checks whether the reset repaired the GPU.

        Raises a transient ClusterError if a job holds the GPU.
        """
        self._lacks("reset a GPU")

    @needs(Capability.GPU_RESET)
    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        """Return whether the reset with this `op_id` has happened."""
        self._lacks("report whether a GPU was reset")

    @needs(Capability.REBOOT)
    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        """Reboot a node. Returns when the cluster has accepted the request.

        Raises a transient ClusterError if jobs hold GPUs of the node.
        """
        self._lacks("reboot a node")

    @needs(Capability.REBOOT)
    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        """Return whether the node has finished the reboot with this `op_id`."""
        self._lacks("report whether a node was rebooted")

    @needs(Capability.PROBE)
    async def probe(self, target: Target) -> ProbeResult:
        """Test a GPU, or every GPU of a node, under load. Takes seconds and disturbs running jobs."""
        self._lacks("test a GPU")

    @needs(Capability.SCALE)
    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        """Set a workload's number of replicas. Raises ClusterError for a number outside the limits."""
        self._lacks("scale a workload")

    async def workload(self, name: str) -> WorkloadFacts | None:
        """Return the current state of a workload; None if the cluster does not know the name."""
        self._lacks("query a workload")

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        """Acquire or renew the cluster's lock for an installation, in one atomic step in the cluster's store.

        The request succeeds if the lock is free, already belongs to this installation, or was not
        renewed for `ttl` seconds by the store's clock. With a reason in `take_over` it always succeeds.
        Returns the holder after the request; compare its `installation` with your own id. The call needs
        no op_id, because a repeated call only renews the lock.
        """
        self._lacks("lock itself for one remediator")

    async def close(self) -> None:
        """Close the adapter's open resources. The adapter cannot be used afterwards."""
        return

    def _lacks(self, verb: str) -> NoReturn:
        raise Unsupported(f"the cluster {self.name!r} cannot {verb}.")


def verbs() -> Mapping[str, Capability | None]:
    """Return the methods of the interface, with the capability to which each belongs."""
    public = {name for name, one in vars(Cluster).items() if isinstance(one, FunctionType)}
    return {name: _DECLARED.get(name) for name in sorted(public) if not name.startswith("_")}


def implemented(adapter: type[Cluster]) -> frozenset[Capability]:
    """Return the capabilities of which an adapter implements every method.

    A capability without methods of its own, such as the quarantine of a single GPU, is included.
    """
    missing = {
        capability
        for name, capability in _DECLARED.items()
        if getattr(adapter, name) is getattr(Cluster, name)
    }
    return frozenset(Capability) - missing
