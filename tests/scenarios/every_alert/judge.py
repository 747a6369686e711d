"""One Prometheus with the shipped rules, with their durations divided by one factor."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleetmedic.kernel.files import write_atomic

FIRING = 'ALERTS{alertstate="firing"}'
Labels = dict[str, str]


@dataclass
class Judge:
    """A running Prometheus; `folder` contains its configuration and rules."""

    factor: int
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an API response. Raises OSError."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}{path}?{query}", timeout=20) as answer:
            return json.loads(answer.read())["data"]

    def series(self, expr: str) -> list[tuple[Labels, float]]:
        """The current result of an expression."""
        found = self.ask("/api/v1/query", query=expr)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def alerts(self, state: str) -> list[Labels]:
        """Labels of the current alerts in state `firing` or `pending`."""
        found = self.ask("/api/v1/alerts")["alerts"]
        return [each["labels"] for each in found if each["state"] == state]

    def first_fired(self, since: float) -> list[tuple[Labels, float]]:
        """Labels and first firing time of each alert since the Unix time `since`."""
        span = {"start": f"{since:.3f}", "end": f"{time.time():.3f}", "step": "1"}
        found = self.ask("/api/v1/query_range", query=FIRING, **span)["result"]
        return [(each["metric"], float(each["values"][0][0])) for each in found]

    def reload(self) -> bool:
        """Reload; returns whether the reload succeeded."""
        request = urllib.request.Request(f"http://{self.address}/-/reload", method="POST")
        try:
            urllib.request.urlopen(request, timeout=20).close()
        except urllib.error.HTTPError:
            return False
        return True

    def know_alertmanagers(self, addresses: list[str]) -> None:
        """Set the Alertmanagers in its service discovery."""
        found = json.dumps([{"targets": addresses}])
        write_atomic(self.folder / "alertmanagers.json", found)

    def site_rules(self, name: str, text: str) -> None:
        """Add a rule file of the site."""
        (self.folder / "site").mkdir(exist_ok=True)
        write_atomic(self.folder / "site" / name, text)

    def configure(
        self, scrapes: list[Mapping[str, Any]], scrape: float, remote_read: str, generated: Path
    ) -> None:
        """Write prometheus.yml. `generated` is the folder of the rules of detectors."""
        folder = self.folder
        folders = [folder / "rules/static", folder / "site", generated]
        settings = {
            "global": {
                "scrape_interval": f"{scrape:g}s", "scrape_timeout": f"{scrape * 900:.0f}ms",
                "evaluation_interval": "1s",
            },
            "rule_files": [f"{each}/*.yml" for each in folders],
            "alerting": {
                "alertmanagers": [
                    {
                        "file_sd_configs": [
                            {"files": [f"{folder}/alertmanagers.json"], "refresh_interval": "5s"}
                        ]
                    }
                ]
            },
            # used only by queries with the matcher store="old"
            "remote_read": [
                {"url": remote_read, "read_recent": True, "required_matchers": {"store": "old"}}
            ],
            "scrape_configs": scrapes,
        }  # fmt: skip
        write_atomic(folder / "prometheus.yml", yaml.safe_dump(settings, sort_keys=False))

    def arguments(self) -> list[str]:
        """The command-line options of Prometheus."""
        return [
            f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={self.address}", "--web.enable-lifecycle",
            "--storage.tsdb.retention.time=2h", "--rules.alert.resend-delay=5s",
        ]  # fmt: skip
