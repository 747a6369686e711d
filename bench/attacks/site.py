"""The stack under attack, and access to its parts from outside."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec
from fleetmedic.stack.lifecycle import Stack
from rules.render import shipped

NODES, GPUS = 4, 8
# What each shipped rule declares that the remediator decides by, by the alert's name.
DECLARED = {
    rule.name: {key: rule.labels[key] for key in ("instrument", "reports") if key in rule.labels}
    for file in shipped()
    for rule in file.rules()
    if rule.is_alert
}
Gpu = tuple[str, int]


class Site:
    """The stack under attack, and access to its parts from outside."""

    def __init__(self, stack: Stack, state: Path) -> None:
        self.stack, self.state, self.urls = stack, state, stack.urls()
        self.cluster = LocalCluster(state / "cluster", state / "hardware")
        self.hardware = Hardware(state / "hardware")
        self.token = (state / "secrets" / "webhook.token").read_text().strip()
        self.began = time.time()
        self.acknowledged: dict[str, float] = {}

    def say(self, text: str) -> None:
        print(f"[{time.time() - self.began:7.1f} s] {text}", flush=True)

    def ask(self, url: str, body: object = None, *, method: str | None = None) -> tuple[int, str]:
        """Status and text of the response; status 0 if there is no response."""
        data = (
            None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except (OSError, ValueError) as error:
            return 0, str(error)

    def look(self, server: str, path: str, default: Any) -> Any:
        """The JSON response of a server; `default` if there is no response."""
        status, text = self.ask(f"{self.urls[server]}{path}")
        return json.loads(text) if status == 200 else default

    def alert(self, labels: dict[str, str], seconds: float) -> None:
        now = time.time()
        one = {"labels": labels, "startsAt": rfc(now), "endsAt": rfc(now + seconds)}
        status, _ = self.ask(f"{self.urls['alertmanager']}/api/v2/alerts", [one])
        self.say(
            f"POST alertmanager/api/v2/alerts for {seconds:.0f} s {json.dumps(labels)} -> {status}"
        )

    def webhook(self, labels: dict[str, str], fingerprint: str, status: str = "firing") -> None:
        now = time.time()
        one = {"status": status, "labels": labels, "startsAt": rfc(now), "fingerprint": fingerprint}
        code, _ = self.ask(
            f"{self.urls['remediator']}/api/v1/alerts", {"alerts": [one], "receiver": "remediator"}
        )
        if code == 202:
            self.acknowledged[fingerprint] = now

    def order(self, path: str, body: dict[str, Any]) -> int:
        code, text = self.ask(f"{self.urls['remediator']}/api/v1/{path}", body)
        self.say(f"POST remediator/api/v1/{path} {json.dumps(body)} -> {code} {text.strip()[:90]}")
        return code

    def pid(self, name: str) -> int | None:
        who = self.stack.children()[name].who
        return int(who[0]) if who else None

    @contextmanager
    def journal(self) -> Iterator[sqlite3.Connection]:
        path = self.state / "remediator" / "data" / "journal.db"
        found = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            yield found
        finally:
            found.close()

    def labels(self, name: str, node: str, gpu: int | None = None) -> dict[str, str]:
        found = {
            "alertname": name,
            "cluster": "local",
            "node": node,
            "severity": "critical",
            "source": "static",
            **DECLARED.get(name, {"instrument": ""}),
        }
        if gpu is None:
            return found | {"category": "node"}
        return found | {
            "category": "gpu",
            "gpu": str(gpu),
            "uuid": self.hardware.gpu(node, gpu).uuid,
        }


def quarantines(site: Site) -> Iterator[Target]:
    """The targets that fleetmedic has quarantined."""
    with site.cluster.store.read() as db:
        rows = db.execute("SELECT target FROM quarantines WHERE owner = 'fleetmedic'").fetchall()
    yield from (Target.parse(row[0]) for row in rows)


def train(site: Site, name: str, gpus: int) -> None:
    """Start a training job."""
    program = (
        sys.executable,
        "-P",
        "-m",
        "fleetmedic.demo.training",
        "--steps",
        "1000000",
        "--step-seconds",
        "0.5",
    )
    name = site.cluster.submit(
        JobSpec(name, program, gpus=gpus, cwd="/", env=dict(os.environ), user="bench")
    )
    site.say(f"fleetmedic run --gpus {gpus} --name {name} -- python -m fleetmedic.demo.training")


def rfc(at: float) -> str:
    """A time in RFC 3339 format."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
