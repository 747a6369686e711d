"""The demo's data sources: Prometheus' samples, Alertmanager's alerts, the remediator's journal, the
cluster's store, a job's progress file. This module only reads.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetmedic.localcluster.client import LocalCluster
from remediator.journal import read_events

MAX_BODY = 8_000_000


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert as Alertmanager reports it; `starts_at` in Unix seconds."""

    labels: Mapping[str, str]
    starts_at: float


@dataclass(slots=True)
class StackObserver:
    """A view of all sources. `refresh` reads journal and alerts; Prometheus is queried on demand."""

    state: Path
    urls: Mapping[str, str]
    cluster: LocalCluster
    journal: list[dict[str, Any]] = field(default_factory=list)
    alerts: dict[tuple[str, ...], ActiveAlert] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read the journal's new events and the alerts that are active now."""
        after = self.journal[-1]["seq"] if self.journal else 0
        self.journal.extend(read_events(self.state / "remediator" / "data", after=after))
        for item in _get_json(f"{self.urls['alertmanager']}/api/v2/alerts") or []:
            labels = {str(key): str(value) for key, value in item["labels"].items()}
            starts = datetime.fromisoformat(item["startsAt"]).timestamp()
            key = (*sorted(f"{name}={value}" for name, value in labels.items()), str(starts))
            self.alerts.setdefault(key, ActiveAlert(labels, starts))

    def first_sample(
        self, selector: str, since: float, now: float, holds: Callable[[float], bool]
    ) -> tuple[float, float] | None:
        """The first raw sample (time, value) at or after `since` for which `holds`, or None."""
        found = [(at, value) for at, value in self._samples(selector, since, now) if holds(value)]
        return found[0] if found else None

    def _samples(self, selector: str, since: float, now: float) -> list[tuple[float, float]]:
        window = int(now - since) + 2
        query = urllib.parse.urlencode({"query": f"{selector}[{window}s]", "time": f"{now:.3f}"})
        body = _get_json(f"{self.urls['prometheus']}/api/v1/query?{query}") or {}
        samples = [
            (float(at), float(value))
            for series in body.get("data", {}).get("result", [])
            for at, value in series["values"]
        ]
        return sorted((at, value) for at, value in samples if at >= since)

    def event(
        self, since: float, event: str, *, target: str = "", **data: str
    ) -> dict[str, Any] | None:
        """The first journal event of that kind after `since`, with that target and data."""
        for item in self.journal:
            if item["at"] < since or item["event"] != event or target not in ("", item["target"]):
                continue
            if all(str(item["data"].get(key)) == value for key, value in data.items()):
                return item
        return None

    def alert(self, since: float, name: str, **labels: str) -> ActiveAlert | None:
        """The first alert of that name and labels that started after `since`."""
        found = [
            alert
            for alert in self.alerts.values()
            if alert.labels.get("alertname") == name
            and alert.starts_at >= since - 1.0
            and all(alert.labels.get(key) == value for key, value in labels.items())
        ]
        return min(found, key=lambda alert: alert.starts_at, default=None)

    def progress(self, node: str, job_id: str) -> dict[str, Any]:
        """The latest progress of a job on that node; empty if it has reported none."""
        try:
            found = json.loads((self.state / "progress" / node / f"{job_id}.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _get_json(url: str) -> Any:
    """The JSON at a loopback URL, or None on failure (the caller polls)."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - our own loopback URLs
            return json.loads(answer.read(MAX_BODY))
    except (urllib.error.URLError, TimeoutError, ValueError, ConnectionError):
        return None
