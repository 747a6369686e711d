"""Determine the status of alerts from Alertmanager's last response and the maintenance windows.

An alert in the response is active. A missing alert is over only if the response is complete. A
complete response contains the Watchdog, and Alertmanager and the Watchdog have been up long enough
for Prometheus to send all alerts again. This matters because Alertmanager expires alerts and
reports them as resolved while Prometheus is down. Without a response, the status is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog

from fleetmedic.alerting.settings import Notifications
from fleetmedic.alerting.windows import open_maintenance
from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.errors import shortened
from fleetmedic.kernel.labels import ALERTNAME, CLUSTER, GPU, JOB_ID, NODE, SERVICE, UUID
from remediator.alertmanager import AlertmanagerResponse, ListedAlert, Silence
from remediator.core.evidence import ACTIVE, OVER, AlertStatus, Evidence, unknown
from remediator.core.model import Alert
from remediator.core.reasons import Reason
from remediator.http import HttpError
from remediator.silences import MOST_COMMENT, SilenceMemory, silenced

log = structlog.get_logger("remediator")
# An alert received less than this long ago (seconds) may be missing in Alertmanager's response.
SETTLING = 60.0
# A response older than this (seconds) is stale.
STALE = 60.0
# Queries of Alertmanager may use at most this share of the time (0 to 1), except right before a step.
BUSY_SHARE = 0.03
# Prometheus lets an alert last four resend delays or group intervals (seconds).
LONGEST_ALERT = 1800.0
MOST_SEEN = 200_000
# An alert expires after four resend delays, and `settle` is at least two. If the Watchdog was not sent for this
# share of `settle`, other alerts may have expired.
SILENT = 0.8
# The labels that identify an alert together with its fingerprint, which may be another alert's.
_ABOUT = (ALERTNAME, CLUSTER, NODE, GPU, UUID, JOB_ID, SERVICE)


class AlertmanagerApi(Protocol):
    """The queries to one Alertmanager, or to the peers of an Alertmanager cluster. They raise HttpError."""

    async def query_alerts(self) -> AlertmanagerResponse: ...

    async def query_silences(self) -> dict[str, Silence]: ...


@dataclass(slots=True)
class _QueryResult:
    """The result of the last query: its response or error, and its start time (`at`: monotonic seconds, `wall`:
    Unix seconds).
    """

    response: AlertmanagerResponse | None = None
    error: str = "Alertmanager has not been queried yet."
    at: float = -1e9
    wall: float = 0.0
    took: float = 0.0
    watchdogs: list[ListedAlert] = field(default_factory=list)
    silences: dict[str, Silence] = field(default_factory=dict)


class AlertStates:
    """Queries Alertmanager, and returns the status of individual alerts from the last response.

    `client` is None if no Alertmanager is configured. A missing alert counts as over only when
    Alertmanager and the Watchdog have been up for `settle` seconds. `is_watchdog` returns whether
    an alert is the Watchdog. `now` returns Unix seconds.
    """

    def __init__(
        self,
        client: AlertmanagerApi | None,
        given: Notifications,
        *,
        settle: float,
        is_watchdog: Callable[[Alert], bool],
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._given = given
        self._settle = settle
        self._is_watchdog = is_watchdog
        self._now = now
        self._asked = _QueryResult()
        self._rounds = 0
        self._seen: set[tuple[str, ...]] = set()
        self._starts: dict[float, float] = {}
        self._silences = SilenceMemory()
        self._asking = asyncio.Lock()

    async def refresh(self, max_age: float) -> None:
        """Query Alertmanager, unless the last query was less than `max_age` seconds ago. Never raises."""
        if self._client is None:
            return
        async with self._asking:
            began = monotonic()
            # A large response takes long to read, so it is queried less often, except right before a step.
            # A response is never kept until it is stale.
            slack = min(STALE / 2, self._asked.took / BUSY_SHARE) if max_age >= 1.0 else 0.0
            if began - self._asked.at <= max(max_age, slack):
                return
            asked = _QueryResult(at=began, wall=self._now(), silences=self._asked.silences)
            try:
                asked.response = await self._client.query_alerts()
                listed = asked.response.listed.values()
                if not self._silences.empty or any(one.silenced_by for one in listed):
                    asked.silences = await self._client.query_silences()
                    found = ((_identity(one.alert), one) for one in listed)
                    self._silences.update(found, asked.silences, asked.wall)
            except HttpError as error:
                asked.response, asked.error = None, str(error)
            if asked.response is None and self._asked.response is not None:
                log.warning("alertmanager_unreachable", error=asked.error)
            if asked.response is not None:
                asked.watchdogs = self._watchdogs(asked.response)
                self._remember(asked)
            asked.took = monotonic() - began
            self._asked = asked
            self._rounds += 1

    @property
    def answered(self) -> bool:
        """Return whether Alertmanager's last response is current. True if no Alertmanager is configured."""
        fresh = monotonic() - self._asked.at <= STALE
        return self._client is None or (self._asked.response is not None and fresh)

    @property
    def version(self) -> int:
        """Return the number of queries to Alertmanager so far. The number changes with each query."""
        return self._rounds

    @property
    def complete(self) -> bool:
        """Return whether Alertmanager's last response is complete, so that a missing alert is over."""
        return self._client is None or (self.answered and not self._incomplete())

    def evidence(self, alert: Alert, received: float) -> Evidence:
        """Return the status of an alert that the remediator received at `received` (Unix seconds)."""
        if muted := self._muted(alert):
            return muted
        if self._client is None:
            return ACTIVE if alert.firing else OVER
        if not self.answered or self._asked.response is None:
            return unknown(self._asked.error)
        listed = self._asked.response.listed.get(alert.fingerprint)
        if listed is not None and _same(listed.alert, alert):
            return self._of_listed(listed)
        # An alert reported as resolved may only have expired, because its Prometheus is down.
        if doubt := self._incomplete() if alert.firing else self._unsent():
            return unknown(doubt)
        on_its_way = alert.firing and _episode(alert) not in self._seen
        if on_its_way and self._now() - received <= SETTLING:
            return unknown(
                f"Alertmanager does not list {alert.shown_name} for the remediator's receiver."
            )
        return OVER

    def silence_of(self, alert: Alert) -> Evidence | None:
        """Return the status of an event alert that has ended while its silence is in force; otherwise None."""
        return self._silences.evidence(_identity(alert), only_lost=False)

    def active(self) -> Iterator[Alert]:
        """Yield the active alerts in Alertmanager's response that it sends to the remediator."""
        for listed, evidence in self._all():
            if evidence is ACTIVE:
                yield listed.alert

    def withheld(self) -> Iterator[tuple[Alert, Evidence]]:
        """Yield the firing alerts in Alertmanager's response that are silenced, inhibited or muted."""
        for listed, evidence in self._all():
            if evidence is not ACTIVE:
                yield listed.alert, evidence

    def confirmed(self, alert: Alert) -> bool:
        """Return whether any Alertmanager response since the start of this process contained the alert."""
        return self._client is None or _identity(alert) in self._seen

    def _all(self) -> Iterator[tuple[ListedAlert, Evidence]]:
        if not self.answered or self._asked.response is None:
            return
        for listed in self._asked.response.listed.values():
            muted = self._muted(listed.alert)
            yield listed, muted or self._of_listed(listed)

    def _remember(self, asked: _QueryResult) -> None:
        answer = asked.response
        assert answer is not None  # noqa: S101 - called with a response only
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        before = self._asked.response.listed if self._asked.response and self._seen else {}
        for fingerprint, one in answer.listed.items():
            known = before.get(fingerprint)
            if known is None or not _same_episode(known.alert, one.alert):
                self._seen |= {_identity(one.alert), _episode(one.alert)}
        # Our own clock is used if a start time lies in the future.
        begun = (one.alert.starts_at for one in asked.watchdogs)
        for started in (answer.started, *begun):
            self._starts.setdefault(started, self._now())

    def _watchdogs(self, answer: AlertmanagerResponse) -> list[ListedAlert]:
        """Return the Watchdog alerts in Alertmanager's response, one for each Prometheus.

        Prometheus sends an alert again long before it expires: after its resend delay, of which `settle` is
        at least twice. An alert that lasts much longer without being sent again is not from Prometheus.
        """
        longest = max(LONGEST_ALERT, 4 * self._settle)
        return [
            one
            for one in answer.listed.values()
            if self._is_watchdog(one.alert) and one.expires - one.updated <= longest
        ]

    def _incomplete(self) -> str:
        """Return the reason why an alert that is missing in the response is not over; empty if it is over."""
        if (unsent := self._unsent()) or self._asked.response is None:
            return unsent
        return self._settling(self._asked.response.started, "Alertmanager started")

    def _unsent(self) -> str:
        """Return the reason why Prometheus may not have sent all firing alerts yet; empty if it sent all.

        While Prometheus replays its WAL, its alerts can expire in Alertmanager. Afterwards the
        Watchdog returns first, because it has no `for` duration. All alerts count as sent only
        after the Watchdog has fired for `settle` seconds.
        """
        answer = self._asked.response
        if answer is None:
            return self._asked.error
        watchdogs = self._asked.watchdogs
        if not watchdogs:
            return "Alertmanager's response lacks the Watchdog, so other alerts may be missing too."
        sent = min(one.updated for one in watchdogs)
        if self._asked.wall - sent > SILENT * self._settle:
            last = datetime.fromtimestamp(max(0.0, min(sent, 4e9)), UTC)
            return (
                f"Prometheus last sent its Watchdog at {last:%H:%M:%S} UTC, so other alerts may have expired "
                "in Alertmanager without being resolved."
            )
        return self._settling(
            max(one.alert.starts_at for one in watchdogs), "Prometheus' Watchdog started"
        )

    def _settling(self, started: float, what: str) -> str:
        """Return a message if `what` started (Unix seconds) less than `settle` seconds ago;
        otherwise empty."""
        now = self._now()
        started = min(started, self._starts.get(started, now))
        if now - started >= self._settle:
            return ""
        begun = datetime.fromtimestamp(max(0.0, min(started, 4e9)), UTC)
        return f"{what} at {begun:%H:%M:%S} UTC; missing alerts count as over only {self._settle:g} s later."

    def _muted(self, alert: Alert) -> Evidence | None:
        now = self._now()
        window = open_maintenance(self._given, alert.labels, now)
        if window is None:
            return None
        return _muted_by(window.name, now)

    def _of_listed(self, listed: ListedAlert) -> Evidence:
        if not listed.active:
            return self._withheld(listed)
        if self._silences.empty:
            return ACTIVE
        return self._silences.evidence(_identity(listed.alert), only_lost=True) or ACTIVE

    def _withheld(self, listed: ListedAlert) -> Evidence:
        if listed.silenced_by:
            key = listed.silenced_by[0]
            return silenced(key, self._asked.silences.get(key))
        if listed.muted_by:
            return _muted_by(shortened(", ".join(listed.muted_by), MOST_COMMENT), self._now())
        by = listed.inhibited_by[0]
        source = self._asked.response.listed.get(by) if self._asked.response else None
        name = source.alert.shown_name if source else "another alert"
        text = f"{listed.alert.shown_name} is inhibited by {name}."
        return Evidence(AlertStatus.WITHHELD, Reason.INHIBITED, text, f"inhibited/{by}")


def _muted_by(name: str, now: float) -> Evidence:
    day = int(now // 86_400)
    text = f"The maintenance window {name} is open."
    return Evidence(AlertStatus.WITHHELD, Reason.MUTED, text, f"window/{name}/{day}")


def _identity(alert: Alert) -> tuple[str, ...]:
    return (alert.fingerprint, *(alert.labels.get(name, "") for name in _ABOUT))


def _episode(alert: Alert) -> tuple[str, ...]:
    return (*_identity(alert), alert.key)


def _same_episode(one: Alert, other: Alert) -> bool:
    return one.key == other.key and one.labels == other.labels


def _same(one: Alert, other: Alert) -> bool:
    same_labels = one.fingerprint == other.fingerprint and one.labels == other.labels
    return same_labels or _identity(one) == _identity(other)
