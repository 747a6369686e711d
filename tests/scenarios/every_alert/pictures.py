"""The dashboard panels of the fleet, queried through the proxy of the remediator."""

from __future__ import annotations

import asyncio
import json

from every_alert.fleet import SCRAPE, Fleet
from remediator.http import PrometheusClient
from remediator.pictures.library import boards
from remediator.pictures.proxy import Asked, Proxy


def empty(fleet: Fleet, seconds: float) -> dict[str, str]:
    """The panel queries without a result over the last `seconds`: expressions by dashboard and title.
    Raises HttpError if Prometheus rejects a query."""
    return asyncio.run(_empty(fleet, seconds))


async def _empty(fleet: Fleet, seconds: float) -> dict[str, str]:
    found: dict[str, str] = {}
    asked = Asked(f"now-{seconds:.0f}s", "now", {})
    async with PrometheusClient(f"http://{fleet.main.address}", timeout=30.0) as client:
        proxy = Proxy(client, SCRAPE)
        for board in boards().values():
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
