"""Read the data sources in which a demo's steps become visible.

These are Prometheus, Alertmanager, the remediator's journal, the cluster's store, and the jobs' progress files.
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
from remediator.journal_reader import JournalReader

MAX_BODY = 8_000_000


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert in Alertmanager. `starts_at` is in Unix seconds."""

    labels: Mapping[str, str]
    starts_at: float


@dataclass(slots=True)
class StackObserver:
    """Reads the state of a stack. `refresh` reads journal and alerts; Prometheus is queried on demand."""

    state: Path
    urls: Mapping[str, str]
    cluster: LocalCluster
    journal: list[dict[str, Any]] = field(default_factory=list)
    alerts: dict[tuple[str, ...], ActiveAlert] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read the new events of the remediator's journal, and the alerts that are active now."""
        after = self.journal[-1]["seq"] if self.journal else 0
        self.journal.extend(JournalReader(self.state / "remediator" / "data").lines(after=after))
        for item in _get_json(f"{self.urls['alertmanager']}/api/v2/alerts") or []:
            labels = {str(key): str(value) for key, value in item["labels"].items()}
            starts = datetime.fromisoformat(item["startsAt"]).timestamp()
            key = (*sorted(f"{name}={value}" for name, value in labels.items()), str(starts))
            self.alerts.setdefault(key, ActiveAlert(labels, starts))

    def first_sample(
        self, selector: str, since: float, now: float, holds: Callable[[float], bool]
    ) -> tuple[float, float] | None:
        """Return a query's first sample (time, value) at or after `since` that satisfies `holds`, or None."""
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
        """Return the first journal event of that kind after `since` with that target and data, or None."""
        for item in self.journal:
            if item["at"] < since or item["event"] != event or target not in ("", item["target"]):
                continue
            if all(str(item["data"].get(key)) == value for key, value in data.items()):
                return item
        return None

    def alert(self, since: float, name: str, **labels: str) -> ActiveAlert | None:
        """Return the first alert with that name and labels that started after `since`, or None."""
        found = [
            alert
            for alert in self.alerts.values()
            if alert.labels.get("alertname") == name
            and alert.starts_at >= since - 1.0
            and all(alert.labels.get(key) == value for key, value in labels.items())
        ]
        return min(found, key=lambda alert: alert.starts_at, default=None)

    def progress(self, node: str, job_id: str) -> dict[str, Any]:
        """Return the latest progress report of a job on a node; empty if the job has not reported."""
        try:
            found = json.loads((self.state / "progress" / node / f"{job_id}.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _get_json(url: str) -> Any:
    """Return the JSON at a loopback URL, or None on failure; the caller tries again later."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - our own loopback URLs
            return json.loads(answer.read(MAX_BODY))
    except (urllib.error.URLError, TimeoutError, ValueError, ConnectionError):
        return None
