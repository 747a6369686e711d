"""Gather the facts about a job that fails repeatedly: its failures, and what else may cause them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.alert_states import AlertStates
from remediator.clusters.base import JobFacts, NodeFacts
from remediator.core.action import HARDWARE
from remediator.core.evidence import AlertStatus
from remediator.core.facts import JobFailures
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident, Playbook
from remediator.reported_hardware import ReportedHardware


@dataclass(frozen=True, slots=True)
class FailureSources:
    """What is known about alerts, incidents and reported hardware."""

    journal_state: JournalState
    alerts: AlertStates
    reported_hardware: ReportedHardware


def failures_of(
    job: JobFacts,
    incident: Incident,
    playbook: Playbook,
    nodes: Iterable[NodeFacts],
    sources: FailureSources,
    reported: Iterable[Target],
) -> JobFailures:
    """Return the failures of an incident's job, and the hardware that may have caused them.

    `reported` is the hardware that active alerts report as unhealthy now.
    """
    failure, state = job.failure, sources.journal_state
    serving = (node.name for node in nodes if node.alive and node.quarantine is None)
    return JobFailures(
        at=failure.at if failure else None,
        node=(failure.node or "") if failure else "",
        text=failure.text if failure else "",
        alerted_at=_alerted_at(incident, playbook, sources),
        in_service=tuple(sorted(serving)),
        suspects=frozenset(target.name for target in (*reported, *_hardware(incident, state))),
        others=_others(incident, state),
    )


def _hardware(incident: Incident, journal_state: JournalState) -> Iterator[Target]:
    """Yield the hardware of incidents that were open at some time since this incident was opened.

    A repair may have ended such an alert meanwhile, but the job may have failed because of it.
    """
    for one in journal_state.incidents.values():
        if one.target.kind in HARDWARE and not (one.ended and one.since < incident.opened):
            yield one.target


def _others(incident: Incident, journal_state: JournalState) -> int:
    """Return the number of other jobs with an open incident of the same playbook."""
    return sum(
        one.playbook == incident.playbook and one.id != incident.id
        for one in journal_state.open_incidents()
    )


def _alerted_at(incident: Incident, playbook: Playbook, sources: FailureSources) -> float | None:
    """Return the start of the latest active alert on the job for which another playbook would act."""
    found: list[float] = []
    for episode in incident.alerts:
        record = sources.journal_state.episodes.get(episode.key)
        if record is None or episode.alertname in playbook.alertnames:
            continue
        standing = sources.alerts.evidence(record.alert, record.received).standing
        acts = sources.reported_hardware.concerns(record.alert, playbook)
        if standing is AlertStatus.ACTIVE and acts:
            found.append(episode.starts_at)
    return max(found, default=None)
