"""The facts that a decision may use, gathered by the engine before it asks. Read only."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.core.evidence import ACTIVE, Evidence, Standing
from remediator.core.model import Level

UNKNOWN_AGE = float("inf")
# What a cluster may be able to do; the same words as remediator.clusters.base.Capability.
EVERYTHING = frozenset(
    {"gpu_quarantine", "gpu_reset", "reboot", "signal", "restart", "fail", "probe", "scale"}
)


@dataclass(frozen=True, slots=True)
class JobView:
    """A job on the target. `running` means that its processes live and hold their GPUs."""

    job_id: str
    running: bool


@dataclass(frozen=True, slots=True)
class PoolView:
    """How much of the target's pool there is, and how much of it is out by us."""

    name: str = ""
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
class Identity:
    """Whether alert and inventory mean the same hardware.

    `confirmed`: an alert's uuid equals the inventory's there. `problem` is a sentence that names both
    where they differ. Neither means that nobody can tell.
    """

    confirmed: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stops:
    """What stops the remediator, or everything disruptive, whatever the incident; sentences, empty
    where it does not.

    `pause`: who paused everything and why, and `pause_group` which pause it is. `other_installation`:
    another remediator acts on this cluster. `storm`: too much of the pool is reported unhealthy. `clock`:
    the wall clock jumped; `clock_left` are the seconds until it is trusted.
    `pinned`: a person returned the target to service, which is respected until `pinned_until`.
    """

    pause: str = ""
    pause_group: str = ""
    other_installation: str = ""
    storm: str = ""
    storm_group: str = ""
    clock: str = ""
    clock_left: float = 0.0
    pinned: str = ""
    pinned_until: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything outside the incident that a decision looks at.

    `quarantine_owner` is who quarantined exactly the target (None: nobody). `node_jobs` are the jobs
    anywhere on the target's node. `attempts` are (action, target, Unix seconds) of earlier steps.
    `kept` are the targets beside the incident's own that it quarantined and that still carry our name.
    `siblings` counts other GPUs of the node that fell ill within the hold. `checkpoint_at` is when
    the slowest job on the target last saved, None where nobody knows.

    `evidence` is how the incident's alerts stand; `alerts_active` whether one of them still fires, events
    of the past apart; `event_at` when the latest event that still counts happened (Unix seconds).
    `heard_lately`: an alert came by webhook a moment ago.
    `dead`: the target is lost or hung beyond doubt, so that it costs no budget. `accused` is the hardware
    that active alerts name. `job_known`: the cluster knows the job that the incident is about. `widens`:
    the node has no incident of its own that does nothing for its GPUs now.
    """

    level: Level
    paused: bool = False
    known: bool = True
    evidence: Evidence = ACTIVE
    alerts_active: bool = True
    event_at: float | None = None
    heard_lately: bool = True
    identity: Identity = Identity()
    stops: Stops = Stops()
    capabilities: frozenset[str] = EVERYTHING
    dead: bool = False
    accused: tuple[Target, ...] = ()
    job_known: bool = True
    widens: bool = True
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

    @property
    def firing(self) -> bool:
        """Whether the incident's alerts are not known to be over."""
        return self.evidence.standing is not Standing.OVER
