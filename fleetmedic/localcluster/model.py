"""The data types of the embedded cluster: views for reading, and the spec of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from fleetmedic.kernel.errors import UserError


class Conflict(UserError):  # noqa: N818 - the name in every cluster adapter
    """Another user or program quarantined the target, or the op_id was used for a different operation."""


class JobState(StrEnum):
    """The state of a job. A RETRYING job keeps its GPUs; a MOVING job has released them."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    MOVING = "MOVING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Return whether the job has ended, so that its state is final."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantine of a GPU or node: owner, reason and time (Unix seconds)."""

    owner: str
    reason: str
    at: float
    op_id: str


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU.

    `quarantined` is the quarantine of this GPU only; NodeView contains the quarantine of the node.
    `marked` is the reason why the cluster itself places no jobs on the GPU.
    """

    index: int
    uuid: str
    quarantined: Quarantine | None = None
    marked: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node. `alive`: the node is in the controller's latest inventory.

    LocalCluster.heartbeat shows whether the controller is running.
    """

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
    """A job as submitted.

    All `gpus` are on one node; `node` is the node of the first attempt, None for any node. `env` is
    the whole environment, except for the variables that the cluster sets. `grace` is the time between
    TERM and KILL in seconds.
    """

    name: str
    command: tuple[str, ...]
    gpus: int = 1
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    checkpoint_dir: str | None = None
    user: str = ""
    grace: float = 5.0
    node: str | None = None


class AttemptFailure(NamedTuple):
    """A failure of a job's own command: its time (Unix seconds), its node, and how the command ended."""

    at: float
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class JobView:
    """The current state of a job. Times are Unix seconds.

    `attempts` counts the job's own failures, `restarts` all restarts, and `moves` the restarts on
    other GPUs. `node` and `gpus` are the place where the job runs or waits, or where it ran last.
    `signals` contains the op_ids of delivered checkpoint requests, and `restart_ops` those of
    accepted restart requests. `restarts_done` contains the op_ids of restarts after which the job
    ran again. `failed_by` contains the op_id of the request that failed the job. `failure` describes
    the end of the latest ended attempt if it counts as a failure of the job, otherwise None.
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
    failed_by: tuple[str, ...] = ()
    failure: AttemptFailure | None = None

    @property
    def latest_attempt(self) -> int:
        """Return the number of the latest attempt, 0 before the first attempt."""
        return self.restarts + 1 if self.log else 0


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A pool of workers: the desired number and the number that is ready."""

    name: str
    wanted: int
    ready: int
    minimum: int
    maximum: int
    last_op: str | None = None
    url: str | None = None
