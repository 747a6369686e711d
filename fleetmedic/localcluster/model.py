"""What the embedded cluster shows of itself: frozen views, and what a job is submitted with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fleetmedic.kernel.errors import UserError


class Conflict(UserError):  # noqa: N818 - the word that every cluster adapter uses
    """Somebody else holds what was asked for, or an op_id was used for something else before."""


class JobState(StrEnum):
    """Where a job stands. RETRYING keeps its GPUs, MOVING has given them up."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    MOVING = "MOVING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Who took a GPU or node out of service, why and when (Unix seconds)."""

    owner: str
    reason: str
    at: float
    op_id: str


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU. `quarantined` is its own quarantine, its node's is in NodeView; `marked` says why
    the cluster itself gives it no more jobs."""

    index: int
    uuid: str
    quarantined: Quarantine | None = None
    marked: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node. `alive`: the controller saw it when it last looked (which says nothing of the
    controller: see LocalCluster.heartbeat)."""

    name: str
    gpus: tuple[GpuView, ...]
    quarantined: Quarantine | None = None
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Allocation:
    """One GPU that a job holds now."""

    gpu: int
    uuid: str
    job_id: str
    user: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it is submitted.

    `gpus` are taken on one node. `env` is the whole environment besides what the cluster sets.
    `grace` is what a job has between TERM and KILL, in seconds.
    """

    name: str
    command: tuple[str, ...]
    gpus: int = 1
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    checkpoint_dir: str | None = None
    user: str = ""
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands. Times are Unix seconds.

    `attempts` counts the failures held against the job, `restarts` how often its command was
    started again, `moves` how often on other GPUs. `node` and `gpus` are where it runs or waits,
    and where it ran last once it has ended. `signals` are the checkpoint requests delivered,
    `restart_ops` those accepted and `restarts_done` those after which it ran again.
    """

    id: str
    state: JobState
    node: str | None
    gpus: tuple[int, ...]
    attempts: int
    restarts: int
    moves: int
    reason: str
    text: str
    submitted: float
    started: float | None
    finished: float | None
    pid: int | None
    user: str
    command: tuple[str, ...]
    checkpoint_dir: Path
    log: Path | None
    checkpoint_signal: str = "SIGUSR1"
    signals: tuple[str, ...] = ()
    restart_ops: tuple[str, ...] = ()
    restarts_done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A pool of workers: how many are wanted and how many answer now."""

    name: str
    wanted: int
    ready: int
    minimum: int
    maximum: int
    last_op: str | None = None
    url: str | None = None
