"""A client of Alertmanager that answers what a test tells it to, for tests of what is made of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fleetmedic.alerting.settings import Notifications
from remediator.alert_states import AlertStates
from remediator.alertmanager import AlertmanagerClient, AlertmanagerResponse, ListedAlert, Silence
from remediator.core.model import Alert
from remediator.http import HttpError

WATCHDOG = Alert("watchdog", 1.0, "x", True, {"alertname": "Watchdog"})

# However late a test's clock is, Prometheus has just sent the alert.
SENT_NOW = float("inf")


class FakeAlertmanager:
    """It lists the Watchdog and what `lists` is given, and was started at `started` (Unix seconds)."""

    def __init__(self, started: float = 0.0) -> None:
        self.listed = {WATCHDOG.fingerprint: ListedAlert(WATCHDOG, SENT_NOW)}
        self.known: dict[str, Silence] = {}
        self.started = started
        self.error = ""
        self.asked = 0

    def lists(self, *alerts: Alert, **withheld: tuple[str, ...]) -> None:
        """List these as well; `withheld` is silenced_by, inhibited_by or muted_by."""
        self.listed |= {one.fingerprint: ListedAlert(one, SENT_NOW, **withheld) for one in alerts}

    def forgets(self, *alerts: Alert) -> None:
        """List these no more."""
        for one in alerts:
            del self.listed[one.fingerprint]

    async def query_alerts(self) -> AlertmanagerResponse:
        self.asked += 1
        if self.error:
            raise HttpError(self.error)
        return AlertmanagerResponse(dict(self.listed), self.started)

    async def query_silences(self) -> dict[str, Silence]:
        return dict(self.known)


def states(
    fake: FakeAlertmanager | None, now: Callable[[], float], *, given: Notifications | None = None,
    settle: float = 180.0,
) -> AlertStates:  # fmt: skip
    """How alerts stand by the answers of a fake; without one, without an Alertmanager."""
    client = cast(AlertmanagerClient, fake) if fake else None
    return AlertStates(
        client, given or Notifications(), settle=settle,
        is_watchdog=lambda alert: alert.name == "Watchdog", now=now,
    )  # fmt: skip
