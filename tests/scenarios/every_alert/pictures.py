"""The panels of the dashboards, queried through the remediator's proxy from the main Prometheus."""

from __future__ import annotations

import asyncio
import json

from every_alert.fleet import SCRAPE, Fleet
from remediator.dashboards.dashboard_library import dashboards
from remediator.dashboards.proxy import PanelParameters, PrometheusProxy
from remediator.prometheus import PrometheusClient


def empty(fleet: Fleet, seconds: float) -> dict[str, str]:
    """Queries without a series in the last `seconds`: the expression by board, title and target.
    Raises HttpError for a query that Prometheus rejects."""
    return asyncio.run(_empty(fleet, seconds))


async def _empty(fleet: Fleet, seconds: float) -> dict[str, str]:
    found: dict[str, str] = {}
    asked = PanelParameters(f"now-{seconds:.0f}s", "now", {})
    async with PrometheusClient(f"http://{fleet.main.address}", timeout=30.0) as client:
        proxy = PrometheusProxy(client, SCRAPE)
        for board in dashboards().values():
            titles = _titles(board.document)
            for panel, ref in board.queries:
                answer = await proxy.panel(board, panel, ref, asked)
                if not answer["series"]:
                    found[f"{board.uid}: {titles[panel]}, {ref}"] = answer["expr"]
    return found


def _titles(document: bytes) -> dict[int, str]:
    listed = json.loads(document)["panels"]
    return {
        one["id"]: one.get("title", "")
        for panel in listed
        for one in (panel, *panel.get("panels", ()))
    }
