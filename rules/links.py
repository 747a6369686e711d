"""Builds the URLs in an alert's annotations: its runbook, and the dashboard of its target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleetmedic.kernel.urls import check_public_url

RUNBOOK_URL = "runbook_url"
DASHBOARD_URL = "dashboard_url"
RUNBOOK_BASE = "http://localhost:9095/runbooks"
DASHBOARD_BASE = "http://localhost:9095"
UID_PREFIX = "fleetmedic-"
_DASHBOARD_PATH = "/d/"


@dataclass(frozen=True, slots=True)
class Links:
    """The base URLs of runbooks and dashboards. Grafana and the remediator both serve dashboards at
    /d/UID.

    Raises UserError for an invalid URL.
    """

    runbooks: str = RUNBOOK_BASE
    dashboards: str = DASHBOARD_BASE

    def __post_init__(self) -> None:
        check_public_url(self.runbooks, "the base URL of runbooks")
        check_public_url(self.dashboards, "the base URL of dashboards")

    def annotations(self, alert: str, dashboard: str, labels: Iterable[str]) -> dict[str, str]:
        """Return the annotations with both URLs of an alert.

        `labels` are the alert's labels that set the dashboard's variables. Prometheus escapes their
        values (urlquery), because label values are untrusted.
        """
        chosen = "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in labels)
        address = f"{self.dashboards.rstrip('/')}{_DASHBOARD_PATH}{UID_PREFIX}{dashboard}"
        return {
            RUNBOOK_URL: f"{self.runbooks.rstrip('/')}/{alert}",
            DASHBOARD_URL: f"{address}?{chosen}" if chosen else address,
        }

    def with_base_urls(self, annotations: dict[str, str]) -> dict[str, str]:
        """Return the annotations with both URLs changed to these base URLs."""
        changed = dict(annotations)
        if url := annotations.get(RUNBOOK_URL):
            changed[RUNBOOK_URL] = f"{self.runbooks.rstrip('/')}/{url.rpartition('/')[2]}"
        if url := annotations.get(DASHBOARD_URL):
            changed[DASHBOARD_URL] = (
                f"{self.dashboards.rstrip('/')}{_DASHBOARD_PATH}{url.partition(_DASHBOARD_PATH)[2]}"
            )
        return changed
