"""The remediator's data types: frozen dataclasses without I/O and without a clock."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fleetmedic.alerting import reports, stages
from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.action import ActionSpec, Effect
from remediator.core.action import Level as Level  # the model's users need it
from remediator.core.reasons import Reason

OWNER = "fleetmedic"


class IncidentState(StrEnum):
    """The state of an incident."""

    NEW = "NEW"
    TRIAGED = "TRIAGED"
    SUPPRESSED = "SUPPRESSED"
    HELD = "HELD"
    AWAIT_APPROVAL = "AWAIT_APPROVAL"
    QUARANTINED = "QUARANTINED"
    CHECKPOINTING = "CHECKPOINTING"
    DRAINING = "DRAINING"
    JOBS_MOVED = "JOBS_MOVED"
    REPAIRING = "REPAIRING"
    VERIFYING = "VERIFYING"
    PROBATION = "PROBATION"
    CLOSED = "CLOSED"
    OVERRIDDEN = "OVERRIDDEN"
    ESCALATED = "ESCALATED"
    FAILED = "FAILED"


# ESCALATED is not an end: the incident waits for an operator and absorbs new alerts on its target.
ENDED = frozenset(
    {IncidentState.SUPPRESSED, IncidentState.CLOSED, IncidentState.OVERRIDDEN, IncidentState.FAILED}
)


class FaultClass(StrEnum):
    """The type of a fault. An application fault never leads to a quarantine."""

    HARDWARE = "hardware"
    APPLICATION = "application"
    SERVICE = "service"


class StepState(StrEnum):
    """The state of a step. WITHDRAWN: announced but not started, so it does not count as an attempt."""

    PREPARED = "PREPARED"
    DONE = "DONE"
    FAILED = "FAILED"
    WITHDRAWN = "WITHDRAWN"


def shown_name(name: str) -> str:
    """Return the name of an alert for a sentence, also if the alert has no name."""
    return name if name.strip() else "(alert without a name)"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as received. `starts_at` is Unix seconds; `starts_text` is the same time as the
    sender wrote it.
    """

    fingerprint: str
    starts_at: float
    starts_text: str
    firing: bool
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the alert's name from its label `alertname`, or an empty string."""
        return self.labels.get("alertname", "")

    @property
    def shown_name(self) -> str:
        """Return the alert's name for a sentence."""
        return shown_name(self.name)

    @property
    def stage(self) -> str:
        """Return the alert's label `stage`, or an empty string."""
        return self.labels.get(stages.LABEL, "")

    @property
    def report(self) -> AlertReport:
        """Return what the alert reports: a condition, a loss or an event."""
        return reports.declared(self.name, self.labels.get(reports.LABEL, ""))

    @property
    def key(self) -> str:
        """Return the key of this firing period of the alert: cluster, fingerprint and start time in
        milliseconds."""
        # Rounded down like in Alertmanager's API; 0.0005 compensates for float rounding.
        start = math.floor(self.starts_at * 1000 + 0.0005)
        return f"{self.labels.get('cluster', '')}/{self.fingerprint}/{start}"


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing period of one alert, as stored in an incident.

    `starts_at` is Unix seconds; a start time in the future is replaced by the arrival time. `gpu`,
    `uuid`, `instrument`, `stage` and `reports` are labels of the alert, or empty.
    """

    key: str
    fingerprint: str
    starts_at: float
    starts_text: str
    alertname: str
    gpu: str = ""
    uuid: str = ""
    instrument: str = ""
    stage: str = ""
    reports: str = ""

    @property
    def report(self) -> AlertReport:
        """Return what the alert reports: a condition, a loss or an event."""
        return reports.declared(self.alertname, self.reports)

    @property
    def shown_name(self) -> str:
        """Return the alert's name for a sentence."""
        return shown_name(self.alertname)

    @property
    def may_act(self) -> bool:
        """Return whether more than a notification may follow from the alert."""
        return stages.may_act(self.stage)


@dataclass(frozen=True, slots=True)
class Rung:
    """One repair in a playbook's `ladder`.

    The repair is tried at most `max_attempts` times in `window` seconds, with `cooldown` seconds between
    two attempts.
    """

    action: ActionSpec
    deadline: float
    max_attempts: int
    window: float
    cooldown: float


@dataclass(frozen=True, slots=True)
class JobsPlan:
    """The part of a playbook about jobs on the target: whether to signal and restart them, and the limits.

    Times are in seconds. `grace` is the maximum wait for a checkpoint. `then`: the job itself fails
    repeatedly, and after `max_attempts` restarts in `window` this action ends it; None in a playbook
    that does not end jobs.
    """

    signal: bool
    restart: bool
    grace: float
    deadline: float
    max_attempts: int
    window: float
    then: ActionSpec | None = None


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """The part of a playbook about verification.

    `tests` must pass `passes` times in a row within `deadline` seconds.
    """

    tests: tuple[str, ...]
    passes: int
    deadline: float


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """The part of a playbook about scaling a workload.

    `step` is the number of replicas per step, negative to remove replicas. `per_replica` is the number of
    waiting requests allowed per replica. `cooldown` is the number of seconds between two steps.
    """

    step: int
    per_replica: float
    cooldown: float
    max_steps: int


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook: the alerts that it matches, and the actions that it allows for them."""

    name: str
    alertnames: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    target: TargetKind | None
    fault_class: FaultClass
    level: Level
    quarantine: bool = False
    witnesses: int = 1
    widen_to: str | None = None
    jobs: JobsPlan | None = None
    ladder: tuple[Rung, ...] = ()
    verify: VerifyPlan = VerifyPlan(("probe", "metrics"), 2, 120.0)
    probation: float = 0.0
    double_on_repeat: bool = True
    notify: bool = True
    scale: ScalePlan | None = None
    dead_man_signal: bool = False

    @property
    def notify_only(self) -> bool:
        """Return whether the playbook only sends notifications."""
        return not (self.quarantine or self.jobs or self.ladder or self.scale)

    @property
    def ends_jobs(self) -> bool:
        """Return whether the playbook treats jobs that fail by themselves, and ends them at its limit."""
        return self.jobs is not None and self.jobs.then is not None


@dataclass(frozen=True, slots=True)
class Step:
    """One action on one target. `id` and `attempt` together are unique in the incident.

    `action` is the action's name, `effect` its declared effect.
    """

    id: str
    action: str
    effect: Effect
    target: Target
    attempt: int
    op_id: str
    deadline: float
    jobs: tuple[str, ...] = ()
    also: tuple[Target, ...] = ()
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step with its state, times and result."""

    step: Step
    state: StepState
    started: float
    ended: float | None = None
    text: str = ""
    passed: bool | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's order: who ordered it, and why."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Incident:
    """The application of one playbook to one target. Only `lifecycle.evolve` changes an incident.

    `since` is the time of the last state change, `mark` the number of steps at that time. `base` is
    the number of steps before an operator ordered a retry; these steps do not count. `quarantined`
    are the targets that the incident must release. `held`, `held_text` and `held_since` say why and
    since when a guard holds the incident. `dead`: the target was lost or hung when it was
    quarantined, so it uses no budget until its repair. `requests` counts the requests for an approval;
    `approved` is the operator's approval of the current request.
    """

    id: str
    target: Target
    playbook: str
    level: Level
    opened: float
    state: IncidentState = IncidentState.NEW
    reason: Reason = Reason.ROUTED
    text: str = ""
    since: float = 0.0
    alerts: tuple[Episode, ...] = ()
    steps: tuple[StepRun, ...] = ()
    rung: int = 0
    until: float | None = None
    repaired_at: float | None = None
    quarantined: tuple[Target, ...] = ()
    recurrence: int = 0
    held: Reason | None = None
    rehearsed: bool = False
    mark: int = 0
    absorbed_by: str | None = None
    base: int = 0
    retried_at: float | None = None
    held_text: str = ""
    held_since: float | None = None
    released: Order | None = None
    dead: bool = False
    approved: Order | None = None
    requests: int = 0

    @property
    def ended(self) -> bool:
        """Return whether the incident has ended, so that a new incident on its target is possible."""
        return self.state in ENDED

    @property
    def prepared(self) -> StepRun | None:
        """Return the incident's announced step that has no result yet, or None."""
        return next((run for run in self.steps if run.state is StepState.PREPARED), None)

    @property
    def current_reason(self) -> tuple[Reason, str]:
        """Return the current reason code and its text. While the incident is on hold, they describe
        the hold."""
        return (self.held, self.held_text) if self.held else (self.reason, self.text)

    def attempts(self, step_id: str) -> int:
        """Return how often a step was announced, including withdrawn steps and steps before a retry."""
        return sum(run.step.id == step_id for run in self.steps)

    def counted_steps(self, first: int = 0) -> tuple[StepRun, ...]:
        """Return the steps that count as attempts, oldest first.

        Withdrawn steps, steps before index `first`, and steps before the last retry do not count.
        """
        since = self.steps[max(first, self.base) :]
        return tuple(run for run in since if run.state is not StepState.WITHDRAWN)

    def runs_with(self, effect: Effect) -> tuple[StepRun, ...]:
        """Return all runs of steps with that effect that count as attempts, oldest first."""
        return tuple(run for run in self.counted_steps() if run.step.effect is effect)

    @property
    def readmitted(self) -> bool:
        """Return whether the last return to service after probation succeeded."""
        runs = [run for run in self.runs_with(Effect.RELEASES) if run.step.id == run.step.action]
        return bool(runs) and runs[-1].state is StepState.DONE

    @property
    def only_notified(self) -> bool:
        """Return whether every step that counts was a notification."""
        return all(run.step.effect is Effect.NOTIFIES for run in self.counted_steps())

    def runs(self, step_id: str) -> tuple[StepRun, ...]:
        """Return all runs of a step that count as attempts, oldest first."""
        return tuple(run for run in self.counted_steps() if run.step.id == step_id)

    def last(self, step_id: str) -> StepRun | None:
        """Return the latest run of a step in this incident; None if the step has not run."""
        runs = self.runs(step_id)
        return runs[-1] if runs else None

    def last_in_state(self, step_id: str) -> StepRun | None:
        """Return the latest run of a step since the incident entered its current state, or None."""
        runs = [run for run in self.counted_steps(self.mark) if run.step.id == step_id]
        return runs[-1] if runs else None

    def done(self, step_id: str) -> bool:
        """Return whether the latest run of a step in this incident succeeded."""
        run = self.last(step_id)
        return run is not None and run.state is StepState.DONE


def incident_id(episode_key: str, target: Target) -> str:
    """Return the id of an incident, which depends only on its first alert and its target."""
    return "inc-" + hashlib.sha256(f"{target}|{episode_key}".encode()).hexdigest()[:10]


def op_id(incident: str, step: str, attempt: int) -> str:
    """Return the operation id of a step. The id is the same before and after a crash."""
    return hashlib.sha256(f"{incident}|{step}|{attempt}".encode()).hexdigest()[:20]
