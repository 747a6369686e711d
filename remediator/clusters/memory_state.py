"""The state of the fake cluster in memory: nodes, GPUs, jobs and workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clusters.base import JobFacts, JobFailure, QuarantineFacts

HealsBy = Literal["reset", "reboot", "none"]


@dataclass(slots=True)
class MemoryGpu:
    """A GPU. `heals_by` is the repair that makes a sick GPU healthy again."""

    uuid: str
    quarantine: QuarantineFacts | None = None
    sick: bool = False
    heals_by: HealsBy = "reset"


@dataclass(slots=True)
class MemoryNode:
    """A node with its GPUs."""

    gpus: list[MemoryGpu]
    pool: str
    quarantine: QuarantineFacts | None = None
    alive: bool = True


@dataclass(slots=True)
class MemoryJob:
    """A job that needs `wanted` GPUs on each of `nodes` nodes, but no hardware in `exclude`."""

    wanted: int
    state: str = "PENDING"
    nodes: int = 1
    places: tuple[Target, ...] = ()
    restarts: int = 0
    reason: str = ""
    exclude: frozenset[Target] = frozenset()
    attempts: int = 0
    failure: JobFailure | None = None
    failed_by: str = ""

    def facts(self, job_id: str) -> JobFacts:
        """Return the job as the cluster reports it."""
        return JobFacts(
            job_id=job_id,
            state=self.state,
            places=self.places,
            running=self.state == "RUNNING",
            finished=self.state in ("COMPLETED", "FAILED"),
            attempts=self.attempts,
            restarts=self.restarts,
            reason=self.reason,
            failure=self.failure,
        )


@dataclass(slots=True)
class MemoryWorkload:
    """A scalable workload and its limits."""

    replicas: int
    minimum: int
    maximum: int


class MemoryJobs:
    """The jobs and the GPUs that they hold. `changed` is called with the name of each node that changes."""

    def __init__(self, nodes: Mapping[str, MemoryNode], changed: Callable[[str], object]) -> None:
        self._nodes = nodes
        self._names = sorted(nodes)
        self._changed = changed
        self._held: dict[str, dict[str, set[int]]] = {}
        self.by_id: dict[str, MemoryJob] = {}

    def on(self, node: str) -> Mapping[str, set[int]]:
        """Return the jobs on a node, each with the indices of the GPUs that it holds there."""
        return self._held.get(node, {})

    def hold(self, job_id: str, places: tuple[Target, ...]) -> None:
        """Let a job hold these GPUs or nodes, and no others."""
        job = self.by_id[job_id]
        for place in job.places:
            self._held.get(place.name, {}).pop(job_id, None)
            self._changed(place.name)
        job.places = places
        for place in places:
            gpus = self._held.setdefault(place.name, {}).setdefault(job_id, set())
            if place.gpu is not None:
                gpus.add(place.gpu)
            self._changed(place.name)

    def place_waiting(self) -> None:
        """Start each waiting job for which there is room."""
        for job_id, job in self.by_id.items():
            if job.state in ("PENDING", "MOVING") and (places := self._room_for(job)):
                self.hold(job_id, places)
                job.state = "RUNNING"

    def _room_for(self, job: MemoryJob) -> tuple[Target, ...]:
        """Return free GPUs for a job, or nodes if it needs no GPU; empty if there are too few."""
        found: list[Target] = []
        nodes = 0
        for name in self._names:
            free = self._free(name, job.exclude)
            if free is not None and len(free) >= job.wanted:
                gpus = [Target(TargetKind.GPU, name, gpu) for gpu in free[: job.wanted]]
                found += gpus or [Target(TargetKind.NODE, name)]
                nodes += 1
            if nodes == job.nodes:
                return tuple(found)
        return ()

    def _free(self, name: str, exclude: frozenset[Target]) -> list[int] | None:
        """Return the free GPUs of a node; None if the node gets no jobs."""
        node = self._nodes[name]
        if node.quarantine or not node.alive or Target(TargetKind.NODE, name) in exclude:
            return None
        held = {gpu for gpus in self.on(name).values() for gpu in gpus}
        return [
            index
            for index, gpu in enumerate(node.gpus)
            if gpu.quarantine is None
            and index not in held
            and Target(TargetKind.GPU, name, index) not in exclude
        ]
