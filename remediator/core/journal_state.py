"""The remediator's state, computed from the events of the journal.

Replay and the running engine use the same `apply`, one event at a time in journal order, so both
reach the same state. The state contains what later decisions need; `retention` says what leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from fleetmedic.kernel.labels import Target
from remediator.core import retention as memory
from remediator.core.action import Effect
from remediator.core.events import Event, Kind, alert_of
from remediator.core.journal_records import Attempt as Attempt
from remediator.core.journal_records import EpisodeRecord as EpisodeRecord
from remediator.core.journal_records import Message as Message
from remediator.core.journal_records import Pause as Pause
from remediator.core.journal_records import Pin as Pin
from remediator.core.journal_records import Storm as Storm
from remediator.core.lifecycle import IllegalTransition, evolve, new_incident
from remediator.core.model import Alert, Incident, IncidentState, StepRun
from remediator.core.reasons import Reason
from remediator.core.retention import Retention as Retention

# A message expires after a day; it is kept a little longer, so that the expiry can be recorded.
KEEP_MESSAGES = 90_000.0
# Steps of these effects are not limited by a number of attempts, so they are not remembered.
UNLIMITED = frozenset({Effect.NOTIFIES, Effect.SAVES, Effect.VERIFIES, Effect.RELEASES})
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


class JournalState:
    """The state that results from all events of the journal. Only `apply` changes it.

    `incidents` contains the open incidents and the latest ended ones, oldest first.
    """

    def __init__(self, retention: Retention = Retention()) -> None:  # noqa: B008 - frozen
        self.retention = retention
        self.incidents: dict[str, Incident] = {}
        self.open: dict[Target, str] = {}
        # The open incidents that took a target out of service or are about to. Replaced at each change, so
        # that its identity shows whether it changed.
        self.taking: dict[str, None] = {}
        # The open incidents by the name of their target: a node's name for the node and its GPUs.
        self.open_by_name: dict[str, list[str]] = {}
        # The ended incidents in `incidents`, and the time (Unix seconds) of their end.
        self.ended: dict[str, float] = {}
        # The incidents whose last decision was to do nothing at level observe.
        self.rehearsed: dict[str, None] = {}
        self.episodes: dict[str, EpisodeRecord] = {}
        # The keys in `episodes` of the alerts that are firing, and of those that are over, with the time.
        self.firing_alerts: dict[str, None] = {}
        self.ended_alerts: dict[str, float] = {}
        # The keys of the alerts that are over and still have all labels.
        self.unreduced: dict[str, None] = {}
        self.attempts: dict[Target, list[Attempt]] = {}
        self.quarantines: list[Attempt] = []
        self.refused = 0
        self.cured: dict[Target, float] = {}
        # The times of the returns to service after a repair.
        self.returns: dict[Target, list[float]] = {}
        # The last repair step of each target whose attempts are forgotten.
        self.repairs: dict[Target, float] = {}
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
        # No incident that was opened later than this time (Unix seconds) has been forgotten.
        self.horizon = 0.0
        self.swept = 0.0
        self.trim_incidents_at = memory.next_trim(0, retention.ended_incidents)
        self.trim_alerts_at = memory.next_trim(0, retention.ended_alerts)

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

    def open_on(self, name: str) -> tuple[Incident, ...]:
        """Return the open incidents whose targets have this name, oldest first: those of a node and its GPUs."""
        return tuple(self.incidents[one] for one in self.open_by_name.get(name, ()))

    def undecided(self) -> tuple[Alert, ...]:
        """Return the firing alerts without a decision, oldest first."""
        return tuple(one.alert for one in self.firing_records() if one.undecided)

    def firing_records(self) -> Iterator[EpisodeRecord]:
        """Yield the records of the alerts that are firing according to the alerts received."""
        return (self.episodes[key] for key in self.firing_alerts)

    def may_be_archived(self, alert: Alert, now: float) -> bool:
        """Return whether an incident that began with this alert may exist in the journal but not in memory.

        The id of an incident is derived from its first alert, and must not be used twice.
        """
        return not max(self.horizon, now - self.retention.memory) < alert.starts_at <= now

    def status(self, key: str) -> bool | None:
        """Return whether an alert is firing according to the journal; None if the alert is unknown.

        An alert that is received with the same status again is a duplicate.
        """
        record = self.episodes.get(key)
        return None if record is None else record.alert.firing

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
        return sum(at >= since for at in self.returns.get(target, ()))

    def forget_incident(self, incident: Incident) -> None:
        """Remove an ended incident from memory. Its events stay in the journal."""
        del self.incidents[incident.id], self.ended[incident.id]
        self.rehearsed.pop(incident.id, None)
        self.horizon = max(self.horizon, incident.opened)

    def forget_alert(self, key: str) -> None:
        """Remove an alert that is over from memory. Its events stay in the journal."""
        del self.episodes[key]
        self.ended_alerts.pop(key, None)
        self.unreduced.pop(key, None)

    def apply(self, event: Event) -> None:
        """Apply one event. An illegal transition changes nothing and is only counted."""
        try:
            self._apply(event)
        except IllegalTransition:
            self.refused += 1
        self.seq = event.seq or self.seq
        self.last_at = event.at
        # The hour and day of an event, and not the time since the last sweep: a journal without its oldest
        # events leads to the same sweeps.
        if (hour := event.at // memory.HOUR * memory.HOUR) > self.swept:
            memory.reduce(self, hour)
            if (day := hour // memory.DAY * memory.DAY) > self.swept:
                memory.sweep(self, day)
            self.swept = hour
        memory.trim(self)

    def _apply(self, event: Event) -> None:
        if event.kind is Kind.INCIDENT_OPENED:
            incident = new_incident(event)
            self.ended.pop(incident.id, None)
            self.incidents[incident.id] = incident
            if (displaced := self.open.pop(incident.target, None)) is not None:
                self._close(incident.target, displaced)
            self.open[incident.target] = incident.id
            self.open_by_name.setdefault(incident.target.name, []).append(incident.id)
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
        alert, key = alert_of(event), event.data["key"]
        before = self.episodes.get(key)
        if before is None or self._began_again(before, alert):
            record = EpisodeRecord(alert, event.at)
        else:
            record = replace(before, alert=alert)
        if "suppressed" in event.data:  # the alert leads to nothing, so one event says both
            record = replace(record, suppressed=True)
        self.episodes[key] = record
        if alert.firing:
            self.ended_alerts.pop(key, None)
            self.unreduced.pop(key, None)
            self.firing_alerts[key] = None
        else:
            self.firing_alerts.pop(key, None)
            self.ended_alerts.setdefault(key, event.at)
            self.unreduced[key] = None

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
        self._update_taking(incident, after)
        if after.rehearsed and after.reason is Reason.OBSERVE_ONLY:
            self.rehearsed[after.id] = None
        else:
            self.rehearsed.pop(after.id, None)
        if event.kind is Kind.ALERT_ABSORBED:
            record = self.episodes.get(event.data["key"])
            if record is not None:
                self.episodes[event.data["key"]] = replace(record, incident=after.id)
        if event.kind is Kind.STEP_PREPARED:
            step = after.steps[-1].step
            dead = event.data.get("dead", False)
            attempt = Attempt(step.action, step.effect, step.target, event.at, dead)
            if step.effect not in UNLIMITED:
                self.attempts.setdefault(step.target, []).append(attempt)
            if step.effect is Effect.QUARANTINES:
                self.quarantines.append(attempt)
                self._stop_keeping(step.target)
        if event.kind is Kind.STEP_WITHDRAWN and incident.prepared is not None:
            self._forget(incident.prepared)
        if event.kind is Kind.STEP_FAILED and event.reason is Reason.STEP_REFUSED:
            # The cluster refused it, so nothing was taken; the budget of what is out asks the cluster.
            op = event.data["op_id"]
            refused = next((run for run in after.steps if run.step.op_id == op), None)
            if refused is not None and refused.step.effect is Effect.QUARANTINES:
                _remove(self.quarantines, refused)
        if after.ended and not incident.ended:
            self._end(after, event.at)

    def _update_taking(self, before: Incident, after: Incident) -> None:
        """Update the index of incidents that take targets out of service."""
        taken = _taken(after)
        if taken is None and after.id in self.taking:
            self.taking = {key: None for key in self.taking if key != after.id}
        elif taken is not None and taken != _taken(before):
            self.taking = self.taking | {after.id: None}

    def _end(self, ended: Incident, at: float) -> None:
        if ended.reason is Reason.RELEASED_BY_OTHERS:
            self.pins[ended.target] = Pin("another user or program", ended.text, at)
        if ended.reason is Reason.CLOSED_BY_PERSON:
            # The operator keeps the target out of service: no later incident repairs or releases it.
            pin = Pin("an operator", ended.text, at, ended.id)
            self.kept = self.kept | dict.fromkeys(ended.quarantined, pin)
        if self.open.get(ended.target) == ended.id:
            del self.open[ended.target]
            self._close(ended.target, ended.id)
        if ended.repaired_at is not None:
            self.cured[ended.target] = max(self.cured.get(ended.target, 0), ended.repaired_at)
            if ended.state is IncidentState.CLOSED:
                self.returns.setdefault(ended.target, []).append(ended.since)
        self.ended[ended.id] = at

    def _close(self, target: Target, identity: str) -> None:
        ids = self.open_by_name[target.name]
        ids.remove(identity)
        if not ids:
            del self.open_by_name[target.name]

    def _forget(self, run: StepRun) -> None:
        """Remove the attempt of a step that was announced and withdrawn."""
        for attempts in (self.attempts.get(run.step.target, []), self.quarantines):
            _remove(attempts, run)


def _remove(attempts: list[Attempt], run: StepRun) -> None:
    """Remove the attempt of a step."""
    about = (run.step.action, run.step.target, run.started)
    for one in attempts:
        if (one.action, one.target, one.at) == about:
            attempts.remove(one)
            break


def _taken(incident: Incident) -> tuple[object, ...] | None:
    """Return the properties by which an incident counts as taking targets out of service; None if it does not."""
    run = incident.prepared
    about_to = run.step.target if run and run.step.effect is Effect.QUARANTINES else None
    if incident.ended or not (incident.quarantined or incident.dead or about_to):
        return None
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
