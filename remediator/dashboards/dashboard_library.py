"""Load the dashboards of this installation.

A panel query is identified by dashboard uid, panel id and refId. Only the queries of these
dashboards are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.share import share


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One PromQL expression of a dashboard. `instant`: query only the end of the range."""

    expr: str
    instant: bool


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard. `document` is its JSON; `queries` are by panel id and refId, `variables` by name."""

    uid: str
    title: str
    description: str
    document: bytes
    queries: dict[tuple[int, str], PanelQuery]
    variables: dict[str, str]
    all_values: dict[str, str]
    annotations: tuple[PanelQuery, ...]


def read_dashboard(text: bytes) -> Dashboard:
    """Parse a dashboard from JSON. Raises msgspec.DecodeError or KeyError if it is invalid."""
    raw: dict[str, Any] = msgspec.json.decode(text)
    queries = {
        (panel["id"], target["refId"]): PanelQuery(
            target["expr"], bool(target.get("instant")) and not target.get("range")
        )
        for panel in _panels(raw["panels"])
        for target in panel.get("targets", ())
        if target.get("expr")
    }
    variables = [one for one in raw["templating"]["list"] if one["type"] == "query"]
    return Dashboard(
        uid=raw["uid"],
        title=raw["title"],
        description=raw.get("description", ""),
        document=text,
        queries=queries,
        variables={one["name"]: _definition(one["query"]) for one in variables},
        all_values={one["name"]: one.get("allValue") or ".*" for one in variables},
        annotations=tuple(
            PanelQuery(one["expr"], instant=False)
            for one in raw.get("annotations", {}).get("list", ())
            if one.get("enable") and one.get("expr")
        ),
    )


@cache
def dashboards() -> dict[str, Dashboard]:
    """Return the installed dashboards by uid, Fleet overview first."""
    try:
        folder: Path = share("dashboards")
    except FileNotFoundError:
        return {}
    found = [read_dashboard(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    found.sort(key=lambda dashboard: dashboard.uid != "fleetmedic-fleet")
    return {dashboard.uid: dashboard for dashboard in found}


def _panels(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all panels of a dashboard, including panels in collapsed rows."""
    return [one for panel in listed for one in (panel, *panel.get("panels", ()))]


def _definition(query: str | dict[str, str]) -> str:
    return query if isinstance(query, str) else query["query"]
