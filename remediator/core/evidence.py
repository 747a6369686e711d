"""Whether an incident's alerts are still active. Pure.

An alert that Alertmanager lists is active. An alert that it does not list is over only if the response is
complete. An event (an XID, an ECC error) counts from its own time until the target's next repair. After a
repair, a failed test is the evidence for the next repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from remediator.core.model import Incident
from remediator.core.reasons import Reason, sentence


class AlertStatus(StrEnum):
    """The current status of an alert, or of all alerts of an incident."""

    ACTIVE = "active"
    WITHHELD = "withheld"
    UNKNOWN = "unknown"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A standing with its reason and a text.

    `group` names a common cause of many incidents, such as one silence; people get one message for it.
    """

    standing: AlertStatus
    reason: Reason = Reason.STEP_ALLOWED
    text: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class AlertSignal:
    """One alert of an incident: its standing, and the time of the event that it reports (Unix seconds).

    `event_at` is None for an alert that reports no event. `confirmed`: Alertmanager listed the alert at
    least once, so it was active before it was over.
    """

    evidence: Evidence
    event_at: float | None = None
    confirmed: bool = True


ACTIVE = Evidence(AlertStatus.ACTIVE)
OVER = Evidence(AlertStatus.OVER, Reason.ALERT_GONE, sentence(Reason.ALERT_GONE))


def unknown(text: str) -> Evidence:
    """It is unknown whether the alert is active."""
    return Evidence(AlertStatus.UNKNOWN, Reason.ALERT_UNCONFIRMED, text)


def combine_signals(
    signs: Iterable[AlertSignal], *, repaired_at: float, tested_sick: bool
) -> Evidence:
    """The standing of an incident, from its alerts.

    Active if one alert is active; else withheld (silenced, inhibited, muted) or unknown if one alert is.
    If all are over, an event newer than the last repair (`repaired_at`, Unix seconds) still counts, and
    so does a test that failed since (`tested_sick`). An event older than the repair is ignored.
    """
    found: list[Evidence] = []
    for sign in signs:
        if sign.event_at is None:
            found.append(sign.evidence)
        elif sign.event_at > repaired_at:
            over = sign.evidence.standing is AlertStatus.OVER and sign.confirmed
            found.append(ACTIVE if over else sign.evidence)
    if tested_sick:
        # A failed test decides only if no alert is silenced and Alertmanager has answered.
        found.append(
            ACTIVE if not _first(found, AlertStatus.WITHHELD, AlertStatus.UNKNOWN) else OVER
        )
    return _first(found, AlertStatus.ACTIVE, AlertStatus.WITHHELD, AlertStatus.UNKNOWN) or OVER


def tested_sick(incident: Incident) -> bool:
    """Whether a test of ours failed since the incident's last repair."""
    return any(True for _ in _failed_tests(incident))


def latest_evidence(incident: Incident, event_at: float | None) -> float | None:
    """When the latest event, or the latest failed test since the last repair, spoke against the target.

    Unix seconds; None where neither did.
    """
    times = [event_at, *_failed_tests(incident)]
    return max((at for at in times if at is not None), default=None)


def _failed_tests(incident: Incident) -> Iterator[float]:
    """When each test ended that failed since the last repair (Unix seconds)."""
    since = incident.repaired_at or 0.0
    for run in incident.counted():
        ended = run.ended or 0.0
        if run.step.action == "verify" and run.passed is False and ended >= since:
            yield ended


def _first(found: list[Evidence], *standings: AlertStatus) -> Evidence | None:
    for standing in standings:
        for one in found:
            if one.standing is standing:
                return one
    return None
