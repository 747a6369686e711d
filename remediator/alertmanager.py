"""Query Alertmanager's HTTP API: the remediator's alerts, their state and start time, and silences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from remediator.core.model import Alert
from remediator.http import Client, HttpError, decode, parse_moment

T = TypeVar("T")


class _AlertStatusDoc(msgspec.Struct, frozen=True, rename="camel"):
    state: str
    silenced_by: list[str] = []
    inhibited_by: list[str] = []
    muted_by: list[str] = []


class _AlertDoc(msgspec.Struct, frozen=True, rename="camel"):
    labels: dict[str, str]
    starts_at: str
    updated_at: str
    fingerprint: str
    status: _AlertStatusDoc
    ends_at: str = ""


class _AlertGroupDoc(msgspec.Struct, frozen=True):
    alerts: list[_AlertDoc]


class _ServerStatusDoc(msgspec.Struct, frozen=True):
    uptime: str


class _SilenceStatusDoc(msgspec.Struct, frozen=True):
    state: str


class _SilenceDoc(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    created_by: str
    comment: str
    ends_at: str
    status: _SilenceStatusDoc


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """A firing alert in Alertmanager, and what keeps Alertmanager from sending it.

    `silenced_by` contains the ids of silences, `inhibited_by` the fingerprints of alerts, and
    `muted_by` the names of time intervals (Alertmanager 0.28 and later). `updated` is when
    Prometheus last sent the alert, and `expires` when the alert ends if it is not sent again (Unix
    seconds by Alertmanager's clock; 0 if unknown).
    """

    alert: Alert
    updated: float
    expires: float = 0.0
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Return whether Alertmanager would send the alert to the remediator."""
        return not (self.silenced_by or self.inhibited_by or self.muted_by)


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence: its author, comment and end (Unix seconds). `active`: it is in force."""

    by: str
    comment: str
    ends_at: float
    active: bool = True


@dataclass(frozen=True, slots=True)
class AlertmanagerResponse:
    """The listed alerts by fingerprint, and Alertmanager's start time (Unix seconds by its clock)."""

    listed: dict[str, ListedAlert]
    started: float


class AlertmanagerClient(Client):
    """A client of Alertmanager's HTTP API v2.

    `receivers` are the names of Alertmanager's receivers that send to the remediator.
    """

    def __init__(self, url: str, receivers: tuple[str, ...], *, timeout: float = 2.0) -> None:
        super().__init__(url, timeout=timeout)
        names = "|".join(map(re.escape, receivers))
        self._query = urlencode(
            {"active": "true", "silenced": "true", "inhibited": "true", "receiver": f"({names})"}
        )

    async def query_alerts(self) -> AlertmanagerResponse:
        """Query all alerts that are routed to our receivers, including silenced and inhibited alerts.

        An alert with an invalid time is kept, because a skipped alert would count as over, and one alert must
        not hide the others. The query is for alert groups, because a time interval mutes the group of a
        route. Raises HttpError.
        """
        groups = await self._get(
            f"alerts/groups?{self._query}", list[_AlertGroupDoc], "alerts/groups"
        )
        listed: dict[str, ListedAlert] = {}
        for group in groups:
            for one in group.alerts:
                found = self._listed(one)
                before = listed.get(one.fingerprint)
                if before is None or (found.active and not before.active):
                    listed[one.fingerprint] = found
        # Queried last: if Alertmanager restarted in between, its later start time applies to the alerts above.
        server = await self._get("status", _ServerStatusDoc, "status")
        return AlertmanagerResponse(listed, parse_moment(server.uptime, self.shown))

    async def query_silences(self) -> dict[str, Silence]:
        """Query all silences, including expired ones; returns them by id. Raises HttpError."""
        found = await self._get("silences", list[_SilenceDoc], "silences")
        return {
            one.id: Silence(
                one.created_by,
                one.comment,
                parse_moment(one.ends_at, self.shown),
                one.status.state == "active",
            )
            for one in found
        }

    def _listed(self, one: _AlertDoc) -> ListedAlert:
        begun = self._time_of(one.starts_at)
        alert = Alert(one.fingerprint, begun, one.starts_at, True, one.labels)
        status = one.status
        return ListedAlert(
            alert,
            self._time_of(one.updated_at),
            self._time_of(one.ends_at),
            tuple(status.silenced_by),
            tuple(status.inhibited_by),
            tuple(status.muted_by),
        )

    def _time_of(self, text: str) -> float:
        """Convert a time of an alert to Unix seconds; 0 if it is invalid, such as a time in year 0."""
        try:
            return parse_moment(text, self.shown)
        except HttpError:
            return 0.0

    async def _get(self, path: str, shape: type[T], what: str) -> T:
        shown = f"{self.shown}/api/v2/{what}"
        status, body = await self._ask("GET", f"{self.url}/api/v2/{path}", shown=shown)
        if status != 200:
            raise HttpError(f"{shown} returned status {status}.")
        return decode(body, shape, shown, status)


class AlertmanagerPeers:
    """The peers of an Alertmanager cluster. Queries go to one peer until it fails, then to the next."""

    def __init__(self, clients: Sequence[AlertmanagerClient]) -> None:
        self._clients = list(clients)

    async def query_alerts(self) -> AlertmanagerResponse:
        """Query the peers in turn and return the first response.

        Raises the last peer's HttpError if no peer responds.
        """
        for number in range(len(self._clients)):
            try:
                found = await self._clients[0].query_alerts()
            except HttpError:
                self._clients.append(self._clients.pop(0))
                if number == len(self._clients) - 1:
                    raise
            else:
                return found
        raise HttpError("No Alertmanager is configured.")

    async def query_silences(self) -> dict[str, Silence]:
        """Query all silences from the peer that responded last; returns them by id. Raises HttpError."""
        return await self._clients[0].query_silences()
