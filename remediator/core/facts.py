"""The data types that describe the environment of an incident. The engine fills them before it decides."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.core.action import Capability
from remediator.core.evidence import ACTIVE, AlertStatus, Evidence
from remediator.core.model import Level

UNKNOWN_AGE = float("inf")
EVERYTHING = frozenset[str](Capability)


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A job on the target. `running`: its processes are alive and hold their GPUs."""

    job_id: str
    running: bool


@dataclass(frozen=True, slots=True)
class JobFailures:
    """The failures of an incident's job, and the data that show whether the job itself causes them.

    `at` is the time at which the command of the job's latest attempt failed by itself (Unix seconds);
    None if it did not, or if the cluster cannot tell. `node` is the node of this attempt, empty if
    unknown; `text` describes the failure. `alerted_at` is the start of the latest active alert on the
    job for which another playbook would act. `in_service` are the nodes on which jobs can be placed.
    `suspects` are the nodes whose hardware alerts or incidents have reported as unhealthy since the
    incident was opened. `others` is the number of other jobs that fail repeatedly at the same time.
    """

    at: float | None = None
    node: str = ""
    text: str = ""
    alerted_at: float | None = None
    in_service: tuple[str, ...] = ()
    suspects: frozenset[str] = frozenset()
    others: int = 0


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The size of the target's pool, and the number of GPUs and nodes that the remediator keeps out of service.

    `recent` contains the times of quarantines (Unix seconds).
    """

    name: str = ""
    gpus: int = 0
    nodes: int = 0
    gpus_out: int = 0
    nodes_out: int = 0
    recent: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorFacts:
    """The state of the monitoring: Watchdog, Prometheus and exporters.

    `watchdog_age` is the number of seconds since the last Watchdog alert. `prometheus`: Prometheus
    responds. `exporters_up` is the share of exporters that are up (0 to 1), None if unknown.
    """

    watchdog_age: float = UNKNOWN_AGE
    prometheus: bool = False
    exporters_up: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingFacts:
    """The replicas of a scalable workload, their limits, and the number of waiting requests (None: unknown)."""

    wanted: int
    ready: int
    minimum: int
    maximum: int
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """The result of comparing the alerts' hardware with the cluster's inventory.

    `confirmed`: the UUID of an alert equals the UUID in the inventory. `problem` names both UUIDs
    if they differ. If neither is set, the identity of the hardware is unknown.
    """

    confirmed: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stops:
    """The conditions that block actions on the target, as strings; an empty string means no block.

    `pause`: who paused the remediator and why; `pause_group` identifies the pause. `other_installation`:
    another remediator acts on this cluster. `storm`: too much of the pool is reported unhealthy.
    `clock`: the wall clock jumped; `clock_left` is the number of seconds until the clock is trusted
    again. `stalls`: several jobs stalled together. `pinned`: an operator returned the target to service,
    so it is not quarantined again before `pinned_until`. `node_pinned` is the same for the target's
    node.
    """

    pause: str = ""
    pause_group: str = ""
    other_installation: str = ""
    storm: str = ""
    storm_group: str = ""
    clock: str = ""
    clock_left: float = 0.0
    stalls: str = ""
    pinned: str = ""
    pinned_until: float | None = None
    node_pinned: str = ""
    node_pinned_until: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All data outside the incident that a decision may use.

    Quarantine: `quarantine_owner` is the owner of the target's own quarantine, None without a
    quarantine. `kept` are further targets that the incident quarantined and that still belong to the
    remediator. `node_others` names the node's GPUs that other users or programs keep out of service.

    Alerts: `evidence` is the combined status of the incident's alerts. `alerts_active`: an alert is
    firing now, past events excluded. `event_at` is the time of the latest event that still counts
    (Unix seconds). `recently_received`: an alert was received so recently that it needs no confirmation.
    `reported_hardware` is all hardware that active alerts report as unhealthy, in order. `siblings` is the number of
    the node's other GPUs that failed at about the same time.

    Target: `known`: the cluster responds and knows the target. `dead`: the target is certainly lost
    or hung, so its quarantine uses no budget. `job_known`: the cluster knows the job of the
    incident. `node_jobs` are all jobs on the target's node. `checkpoint_at` is the time of the last
    checkpoint; for several jobs, the oldest of these times. It is None if unknown. `attempts`
    contains (action, target, Unix seconds) of earlier steps. `widens`: an incident of the node may
    take over this incident. `failures` is known only for a playbook that ends jobs.
    """

    level: Level
    paused: bool = False
    known: bool = True
    evidence: Evidence = ACTIVE
    alerts_active: bool = True
    event_at: float | None = None
    recently_received: bool = True
    identity: Identity = Identity()
    stops: Stops = Stops()
    capabilities: frozenset[str] = EVERYTHING
    dead: bool = False
    reported_hardware: tuple[Target, ...] = ()
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
    failures: JobFailures = JobFailures()

    @property
    def firing(self) -> bool:
        """Return whether an alert of the incident is active, or may be."""
        return self.evidence.standing is not AlertStatus.OVER
