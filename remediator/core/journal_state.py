"""The remediator's state, computed from the events of the journal.

Replay and the running engine use the same `apply`, one event at a time in journal order, so both
reach the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fleetmedic.kernel.labels import Target
from remediator.core.action import Effect
from remediator.core.events import Event, Kind, alert_of
from remediator.core.lifecycle import IllegalTransition, evolve, new_incident
from remediator.core.model import Alert, Incident, IncidentState, StepRun
from remediator.core.reasons import Reason

# A message expires after a day; it is kept a little longer, so that the expiry can be recorded.
KEEP_MESSAGES = 90_000.0
# While Alertmanager withholds an alert, no action follows; afterwards the alert is decided again.
WITHHELD = frozenset({Reason.SILENCED, Reason.INHIBITED, Reason.MUTED})
_OF_INCIDENTS = frozenset(Kind) - {
    Kind.ALERT_RECEIVED,
    Kind.SUPPRESSED,
    Kind.PAUSED,
    Kind.RESUMED,
    Kind.RECONCILED,
    Kind.DELIVERED,
    Kind.STORM_BEGAN,
    Kind.STORM_ENDED,
}


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One firing period of an alert: the latest alert received, and the incident that handles it.

    `suppressed`: the decision was to take no action.
    """

    alert: Alert
    received: float
    incident: str | None = None
    suppressed: bool = False

    @property
    def undecided(self) -> bool:
        """Return whether the alert is firing and no decision about it has been made."""
        return self.alert.firing and self.incident is None and not self.suppressed


@dataclass(frozen=True, slots=True)
class Pause:
    """The current pause: who paused the remediator, why, and since when (Unix seconds)."""

    by: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class Pin:
    """An operator's decision to return a target to service or to keep it out: who, why, when (Unix
    seconds)."""

    by: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class Storm:
    """A pool with too much hardware reported unhealthy at the same time: since when, and a
    human-readable description."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A queued notification. `settled`: hashes of the addresses that received it or for which it expired."""

    op_id: str
    at: float
    body: Mapping[str, Any]
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One announced step: action, target, time (Unix seconds). `dead`: the target was lost or hung."""

    action: str
    effect: Effect
    target: Target
    at: float
    dead: bool = False


class JournalState:
    """The state that results from all events of the journal. Only `apply` changes it."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self.open: dict[Target, str] = {}
        # The open incidents that took a target out of service or are about to. Replaced at each change,
        # so that its identity shows whether it changed.
        self.taking: dict[str, Incident] = {}
        # The incidents at level observe that would keep their target out of service now.
        self.rehearsed: dict[str, Incident] = {}
        self.episodes: dict[str, EpisodeRecord] = {}
        self.attempts: dict[Target, list[Attempt]] = {}
        self.quarantines: list[Attempt] = []
        self.refused = 0
        self.cured: dict[Target, float] = {}
        self.pause: Pause | None = None
        self.pins: dict[Target, Pin] = {}
        # Replaced at each change, as `taking`.
        self.kept: dict[Target, Pin] = {}
        self.storms: dict[str, Storm] = {}
        self.storm_ended: dict[str, float] = {}
        self.outbox: dict[str, Message] = {}
        self.groups: dict[str, float] = {}
        # The incidents of which people were notified together, by the common cause.
        self.covered: dict[str, frozenset[str]] = {}
        self.last_at = 0.0
        self.seq = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JournalState) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def incident_on(self, target: Target) -> Incident | None:
        """Return the open incident on a target, or None."""
        found = self.open.get(target)
        return self.incidents[found] if found else None

    def open_incidents(self) -> tuple[Incident, ...]:
        """Return every incident that has not ended, oldest first."""
        return tuple(self.incidents[one] for one in self.open.values())

    def undecided(self) -> tuple[Alert, ...]:
        """Return the firing alerts without a decision, oldest first."""
        return tuple(one.alert for one in self.episodes.values() if one.undecided)

    def has_recorded(self, alert: Alert) -> bool:
        """Return whether the journal already contains this episode with this status, so that the
        alert is a duplicate.
        """
        record = self.episodes.get(alert.key)
        return record is not None and record.alert.firing == alert.firing

    def firing(self, incident: Incident) -> bool:
        """Return whether any alert of the incident is firing, according to the alerts received."""
        records = (self.episodes.get(episode.key) for episode in incident.alerts)
        return any(record is not None and record.alert.firing for record in records)

    def still_firing(self, incident: Incident) -> tuple[str, ...]:
        """Return the names of the incident's alerts that still fire although the incident has ended.

        After a repair, an alert about a past event may fire for some time. Such an alert does not count.
        """
        if not incident.ended or incident.reason is Reason.READMITTED:
            return ()
        records = (self.episodes.get(episode.key) for episode in incident.alerts)
        own = (one.alert for one in records if one is not None and one.incident == incident.id)
        return tuple(dict.fromkeys(alert.shown_name for alert in own if alert.firing))

    def recurrence(self, target: Target, since: float) -> int:
        """Return how often the target was repaired and returned to service since `since` (Unix seconds)."""
        return sum(
            1
            for one in self.incidents.values()
            if one.target == target
            and one.state is IncidentState.CLOSED
            and one.repaired_at is not None
            and one.since >= since
        )

    def apply(self, event: Event) -> None:
        """Apply one event. An illegal transition changes nothing and is only counted."""
        try:
            self._apply(event)
        except IllegalTransition:
            self.refused += 1
        self.seq = event.seq or self.seq
        self.last_at = event.at

    def _apply(self, event: Event) -> None:
        if event.kind is Kind.INCIDENT_OPENED:
            incident = new_incident(event)
            self.incidents[incident.id] = incident
            self.open[incident.target] = incident.id
            return
        if (fold := _FOLDS.get(event.kind)) is not None:
            fold(self, event)
        if event.kind in _OF_INCIDENTS:
            self._evolve(event)

    def _pause(self, event: Event) -> None:
        self.pause = Pause(event.data["by"], event.data["why"], event.at)

    def _resume(self, event: Event) -> None:
        self.pause = None

    def _begin_storm(self, event: Event) -> None:
        self.storms[event.data["pool"]] = Storm(event.at, event.text)

    def _end_storm(self, event: Event) -> None:
        self.storms.pop(event.data["pool"], None)
        self.storm_ended[event.data["pool"]] = event.at

    def _queue_message(self, event: Event) -> None:
        """Queue a message until every address has received it; drop messages older than KEEP_MESSAGES."""
        data = event.data
        if "body" not in data:  # written by an earlier version, which sent messages at once
            return
        for old in [key for key, one in self.outbox.items() if event.at - one.at > KEEP_MESSAGES]:
            del self.outbox[old]
        if data["op_id"] in self.outbox:  # two lanes noticed the same cause at once
            return
        self.outbox[data["op_id"]] = Message(data["op_id"], event.at, data["body"])
        if data.get("group"):
            group = data["group"]
            self.groups[group] = event.at
            if "members" in data:
                self.covered[group] = self.covered.get(group, frozenset()) | set(data["members"])

    def _record_delivery(self, event: Event) -> None:
        message = self.outbox.get(event.data["op_id"])
        if message is not None:
            settled = message.settled | {event.data["address"]}
            self.outbox[message.op_id] = replace(message, settled=settled)

    def _pin_ordered(self, event: Event) -> None:
        if event.target:
            target = Target.parse(event.target)
            self.pins[target] = Pin(event.data["by"], event.data["why"], event.at)
            self._stop_keeping(target)

    def _stop_keeping(self, target: Target) -> None:
        if target in self.kept:
            self.kept = {one: pin for one, pin in self.kept.items() if one != target}

    def _receive(self, event: Event) -> None:
        alert = alert_of(event)
        before = self.episodes.get(alert.key)
        if before is None or self._began_again(before, alert):
            self.episodes[alert.key] = EpisodeRecord(alert, event.at)
        else:
            self.episodes[alert.key] = replace(before, alert=alert)
            self._update_rehearsed(self.incidents.get(before.incident or ""))

    def _began_again(self, before: EpisodeRecord, alert: Alert) -> bool:
        """Return whether an alert fires again after it was resolved before any action of the
        remediator.

        Alertmanager loses its alerts in a restart and omits silenced alerts, so the same episode can return.
        """
        incident = self.incidents.get(before.incident or "")
        idle = incident is not None and incident.ended and incident.reason is Reason.RESOLVED_FIRST
        return idle and alert.firing and not before.alert.firing

    def _suppress(self, event: Event) -> None:
        record = self.episodes.get(event.data["key"])
        if record is not None and event.reason not in WITHHELD:
            self.episodes[event.data["key"]] = replace(record, suppressed=True)

    def _evolve(self, event: Event) -> None:
        incident = self.incidents.get(event.incident or "")
        if incident is None:
            return
        after = evolve(incident, event)
        self.incidents[after.id] = after
        self._update_taking(after)
        self._update_rehearsed(after)
        if event.kind is Kind.ALERT_ABSORBED:
            record = self.episodes.get(event.data["key"])
            if record is not None:
                self.episodes[event.data["key"]] = replace(record, incident=after.id)
        if event.kind is Kind.STEP_PREPARED:
            step = after.steps[-1].step
            dead = event.data.get("dead", False)
            attempt = Attempt(step.action, step.effect, step.target, event.at, dead)
            self.attempts.setdefault(step.target, []).append(attempt)
            if step.effect is Effect.QUARANTINES:
                self.quarantines.append(attempt)
                self._stop_keeping(step.target)
        if event.kind is Kind.STEP_WITHDRAWN and incident.prepared is not None:
            self._forget(incident.prepared)
        if after.ended and not incident.ended:
            self._end(after, event.at)

    def _update_taking(self, incident: Incident) -> None:
        """Update the index of incidents that take targets out of service."""
        before = self.taking.get(incident.id)
        if incident.ended or not _takes(incident):
            if before is not None:
                self.taking = {key: one for key, one in self.taking.items() if key != incident.id}
        elif before is None or _taken(before) != _taken(incident):
            self.taking = self.taking | {incident.id: incident}

    def _update_rehearsed(self, incident: Incident | None) -> None:
        """Update the index of incidents at level observe that would keep their target out of service."""
        if incident is None or not incident.rehearsed:
            return
        if incident.reason is Reason.OBSERVE_ONLY and self.firing(incident):
            self.rehearsed[incident.id] = incident
        else:
            self.rehearsed.pop(incident.id, None)

    def _end(self, ended: Incident, at: float) -> None:
        if ended.reason is Reason.RELEASED_BY_OTHERS:
            self.pins[ended.target] = Pin("another user or program", ended.text, at)
        if ended.reason is Reason.CLOSED_BY_PERSON:
            # The operator keeps the target out of service: no later incident repairs or releases it.
            kept = {one: Pin("an operator", ended.text, at) for one in ended.quarantined}
            self.kept = self.kept | kept
        if self.open.get(ended.target) == ended.id:
            del self.open[ended.target]
        if ended.repaired_at is not None:
            self.cured[ended.target] = max(self.cured.get(ended.target, 0), ended.repaired_at)

    def _forget(self, run: StepRun) -> None:
        """Remove the attempt of a step that was announced and withdrawn."""
        about = (run.step.action, run.step.target, run.started)
        for attempts in (self.attempts.get(run.step.target, []), self.quarantines):
            for one in attempts:
                if (one.action, one.target, one.at) == about:
                    attempts.remove(one)
                    break


def _takes(incident: Incident) -> bool:
    """Return whether an incident took a target out of service, or is about to."""
    run = incident.prepared
    about_to = run is not None and run.step.effect is Effect.QUARANTINES
    return bool(incident.quarantined) or incident.dead or about_to


def _taken(incident: Incident) -> tuple[object, ...]:
    """Return the properties by which an incident counts as taking targets out of service."""
    run = incident.prepared
    about_to = run.step.target if run and run.step.effect is Effect.QUARANTINES else None
    return incident.quarantined, incident.dead, incident.repaired_at, about_to


# The changes that an event makes outside of its incident.
_FOLDS: dict[Kind, Callable[[JournalState, Event], None]] = {
    Kind.ALERT_RECEIVED: JournalState._receive,
    Kind.SUPPRESSED: JournalState._suppress,
    Kind.PAUSED: JournalState._pause,
    Kind.RESUMED: JournalState._resume,
    Kind.NOTIFIED: JournalState._queue_message,
    Kind.DELIVERED: JournalState._record_delivery,
    Kind.ORDERED: JournalState._pin_ordered,
    Kind.STORM_BEGAN: JournalState._begin_storm,
    Kind.STORM_ENDED: JournalState._end_storm,
}
