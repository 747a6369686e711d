"""The state of the fake cluster in memory: nodes, GPUs, jobs and workloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleetmedic.kernel.labels import Target
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
    """A job. `wanted` is its number of GPUs, `exclude` the hardware on which it must not be placed."""

    wanted: int
    state: str = "PENDING"
    node: str | None = None
    gpus: tuple[int, ...] = ()
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
            node=self.node,
            gpus=self.gpus,
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
