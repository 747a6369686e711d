"""Find the playbook and the target of an alert.

The first playbook that matches is used. If none matches, the result contains the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetmedic.alerting import stages
from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.kernel.labels import CLUSTER, GPU, JOB_ID, NODE, SERVICE, Target, TargetKind
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Incident, IncidentState, Level, Playbook
from remediator.core.reasons import Reason, sentence

_NAMES = {TargetKind.NODE: NODE, TargetKind.JOB: JOB_ID, TargetKind.WORKLOAD: SERVICE}
# Targets that people keep in or out of service are no signal against the node, and are not changed.
KEPT_BY_OTHERS = frozenset({Reason.OTHER_OWNER, Reason.PINNED})
# A node's incident takes over the incidents of its GPUs that have not started a repair.
BEFORE_REPAIR = frozenset(
    {
        IncidentState.NEW,
        IncidentState.TRIAGED,
        IncidentState.HELD,
        IncidentState.QUARANTINED,
        IncidentState.CHECKPOINTING,
        IncidentState.DRAINING,
        IncidentState.JOBS_MOVED,
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """The playbook and the target of an alert; if one is missing, `reason` and `text` say why."""

    playbook: Playbook | None
    target: Target | None
    reason: Reason
    text: str


def target_of(labels: Mapping[str, str], kind: TargetKind | None) -> Target | None:
    """Return the target of that kind in the labels. Without a kind, return the most specific target.

    Labels are untrusted input: an invalid node, job or workload name gives no target.
    """
    kinds = (TargetKind.GPU, TargetKind.NODE, TargetKind.JOB, TargetKind.WORKLOAD)
    for one in (kind,) if kind else kinds:
        label = "" if one is TargetKind.GPU else labels.get(_NAMES[one], "")
        text = (
            f"gpu/{labels.get(NODE, '')}/{labels.get(GPU, '')}" if not label else f"{one}/{label}"
        )
        try:
            found = Target.parse(text)
        except UserError:
            continue
        if found.kind is one:
            return found
    return None


def route(alert: Alert, playbooks: tuple[Playbook, ...], cluster: str) -> Route:
    """Return the first playbook that matches the alert, with the alert's target.

    A playbook without alert names matches every alert. An alert with a missing or different label
    `cluster` is rejected, because node names can repeat across clusters. Only the Watchdog needs no
    cluster, because it tests the alert path. If the alert's stage allows notifications only, playbooks that
    do more are left out. If the alert reports an application error, playbooks that quarantine are left out.
    """
    name, labels = alert.name, alert.labels
    ours = labels.get(CLUSTER) == cluster
    left_out: _LeftOut | None = None
    for playbook in playbooks:
        if not ours and not playbook.dead_man_signal:
            continue
        if playbook.alertnames and name not in playbook.alertnames:
            continue
        if any(labels.get(key) != value for key, value in playbook.labels):
            continue
        if unfit := _unfit(alert, playbook):
            left_out = left_out or unfit
            continue
        target = target_of(alert.labels, playbook.target)
        if playbook.dead_man_signal:
            reason = Reason.DEAD_MAN_SIGNAL
            return Route(playbook, None, reason, sentence(reason))
        if target is None:
            what = playbook.target or "target"
            text = (
                f"Playbook {playbook.name} matches, but no label of the alert names a valid {what}."
            )
            return Route(playbook, None, Reason.NO_TARGET, text)
        text = f"Playbook {playbook.name} matches {alert.shown_name} on {target}."
        if left_out is not None:
            return Route(playbook, target, left_out.reason, f"{text} {left_out.text}")
        return Route(playbook, target, Reason.ROUTED, text)
    if not ours:
        named = f"label cluster={labels[CLUSTER]!r}" if CLUSTER in labels else "no label `cluster`"
        text = f"The alert has {named}; this remediator manages cluster {cluster!r}."
        return Route(None, None, Reason.OTHER_CLUSTER, shortened(text, 300))
    if left_out is not None:
        target = target_of(labels, left_out.playbook.target)
        return Route(None, target, left_out.reason, left_out.text)
    text = f"No playbook matches {alert.shown_name}."
    return Route(None, target_of(alert.labels, None), Reason.NO_PLAYBOOK, text)


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A playbook that matches an alert but must not be used for it, with the reason."""

    playbook: Playbook
    reason: Reason
    why: str

    @property
    def text(self) -> str:
        return f"{self.why} Therefore playbook {self.playbook.name} is not used."


def _unfit(alert: Alert, playbook: Playbook) -> _LeftOut | None:
    """Return why a playbook must not be used for an alert, by what the alert's rule declares."""
    if not playbook.notify_only and not stages.may_act(alert.stage):
        return _LeftOut(playbook, Reason.STAGE, notifies_only(alert.stage))
    if playbook.quarantine and alert.report is AlertReport.APPLICATION_ERROR:
        reason = Reason.APPLICATION_ERROR
        return _LeftOut(playbook, reason, sentence(reason))
    return None


def notifies_only(stage: str) -> str:
    """Return the sentence that an alert's stage allows notifications only."""
    return f"The alert's stage is {shortened(stage, 60)!r}, which allows notifications only."


def repaired_since_fault(
    alert: Alert,
    target: Target,
    journal_state: JournalState,
    event_at: float | None = None,
    active_since: float | None = None,
) -> bool:
    """Return whether the target was repaired after the fault that the alert reports.

    `event_at` is the time of the event, if metrics show it. Otherwise the later of two times is
    used: the alert's start, and `active_since`, the start of its latest episode in Prometheus.
    Alertmanager keeps the earliest start that any sender gave. A repair of the node counts for its
    GPUs too.
    """
    cured = last_repaired_at(target, journal_state)
    return cured > 0 and (event_at or max(alert.starts_at, active_since or 0.0)) <= cured


def last_repaired_at(target: Target, journal_state: JournalState) -> float:
    """Return when the target or its node was last repaired (Unix seconds); 0 if never."""
    return max(journal_state.cured.get(one, 0.0) for one in _covering(target))


def holder(target: Target, journal_state: JournalState) -> Incident | None:
    """Return the open incident to which an alert on the target belongs: the incident of the target,
    otherwise the incident of its node.

    A node's incident that takes no action for its GPUs does not absorb their alerts.
    """
    found = (journal_state.incident_on(one) for one in _covering(target))
    return next(
        (one for one in found if one and (one.target == target or covers_gpus(one, journal_state))),
        None,
    )


def may_act(incident: Incident) -> bool:
    """Return whether an incident may do more than notify people and record its plan."""
    return incident.level is not Level.OBSERVE


def covers_gpus(node: Incident, journal_state: JournalState) -> bool:
    """Return whether a node's incident also handles the node's GPUs.

    The incident does not handle the GPUs while it only observes or is on hold. It also does not handle
    the GPUs if none of its alerts is firing and it has repaired nothing.
    """
    if not may_act(node) or node.held is not None or node.state is IncidentState.HELD:
        return False
    if node.reason is Reason.RELEASED_BY_OTHERS:
        return False
    starts = node.state in (IncidentState.NEW, IncidentState.TRIAGED)
    if not starts and node.target not in node.quarantined:
        return False  # the node is in service: a quarantine of its GPUs has to come from elsewhere
    return (
        node.repaired_at is not None
        or node.state is IncidentState.ESCALATED
        or journal_state.firing(node)
    )


def absorbable(node: Target, journal_state: JournalState) -> tuple[Incident, ...]:
    """Return the incidents of a node's GPUs that the node's incident takes over, oldest first."""
    return tuple(
        one
        for one in journal_state.open_on(node.name)
        if one.target.kind is TargetKind.GPU
        and one.state in BEFORE_REPAIR
        and one.held not in KEPT_BY_OTHERS
    )


def _covering(target: Target) -> tuple[Target, ...]:
    if target.kind is TargetKind.GPU:
        return target, Target(TargetKind.NODE, target.name)
    return (target,)
