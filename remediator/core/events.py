"""Define the events of the journal and their constructors.

All events have the same fields; only the constructors here fill `data`. `data` is plain JSON, so
that an event can be restored from its journal record without loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from fleetmedic.alerting import instruments, reports, stages
from fleetmedic.kernel.labels import GPU, UUID, Target
from remediator.core.action import Effect
from remediator.core.model import Alert, Episode, Incident, IncidentState, Level, Step
from remediator.core.reasons import Reason, sentence


class Kind(StrEnum):
    """The type of an event, as stored in the journal."""

    ALERT_RECEIVED = "AlertReceived"
    SUPPRESSED = "Suppressed"
    INCIDENT_OPENED = "IncidentOpened"
    ALERT_ABSORBED = "AlertAbsorbed"
    STATE_CHANGED = "StateChanged"
    STEP_PREPARED = "StepPrepared"
    STEP_DONE = "StepDone"
    STEP_FAILED = "StepFailed"
    STEP_WITHDRAWN = "StepWithdrawn"
    INHERITED = "Inherited"
    HELD = "Held"
    WOULD_DO = "WouldDo"
    VERIFIED = "Verified"
    NOTIFIED = "Notified"
    DELIVERED = "Delivered"
    ORDERED = "Ordered"
    APPROVED = "Approved"
    STORM_BEGAN = "StormBegan"
    STORM_ENDED = "StormEnded"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    RECONCILED = "Reconciled"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the journal. `at` is Unix seconds; `seq` is 0 until the journal assigns a number."""

    kind: Kind
    at: float
    incident: str | None = None
    target: str | None = None
    reason: Reason | None = None
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0


def alert_received(
    alert: Alert,
    target: Target | None,
    at: float,
    source: str,
    ignored: tuple[Reason, str] | None = None,
) -> Event:
    """Return the event for a received alert. `source` is the webhook or Alertmanager's API.

    `ignored` is the reason, with its text, why a firing alert leads to no action. Then no other event
    about the alert follows.
    """
    reason = Reason.ALERT_RECEIVED if alert.firing else Reason.ALERT_RESOLVED
    status = "firing" if alert.firing else "resolved"
    data: dict[str, Any] = {
        "alertname": alert.name,
        "fingerprint": alert.fingerprint,
        "startsAt": alert.starts_text,
        "starts_at": alert.starts_at,
        "status": status,
        "labels": dict(alert.labels),
        "key": alert.key,
        "source": source,
    }
    text = f"{alert.shown_name} is {status}."
    if ignored is not None:
        reason, why = ignored
        data["suppressed"] = True
        text = f"{text} {why}"
    return Event(Kind.ALERT_RECEIVED, at, None, _text(target), reason, text, data)


def suppressed(alert: Alert, target: Target | None, at: float, reason: Reason, text: str) -> Event:
    """Return the event for an alert that leads to no action, with the reason.

    An alert for which this is known when it arrives has one event only (`alert_received`).
    """
    data = {"alertname": alert.name, "fingerprint": alert.fingerprint, "key": alert.key}
    return Event(Kind.SUPPRESSED, at, None, _text(target), reason, text, data)


def opened(
    identity: str,
    target: Target,
    playbook: str,
    level: Level,
    at: float,
    recurrence: int,
    text: str,
) -> Event:
    """Return the event that opens an incident.

    `recurrence` is the number of recent incidents on the target that ended with a repair.
    """
    data = {"playbook": playbook, "level": str(level), "recurrence": recurrence}
    return Event(Kind.INCIDENT_OPENED, at, identity, str(target), Reason.ROUTED, text, data)


def absorbed(incident: str, target: Target, episode: Episode, at: float) -> Event:
    """Return the event that adds an alert to an incident."""
    text = f"{episode.shown_name} belongs to this incident."
    data = asdict(episode)
    return Event(Kind.ALERT_ABSORBED, at, incident, str(target), Reason.ABSORBED, text, data)


def moved(
    incident: Incident, state: IncidentState, at: float, reason: Reason, text: str = "", **more: Any
) -> Event:
    """Return the event that changes an incident's state.

    `more` may contain `until` (Unix seconds), `rung` and `absorbed_by` (an incident id).
    """
    data: dict[str, Any] = {"from": str(incident.state), "state": str(state)}
    data.update({key: value for key, value in more.items() if value is not None})
    text = text or sentence(reason)
    return Event(Kind.STATE_CHANGED, at, incident.id, str(incident.target), reason, text, data)


def inherited(heir: Incident, from_: Incident, at: float) -> Event:
    """Return the event by which a node's incident takes over the quarantines of a GPU's incident."""
    text = f"The node's incident takes over {from_.id} on {from_.target}."
    data = {"from": from_.id, "targets": [str(target) for target in from_.quarantined]}
    return Event(Kind.INHERITED, at, heir.id, str(heir.target), Reason.WIDENED, text, data)


def step_event(
    kind: Kind,
    incident: Incident,
    step: Step,
    at: float,
    reason: Reason,
    text: str = "",
    *,
    passed: bool | None = None,
    dead: bool = False,
) -> Event:
    """Return the event for a step that was announced, is done, has failed, or was withdrawn before it started.

    The event of an announced step contains all data that is needed to continue after a crash.
    `dead`: the target was lost or hung when it was quarantined.
    """
    data: dict[str, Any] = {
        "action": step.action,
        "effect": str(step.effect),
        "step": step.id,
        "attempt": step.attempt,
        "op_id": step.op_id,
        "on": str(step.target),
    }
    if kind is Kind.STEP_PREPARED:
        data["deadline"] = step.deadline
        data["jobs"] = list(step.jobs)
        data["also"] = [str(target) for target in step.also]
        data["replicas"] = step.replicas
    if dead:
        data["dead"] = True
    if passed is not None:
        data["passed"] = passed
    text = text or sentence(reason)
    return Event(kind, at, incident.id, str(incident.target), reason, text, data)


def noted(
    kind: Kind, incident: Incident, at: float, reason: Reason, text: str = "", **data: Any
) -> Event:
    """Return an event that leaves the incident's state unchanged, such as HELD or WOULD_DO."""
    text = text or sentence(reason)
    return Event(kind, at, incident.id, str(incident.target), reason, text, data)


def paused(by: str, why: str, at: float) -> Event:
    """Return the event for an operator's command to pause all actions."""
    text = f"{by} paused all actions: {why}"
    return Event(Kind.PAUSED, at, reason=Reason.PAUSED, text=text, data={"by": by, "why": why})


def resumed(by: str, at: float) -> Event:
    """Return the event for an operator's command to resume all actions."""
    text = f"{by} resumed all actions."
    return Event(Kind.RESUMED, at, reason=Reason.RESUMED, text=text, data={"by": by})


def notified(
    at: float,
    op_id: str,
    body: Mapping[str, Any],
    *,
    incident: Incident | None = None,
    occasion: str = "",
    group: str = "",
    members: Sequence[str] = (),
) -> Event:
    """Return the event that queues a notification.

    `body` is sent to each address until it is delivered or expires. `group` identifies a common
    cause of many incidents, such as a pause or a storm; only one message is sent for it and the
    incidents `members`.
    """
    data: dict[str, Any] = {"occasion": occasion, "op_id": op_id, "body": dict(body)}
    if group:
        data["group"] = group
    if members:
        data["members"] = list(members)
    identity, target = (incident.id, str(incident.target)) if incident else (None, None)
    return Event(Kind.NOTIFIED, at, identity, target, Reason.NOTIFIED, str(body["text"]), data)


def delivered(at: float, op_id: str, address: str, *, expired: bool = False) -> Event:
    """Return the event for a message that was delivered to one address, or expired.

    `address` is a hash of the URL.
    """
    data = {"op_id": op_id, "address": address, "expired": expired}
    text = "The message expired." if expired else "The message was delivered."
    return Event(Kind.DELIVERED, at, text=text, data=data)


def ordered(
    order: str, target: Target, by: str, why: str, at: float, incident: Incident | None
) -> Event:
    """Return the event for an operator's command about a target. `order` is always `release`."""
    reason = Reason.RELEASED_BY_PERSON
    text = f"{by} ordered: {order} {target}. {why}".strip()
    data = {"order": order, "by": by, "why": why}
    return Event(
        Kind.ORDERED, at, incident.id if incident else None, str(target), reason, text, data
    )


def approved(incident: Incident, by: str, why: str, at: float) -> Event:
    """Return the event for an operator's approval of the incident's current request."""
    text = f"{by} approved the return of {incident.target} to service. {why}".strip()
    data = {"request": incident.requests, "by": by, "why": why}
    return Event(Kind.APPROVED, at, incident.id, str(incident.target), Reason.APPROVED, text, data)


def storm_began(pool: str, at: float, text: str) -> Event:
    """Return the event for the start of a storm: too much of a pool is reported unhealthy at the
    same time.

    While a storm lasts, no disruptive step starts in the pool.
    """
    return Event(Kind.STORM_BEGAN, at, reason=Reason.STORM, text=text, data={"pool": pool})


def storm_ended(pool: str, at: float) -> Event:
    """Return the event for the end of a storm: the pool has stayed below the limit for long enough."""
    text = f"The storm in pool {pool} is over; disruptive steps resume one at a time."
    return Event(Kind.STORM_ENDED, at, reason=Reason.STORM, text=text, data={"pool": pool})


def reconciled(at: float, firing: int, missed: int, incidents: int) -> Event:
    """Return the event for one comparison of Alertmanager, cluster and journal."""
    text = f"Firing alerts: {firing}. Alerts that were missed before: {missed}. Open incidents: {incidents}."
    data = {"firing": firing, "missed": missed, "open": incidents}
    return Event(Kind.RECONCILED, at, text=text, data=data)


def step_of(data: Mapping[str, Any]) -> Step:
    """Return the step of a StepPrepared event, given the event's data."""
    return Step(
        id=data["step"],
        action=data["action"],
        effect=Effect(data["effect"]),
        target=Target.parse(data["on"]),
        attempt=data["attempt"],
        op_id=data["op_id"],
        deadline=data["deadline"],
        jobs=tuple(data["jobs"]),
        also=tuple(Target.parse(text) for text in data["also"]),
        replicas=data["replicas"],
    )


def episode_of(alert: Alert, now: float) -> Episode:
    """Return the episode of an alert. A start time in the future is replaced by `now`."""
    start = min(alert.starts_at, now)
    kept = (GPU, UUID, instruments.LABEL, stages.LABEL, reports.LABEL)
    labels = (alert.labels.get(name, "") for name in kept)
    return Episode(alert.key, alert.fingerprint, start, alert.starts_text, alert.name, *labels)


def alert_of(event: Event) -> Alert:
    """Return the alert of an AlertReceived event."""
    data = event.data
    firing = data["status"] == "firing"
    return Alert(data["fingerprint"], data["starts_at"], data["startsAt"], firing, data["labels"])


def _text(target: Target | None) -> str | None:
    return None if target is None else str(target)
