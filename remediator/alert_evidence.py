"""Determine the status of each alert of an incident, and the combined status of the incident."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from fleetmedic.alerting import instruments
from fleetmedic.alerting.instruments import Instrument
from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel.labels import Target
from remediator.alert_states import AlertStates
from remediator.core.evidence import (
    OVER,
    AlertSignal,
    AlertStatus,
    Evidence,
    combine_signals,
    tested_sick,
    unknown,
)
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Episode, Incident
from remediator.core.routing import last_repaired_at
from remediator.sensors import Sensors

# The status of an event alert that is over and never fired in Prometheus: the event did not happen.
NEVER = replace(OVER)


@dataclass(frozen=True, slots=True)
class AlertEvidence:
    """One alert of an incident with its status. `counts`: the alert is currently a signal that the
    target is unhealthy."""

    episode: Episode
    signal: AlertSignal
    counts: bool


@dataclass(frozen=True, slots=True)
class IncidentEvidence:
    """The alerts of one incident with their status.

    `repaired_at` is the time of the target's last repair or boot (Unix seconds). `tested_sick`: a
    test has failed since the incident's last repair.
    """

    by_alert: tuple[AlertEvidence, ...]
    repaired_at: float
    tested_sick: bool

    def combined(self, other_hardware: Collection[str] = ()) -> Evidence:
        """Return the combined status of all alerts of the incident.

        `other_hardware` are the keys of alerts that name other hardware. Such an alert is ignored when it
        is over.
        """
        signals = (
            one.signal
            for one in self.by_alert
            if one.episode.key not in other_hardware
            or one.signal.evidence.standing is not AlertStatus.OVER
        )
        return combine_signals(signals, repaired_at=self.repaired_at, tested_sick=self.tested_sick)

    @property
    def active(self) -> bool:
        """Return whether at least one alert of the incident is firing or may be firing."""
        return any(one.signal.evidence.standing is not AlertStatus.OVER for one in self.by_alert)

    @property
    def latest_event(self) -> float | None:
        """Return the time of the latest reported event that still counts (Unix seconds), or None."""
        times = (one.signal.event_at for one in self.by_alert if one.counts)
        return max((at for at in times if at is not None), default=None)

    def counted_alerts(self, other_hardware: Collection[str] = ()) -> tuple[Episode, ...]:
        """Return the alerts that are currently signals about the target."""
        counted = (one.episode for one in self.by_alert if one.counts)
        return tuple(one for one in counted if one.key not in other_hardware)

    def identifying_alerts(self, other_hardware: Collection[str] = ()) -> tuple[Episode, ...]:
        """Return the alerts that identify the hardware of the incident's target.

        These are the active alerts. If there are none, the alerts that may be active; otherwise the
        alerts that are over and that name this target's hardware. An alert that is over is ignored
        if it names other hardware, so a label that was wrong for a minute has no lasting effect.
        """
        active = [
            one.episode
            for one in self.by_alert
            if one.signal.evidence.standing is AlertStatus.ACTIVE
        ]
        doubtful = [
            one.episode
            for one in self.by_alert
            if one.signal.evidence.standing is not AlertStatus.OVER
        ]
        over = [one.episode for one in self.by_alert if one.episode.key not in other_hardware]
        return tuple(active or doubtful or over)


async def gather_evidence(
    incident: Incident,
    journal_state: JournalState,
    alerts: AlertStates,
    sensors: Sensors,
    concerns: Callable[[Alert], bool],
    *,
    confirm: bool,
) -> IncidentEvidence:
    """Query the status of an incident's alerts.

    `confirm`: Prometheus must confirm each alert too. `concerns` returns whether an alert justifies
    the action of the incident's playbook; other alerts are ignored.
    """
    repaired = max(incident.repaired_at or 0.0, last_repaired_at(incident.target, journal_state))
    confirm = confirm or repaired > 0
    records = [(one, journal_state.episodes.get(one.key)) for one in incident.alerts]
    if confirm and any(one.report.is_event for one, _ in records):
        repaired = max(repaired, await sensors.boot_time(incident.target) or 0.0)
    by_alert: list[AlertEvidence] = []
    for episode, record in records:
        if record is None or not concerns(record.alert):
            continue
        evidence = alerts.evidence(record.alert, record.received)
        event = episode.report.is_event
        if confirm and _to_confirm(evidence, event):
            # An active alert must be firing in Prometheus now; an alert that is over must have fired since its start.
            past = event and evidence.standing is AlertStatus.OVER
            fires = await sensors.fires(record.alert, event=past)
            evidence = _confirmed(record.alert, evidence, fires)
        if event and evidence.standing is AlertStatus.OVER:
            evidence = alerts.silence_of(record.alert) or evidence
        event_at = None
        if event:
            known = await event_time(record.alert, incident.target, sensors) if confirm else None
            event_at = known or episode.starts_at
        confirmed = alerts.confirmed(record.alert) and evidence is not NEVER
        signal = AlertSignal(evidence, event_at, confirmed)
        by_alert.append(AlertEvidence(episode, signal, _counts(signal, repaired)))
    return IncidentEvidence(tuple(by_alert), repaired, tested_sick(incident))


async def event_time(alert: Alert, target: Target, sensors: Sensors) -> float | None:
    """Return when the event of an event alert (an XID or ECC error) happened (Unix seconds); None if unknown.

    The time comes from metrics in Prometheus. The alert's start time is not trusted, because its sender can
    choose it.
    """
    known = None
    in_kernel_log = alert.labels.get(instruments.LABEL) == Instrument.KERNEL_LOG
    if target.gpu is not None and in_kernel_log:
        # A line of the kernel log about a GPU is an XID.
        # Only the alert's own code: a later application XID is not the time of an earlier hardware XID.
        known = await sensors.last_xid(target, alert.labels.get("xid", ""))
    elif target.gpu is not None and alert.report is AlertReport.MEMORY_ERROR:
        # If the exporter was down, Prometheus missed the increase, but not the alert that it caused.
        rose, began = await sensors.last_uncorrectable(target), await sensors.active_since(alert)
        return max((at for at in (rose, began) if at is not None), default=None)
    if known is None and alert.report.is_event:
        return await sensors.active_since(alert)
    return known


def _confirmed(alert: Alert, evidence: Evidence, fires: bool | None) -> Evidence:
    """Return an alert's status after a check in Prometheus. `fires`: the alert fires in that Prometheus.

    `fires` is None if Prometheus did not answer.
    """
    if fires:
        return evidence
    if fires is None:
        return unknown(f"Prometheus did not answer whether {alert.shown_name} is firing.")
    if evidence.standing is AlertStatus.OVER:
        return NEVER
    return unknown(
        f"Alertmanager lists {alert.shown_name} as active, but the alert is not firing in Prometheus, which "
        "evaluates its rule."
    )


def _to_confirm(evidence: Evidence, event: bool) -> bool:
    return evidence.standing is AlertStatus.ACTIVE or (
        event and evidence.standing is AlertStatus.OVER
    )


def _counts(signal: AlertSignal, repaired_at: float) -> bool:
    """Return whether an alert is a signal now: active, or a confirmed event after the last repair."""
    if signal.event_at is None:
        return signal.evidence.standing is AlertStatus.ACTIVE
    over = signal.evidence.standing is AlertStatus.OVER and signal.confirmed
    return signal.event_at > repaired_at and (
        over or signal.evidence.standing is AlertStatus.ACTIVE
    )
