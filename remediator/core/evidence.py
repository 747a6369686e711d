"""Determine whether an incident's alerts are still active. Pure functions.

An alert that Alertmanager lists is active. An alert that Alertmanager does not list is over only if the
response is complete. An event (an XID, an ECC error) counts until the target's next repair. After a
repair, a failed test is sufficient evidence for the next repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from remediator.core.action import Effect
from remediator.core.model import Incident
from remediator.core.reasons import Reason, sentence


class AlertStatus(StrEnum):
    """The current status of one alert, or of all alerts of an incident together."""

    ACTIVE = "active"
    WITHHELD = "withheld"
    UNKNOWN = "unknown"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The status of one or several alerts, with its reason and a description.

    `group` identifies a common cause of many incidents, such as one silence; people get one message for it.
    """

    standing: AlertStatus
    reason: Reason = Reason.STEP_ALLOWED
    text: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class AlertSignal:
    """The status of one alert of an incident, and the time of the event that it reports.

    `event_at` is in Unix seconds, or None for an alert that reports no event. `confirmed`:
    Alertmanager has listed the alert at least once, so it was really active.
    """

    evidence: Evidence
    event_at: float | None = None
    confirmed: bool = True


ACTIVE = Evidence(AlertStatus.ACTIVE)
OVER = Evidence(AlertStatus.OVER, Reason.ALERT_GONE, sentence(Reason.ALERT_GONE))


def unknown(text: str) -> Evidence:
    """Return the evidence for an alert whose status is unknown. `text` is the cause."""
    return Evidence(AlertStatus.UNKNOWN, Reason.ALERT_UNCONFIRMED, text)


def combine_signals(
    signals: Iterable[AlertSignal], *, repaired_at: float, tested_sick: bool
) -> Evidence:
    """Combine the status of an incident's alerts into one.

    The result is active if one alert is active. Otherwise it is withheld (silenced, inhibited,
    muted) or unknown if one alert has this status. If all alerts are over, the result is still
    active after an event or a failed test (`tested_sick`) since the last repair (`repaired_at`,
    Unix seconds). Events before the repair are ignored.
    """
    found: list[Evidence] = []
    past = tested_sick
    for signal in signals:
        if signal.event_at is None:
            found.append(signal.evidence)
        elif signal.event_at > repaired_at:
            if signal.evidence.standing is AlertStatus.OVER and signal.confirmed:
                past = True
            else:
                found.append(signal.evidence)
    # A past event or a failed test decides only if no alert is silenced and Alertmanager has answered.
    return _first(found, AlertStatus.ACTIVE, AlertStatus.WITHHELD, AlertStatus.UNKNOWN) or (
        ACTIVE if past else OVER
    )


def tested_sick(incident: Incident) -> bool:
    """Return whether a test has failed since the incident's last repair."""
    return any(True for _ in _failed_tests(incident))


def latest_evidence(incident: Incident, event_at: float | None) -> float | None:
    """Return the time of the latest event or failed test since the last repair (Unix seconds), or None."""
    times = [event_at, *_failed_tests(incident)]
    return max((at for at in times if at is not None), default=None)


def _failed_tests(incident: Incident) -> Iterator[float]:
    """Yield the end time of each test that failed since the last repair (Unix seconds)."""
    since = incident.repaired_at or 0.0
    for run in incident.counted_steps():
        ended = run.ended or 0.0
        if run.step.effect is Effect.VERIFIES and run.passed is False and ended >= since:
            yield ended


def _first(found: list[Evidence], *standings: AlertStatus) -> Evidence | None:
    for standing in standings:
        for one in found:
            if one.standing is standing:
                return one
    return None
