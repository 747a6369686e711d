"""The facts that a decision may use. The engine gathers them before it decides. Read only."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.core.evidence import ACTIVE, AlertStatus, Evidence
from remediator.core.model import Level

UNKNOWN_AGE = float("inf")
# All capabilities that a cluster may have, as in remediator.clusters.base.Capability.
EVERYTHING = frozenset(
    {"gpu_quarantine", "gpu_reset", "reboot", "signal", "restart", "fail", "probe", "scale"}
)


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A job on the target. `running`: its processes are alive and hold their GPUs."""

    job_id: str
    running: bool


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The size of the target's pool, and how much of it the remediator keeps out of service."""

    name: str = ""
    gpus: int = 0
    nodes: int = 0
    gpus_out: int = 0
    nodes_out: int = 0
    recent: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorFacts:
    """Health of the monitoring. `watchdog_age` in seconds; `exporters_up` is a ratio, None if unknown."""

    watchdog_age: float = UNKNOWN_AGE
    prometheus: bool = False
    exporters_up: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingFacts:
    """The size and bounds of a scalable workload, and its waiting requests (None: unknown)."""

    wanted: int
    ready: int
    minimum: int
    maximum: int
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whether alert and inventory name the same hardware.

    `confirmed`: an alert's UUID equals the inventory's. `problem`: a text that names both if they
    differ. If neither is set, the identity is unknown.
    """

    confirmed: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stops:
    """What stops all actions, or all disruptive steps, for every incident. The texts are empty if
    nothing does.

    `pause`: who paused the remediator and why; `pause_group` identifies the pause. `other_installation`:
    another remediator acts on this cluster. `storm`: too much of the pool is reported unhealthy. `clock`:
    the wall clock jumped; `clock_left` is the number of seconds until it is trusted again.
    `pinned`: a person returned the target to service, which is respected until `pinned_until`; the same
    for the target's node as `node_pinned`.
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
    node_pinned: str = ""
    node_pinned_until: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything outside the incident that a decision uses.

    `quarantine_owner`: who quarantined exactly this target (None: nobody). `node_jobs`: all jobs on the
    target's node. `attempts`: (action, target, Unix seconds) of earlier steps. `kept`: further targets
    that the incident quarantined and whose quarantine the remediator still owns. `siblings`: number of
    other GPUs of the node that failed within the hold. `checkpoint_at`: time of the oldest last
    checkpoint of the jobs on the target, None if unknown.

    `evidence` is how the incident's alerts stand; `alerts_active` whether one of them still fires, events
    of the past apart; `event_at` when the latest event that still counts happened (Unix seconds).
    `heard_lately`: an alert came by webhook a moment ago.
    `dead`: the target is lost or hung beyond doubt, so that it costs no budget. `accused` is the hardware
    that active alerts name. `job_known`: the cluster knows the job that the incident is about. `widens`:
    the node has no incident of its own that does nothing for its GPUs now. `node_others`: the GPUs of the
    node that another owner keeps out of service, each with its owner.
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
    node_others: tuple[str, ...] = ()
    jobs: tuple[TargetJob, ...] = ()
    node_jobs: tuple[TargetJob, ...] = ()
    pool: PoolFacts = PoolFacts()
    sensors: SensorFacts = SensorFacts()
    attempts: tuple[tuple[str, Target, float], ...] = ()
    witnesses: frozenset[str] = frozenset()
    siblings: int = 0
    exporter_down: bool = False
    checkpoint_at: float | None = None
    workload: ScalingFacts | None = None

    @property
    def firing(self) -> bool:
        """Whether an alert of the incident is, or may still be, active."""
        return self.evidence.standing is not AlertStatus.OVER
