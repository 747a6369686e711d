"""A whole stack on simulated GPUs, as the tests of what the remediator must not do see and move it.

Every process is the real one. A scene knows what must stay as it is: jobs, boards, nodes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState, JobView
from fleetmedic.stack.lifecycle import Stack, StackOptions
from remediator.journal import read_events
from tests.unit.remediator.shipped_alerts import as_declared

FACTOR = 30.0
OWNER = "fleetmedic"
ENDED = ("CLOSED", "SUPPRESSED", "OVERRIDDEN", "FAILED")
# A job that does nothing for long: whether it was touched can be seen by its process.
IDLE = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: None)\ntime.sleep(3600)"
STATIC = {"cluster": "local", "source": "static", "severity": "critical"}
Edit = Callable[[Path], None]


def until(holds: Callable[[], object], seconds: float, what: Callable[[], object]) -> None:
    """Wait for a condition; after so many seconds the test fails with what is seen instead."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def stamp(at: float) -> str:
    """Unix seconds as Alertmanager writes them."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def ask(
    url: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> Any:
    """The answer of a server, read as JSON."""
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | dict(headers or {})
    request = urllib.request.Request(url, data, given, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def status_of(url: str) -> tuple[int, str]:
    """The status and text of a page, refused ones included."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@dataclass(frozen=True)
class Untouched:
    """What was true of a job, the boards and the nodes when it was noted."""

    job: JobView | None
    resets: Mapping[tuple[str, int], int]
    boots: Mapping[str, int]


class Scene:
    """One running stack, and what a test asks of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.state = stack.options.state_dir
        self.hardware = Hardware(self.state / "hardware")
        self.cluster = LocalCluster(self.state / "cluster", self.state / "hardware")

    def url(self, name: str) -> str:
        """Where a process of the stack listens."""
        return self.stack.plan.url(name)

    # ---- what is there

    def journal(self, target: str | None = None) -> list[dict[str, Any]]:
        """The remediator's events, about one target or all."""
        events = read_events(self.state / "remediator" / "data")
        return [one for one in events if target is None or one["target"] == target]

    def opened(self, target: str) -> int:
        """How many incidents were opened on a target."""
        return sum(one["event"] == "IncidentOpened" for one in self.journal(target))

    def states(self, target: str) -> list[str]:
        """The states that a target's incidents went through."""
        return [e["data"]["state"] for e in self.journal(target) if e["event"] == "StateChanged"]

    def done(self, target: str) -> list[str]:
        """The actions that were done to a target."""
        return [e["data"]["action"] for e in self.journal(target) if e["event"] == "StepDone"]

    def incident(self, target: str) -> dict[str, Any]:
        """A target's newest incident as the API shows it; empty where there is none."""
        found = ask(f"{self.url('remediator')}/api/v1/incidents")["incidents"]
        own = [one for one in found if one["target"] == target]
        return max(own, key=lambda one: one["opened"], default={})

    def held(self, target: str) -> str:
        """The reason that holds the target's newest incident now; empty where nothing does."""
        found = self.incident(target)
        return str(found["reason"]) if found and found["held_since"] is not None else ""

    def why(self, target: str) -> str:
        """What `fleetmedic why` says: the decisions about a target, one a line, the newest last."""
        short = target.removeprefix("gpu/").removeprefix("node/")
        said = json.loads(self.cli("why", short, "--json"))
        lines = [f"{one['reason']}: {one['text']}" for one in said["decisions"]]
        return "\n".join(lines) or str(said["text"])

    def cli(self, *arguments: str) -> str:
        """What a command of fleetmedic prints, about this stack."""
        command = [sys.executable, "-P", "-m", "fleetmedic.cli", *arguments]
        said = subprocess.run(
            [*command, "--state-dir", str(self.state)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        return said.stdout

    def quarantined(self, target: str) -> bool:
        """Whether the remediator holds a target in quarantine."""
        wanted = Target.parse(target)
        node = next(one for one in self.cluster.nodes() if one.name == wanted.name)
        held = node.quarantined if wanted.gpu is None else node.gpus[wanted.gpu].quarantined
        return held is not None and held.owner == OWNER

    def out(self) -> list[str]:
        """Everything that the remediator holds in quarantine."""
        nodes = self.cluster.nodes()
        held = [(f"node/{one.name}", one.quarantined) for one in nodes]
        held += [
            (f"gpu/{one.name}/{gpu.index}", gpu.quarantined) for one in nodes for gpu in one.gpus
        ]
        return [name for name, by in held if by is not None and by.owner == OWNER]

    def open(self) -> dict[str, str]:
        """What holds each open incident now, by target; empty where nothing does."""
        found = ask(f"{self.url('remediator')}/api/v1/incidents")["incidents"]
        return {
            one["target"]: one["reason"] if one["held_since"] is not None else ""
            for one in found
            if one["state"] not in ENDED
        }

    def uuid(self, node: str, gpu: int) -> str:
        """The uuid of a board."""
        return self.hardware.gpu(node, gpu).uuid

    def story(self, target: str) -> str:
        """For the message of a failed test: everything that is known of a target."""
        lines = [
            f"{e['event']} {e['reason']} {e['data'].get('state', e['data'].get('action', ''))}: {e['text']}"
            for e in self.journal(target)
        ]
        return "\n".join([f"{target}: {self.incident(target).get('state')}", *lines[-40:]])

    # ---- what must stay

    def note(self, job: str | None = None) -> Untouched:
        """Remember what must not change: a job and the boards of its node; without a job, every board."""
        found = self.cluster.job(job) if job else None
        nodes = [found.node] if found and found.node else self.hardware.nodes()
        return Untouched(
            found,
            {(node, gpu): self.hardware.gpu(node, gpu).resets
             for node in nodes for gpu in self.hardware.gpus(node)},
            {node: self.hardware.boot(node).boots for node in nodes},
        )  # fmt: skip

    def require_untouched(self, before: Untouched) -> None:
        """The job runs on as the same process; no board was reset and no node rebooted since."""
        now = self.note(before.job.id if before.job else None)
        assert now.resets == before.resets
        assert now.boots == before.boots
        if before.job is not None and now.job is not None:
            for name in (
                "state",
                "node",
                "gpus",
                "pid",
                "restarts",
                "moves",
                "signals",
                "restart_ops",
            ):
                assert getattr(now.job, name) == getattr(before.job, name), name

    # ---- what happens

    def job_on(self, node: str, gpu: int = 0, *, name: str = "job", gpus: int = 1) -> str:
        """Start an idle job on these GPUs of a node; returns its id."""
        others = [Target.parse(f"node/{one}") for one in self.hardware.nodes() if one != node]
        lower = [Target.parse(f"gpu/{node}/{index}") for index in range(gpu)]
        free = [one for one in (*others, *lower) if not self.quarantined(str(one))]
        op = f"place-{name}-{time.monotonic_ns()}"
        for target in free:
            self.cluster.quarantine(target, op_id=f"{op}-{target}", owner="test", reason="placing")
        try:
            command = (sys.executable, "-c", IDLE)
            spec = JobSpec(name, command, gpus=gpus, grace=0.5, env=dict(os.environ))
            job = self.cluster.submit(spec)
            until(lambda: self.running(job), 20, lambda: self.cluster.job(job))
        finally:
            for target in free:
                self.cluster.release(target, op_id=f"{op}-{target}-back", owner="test")
        placed = self.cluster.job(job)
        assert (placed.node, placed.gpus[0]) == (node, gpu), placed
        return job

    def running(self, job: str) -> bool:
        """Whether a job has a process now."""
        found = self.cluster.job(job)
        return found.state is JobState.RUNNING and found.pid is not None

    def post(
        self, labels: Mapping[str, str], *, starts: float | None = None, ends: float | None = None
    ) -> None:
        """Send an alert to Alertmanager as Prometheus does; it ends in an hour where nothing is said."""
        now = time.time()
        alert = {
            "labels": dict(labels), "annotations": {}, "startsAt": stamp(starts or now),
            "endsAt": stamp(ends or now + 3600),
        }  # fmt: skip
        ask(f"{self.url('alertmanager')}/api/v2/alerts", [alert])

    def end(self, labels: Mapping[str, str]) -> None:
        """Let an alert end that was posted, and wait until Alertmanager lists it no more."""
        now = time.time()
        self.post(labels, starts=now - 1, ends=now)
        until(lambda: not self.listed(**labels), 20, lambda: self.listed(**labels))

    def listed(self, **labels: str) -> list[dict[str, Any]]:
        """What Alertmanager lists of the alerts with these labels; nothing while it is stopped."""
        query = urllib.parse.urlencode([("filter", f'{k}="{v}"') for k, v in labels.items()])
        found: list[dict[str, Any]] = []
        with contextlib.suppress(urllib.error.URLError):
            found = ask(f"{self.url('alertmanager')}/api/v2/alerts?{query}")
        return found

    def value(self, expression: str) -> float | None:
        """What Prometheus answers to an expression; None where it has nothing."""
        query = urllib.parse.urlencode({"query": expression})
        found = ask(f"{self.url('prometheus')}/api/v1/query?{query}")["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def passes(self, count: int = 2) -> None:
        """Wait until the remediator has compared with Alertmanager so many times more."""
        for _ in range(count):
            before = self._compared()
            until(lambda before=before: self._compared() > before, 20, lambda: "no reconciliation")  # type: ignore[misc]

    def _compared(self) -> float:
        page = status_of(f"{self.url('remediator')}/metrics")[1]
        name = "remediator_reconcile_last_timestamp_seconds "
        return next(float(x.removeprefix(name)) for x in page.splitlines() if x.startswith(name))

    def webhook(self, labels: Mapping[str, str], fingerprint: str) -> None:
        """Send an alert to the remediator, past Alertmanager."""
        token = self.stack.plan.token_file.read_text().strip()
        alert = {
            "status": "firing", "labels": dict(labels), "annotations": {}, "fingerprint": fingerprint,
            "startsAt": stamp(time.time()), "endsAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        body = {
            "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing",
            "receiver": "remediator", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "", "alerts": [alert],
        }  # fmt: skip
        url = f"{self.url('remediator')}/api/v1/alerts"
        ask(url, body, {"Authorization": f"Bearer {token}"})


def gpu_alert(scene: Scene, name: str, node: str, gpu: int) -> dict[str, str]:
    """The labels of an alert about a GPU, as the shipped rules write them."""
    labels = STATIC | {
        "alertname": name, "category": "gpu", "node": node, "gpu": str(gpu),
        "uuid": scene.uuid(node, gpu),
    }  # fmt: skip
    return as_declared(labels)


def settings(**changes: Any) -> Edit:
    """An edit of remediator.yml: each key replaces, or where both are mappings extends, what is there."""

    def edit(state: Path) -> None:
        path = state / "remediator" / "remediator.yml"
        body = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            body[key] = {**body.get(key, {}), **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(body))

    return edit


@contextlib.contextmanager
def scene(
    folder: Path, port_base: int, *edits: Edit, level: str = "repair",
    notifications: Path | None = None, reconcile: str = "2s", hold: str = "3s",
) -> Iterator[Scene]:  # fmt: skip
    """A ready stack of four nodes of eight GPUs; the edits are made to its settings before it starts."""
    options = StackOptions(
        state_dir=folder, port_base=port_base, factor=FACTOR, level=level, simulate=True,
        history=False, notifications=str(notifications) if notifications else None,
    )  # fmt: skip
    stack = Stack(options)
    try:
        stack.prepare(lambda _: None)
        for edit in (settings(timing={"reconcile_every": reconcile, "hold": hold}), *edits):
            edit(folder)
        stack.start()
        stack.wait_ready(90.0)
        found = Scene(stack)
        # Before the Watchdog has arrived, a missing alert proves nothing.
        until(lambda: found.listed(alertname="Watchdog"), 60, lambda: "no Watchdog")
        # A node whose exporter was never scraped has not been identified.
        until(lambda: found.value("count(gpu_info)") == 32, 60, lambda: "not every GPU is scraped")
        yield found
    finally:
        stack.stop()


def forget(scene: Scene, name: str) -> None:
    """Stop Alertmanager or Prometheus, remove what it stored, and start it again."""
    scene.stack.stop_one(name)
    shutil.rmtree(scene.state / name / "data")
    (scene.state / name / "data").mkdir()
    scene.stack.start_one(name)
