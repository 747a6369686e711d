"""The facts that a decision may use, gathered by the engine before it asks. Read only."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.core.model import Level

UNKNOWN_AGE = float("inf")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job on the target. `running` means that its processes live and hold their GPUs."""

    job_id: str
    running: bool


@dataclass(frozen=True, slots=True)
class PoolView:
    """How much of the target's pool there is, and how much of it is out by us."""

    gpus: int = 0
    nodes: int = 0
    gpus_out: int = 0
    nodes_out: int = 0
    recent: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorView:
    """What can be trusted now. `watchdog_age` in seconds; `exporters_up` a ratio, None if unknown."""

    watchdog_age: float = UNKNOWN_AGE
    prometheus: bool = False
    exporters_up: float | None = None


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A scalable workload's size and bounds, and the requests that wait for it (None: unknown)."""

    wanted: int
    ready: int
    minimum: int
    maximum: int
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything outside the incident that a decision looks at.

    `quarantine_owner` is who quarantined exactly the target (None: nobody). `node_jobs` are the jobs
    anywhere on the target's node. `attempts` are (action, target, Unix seconds) of earlier steps.
    `kept` are the targets beside the incident's own that it quarantined and that still carry our name.
    `siblings` counts other GPUs of the node that fell ill within the hold. `checkpoint_at` is when
    the slowest job on the target last saved, None where nobody knows.
    """

    level: Level
    paused: bool = False
    known: bool = True
    firing: bool = True
    quarantine_owner: str | None = None
    node_quarantine_owner: str | None = None
    kept: tuple[Target, ...] = ()
    jobs: tuple[JobView, ...] = ()
    node_jobs: tuple[JobView, ...] = ()
    pool: PoolView = PoolView()
    sensors: SensorView = SensorView()
    attempts: tuple[tuple[str, Target, float], ...] = ()
    witnesses: frozenset[str] = frozenset()
    siblings: int = 0
    exporter_down: bool = False
    checkpoint_at: float | None = None
    workload: WorkloadView | None = None
