"""Every crash point of an undisturbed incident, with the real process and the real local cluster.

`CRASH_AT=n` ends the remediator hard after its n-th journal write or cluster effect. Started again,
the incident must end as the undisturbed one did, and no effect may have happened twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState
from fleetmedic.localcluster.shutdown import shutdown
from remediator.journal import read_events

pytestmark = pytest.mark.integration
TOKEN = "0123456789abcdef0123"
PATIENCE = 40.0
WORKERS = 2
PLAYBOOK = """
playbook: gpu-lost
match: {alertname: [GpuLost]}
target: gpu
quarantine: true
widen_to: node-down
jobs: {signal: true, restart: true, grace: 100ms, deadline: 20s}
ladder:
  - {do: reset_gpu, deadline: 20s, cooldown: 0s}
  - {do: reboot_node, deadline: 20s, cooldown: 0s}
verify: {tests: [probe], passes: 1, deadline: 20s}
readmit: {probation: 50ms}
"""
CONFIG = """
cluster:
  adapter: local
  local: {{cluster_dir: {state}/cluster, hardware_dir: {state}/hardware, burn_in: 10ms}}
level: repair
webhook_token_file: {folder}/token
without_alertmanager: true
playbook_dirs: [{folder}/playbooks]
timing: {{reconcile_every: 1h, hold: 50ms}}
guards: {{max_out_percent: 100, max_new: 1000, dead_man: "0", exporters_up_percent: 0}}
"""


@dataclass(frozen=True)
class World:
    """One local cluster, and the id of the one installation that may act on it."""

    state: Path
    installation: str
    cluster: LocalCluster
    hardware: Hardware


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[World]]:
    """Two running local clusters on simulated hardware, one for each worker."""
    with contextlib.ExitStack() as stack:
        states = [tmp_path_factory.mktemp("state") for _ in range(WORKERS)]
        yield [stack.enter_context(running_cluster(state)) for state in states]


@contextlib.contextmanager
def running_cluster(state: Path) -> Iterator[World]:
    hardware = Hardware(state / "hardware")
    hardware.create(4, 8)
    command = [
        sys.executable,
        "-m",
        "fleetmedic.cli",
        "localcluster",
        "serve",
        "--no-pool",
        "--state-dir",
        str(state),
    ]
    with (state / "log").open("w") as log:
        controller = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (state / "cluster" / "cluster.db").exists() or not (state / "log").stat().st_size:
            assert time.monotonic() < deadline, (state / "log").read_text()
            time.sleep(0.05)
        yield World(
            state, uuid.uuid4().hex, LocalCluster(state / "cluster", state / "hardware"), hardware
        )
    finally:
        controller.send_signal(signal.SIGTERM)
        controller.wait(10)
        shutdown(state, grace=1.0)  # jobs outlive their controller


@dataclass
class Ending:
    """What one incident came to, and what was done for it."""

    crashed: bool
    states: list[str]
    steps: list[tuple[str, str]]
    resets: int
    restarts: int
    signals: int


class Point:
    """One incident with one crash."""

    playbooks: ClassVar[dict[str, str]] = {"gpu-lost": PLAYBOOK}

    def __init__(self, world: World, folder: Path, port: int, crash_at: int) -> None:
        self.world, self.folder, self.port, self.crash_at = world, folder, port, crash_at
        (folder / "playbooks").mkdir(parents=True)
        for name, text in self.playbooks.items():
            (folder / "playbooks" / f"{name}.yml").write_text(text)
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        text = CONFIG.format(state=world.state, folder=folder)
        (folder / "remediator.yml").write_text(text)
        # Each point has a journal of its own; the installation is the same, as after a restore.
        (folder / "data").mkdir()
        (folder / "data" / "installation-id").write_text(world.installation)

    def run(self) -> Ending:
        cluster, name = self.world.cluster, f"job-{self.crash_at}"
        command = (
            sys.executable,
            "-c",
            "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: None)\ntime.sleep(600)",
        )
        cluster.submit(JobSpec(name, command, grace=0.5, env=dict(os.environ)))
        until(lambda: cluster.job(name).state is JobState.RUNNING, "the job does not start")
        job = cluster.job(name)
        target = Target.parse(f"{job.node}/{job.gpus[0]}")
        before = self.world.hardware.gpu(target.name, job.gpus[0]).resets
        process = self.start(crash=True)
        try:
            crashed = self.send(process, target) or self.finish(process)
            if crashed:
                process = self.start(crash=False)
                assert not self.send(process, target)
                assert not self.finish(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) in (0, 137)
        after = cluster.job(name)
        cluster.cancel(name, op_id=f"end-{name}")
        events = read_events(self.folder / "data")
        steps = [
            (one["data"]["step"], one["event"])
            for one in events
            if one["event"] in ("StepPrepared", "StepDone", "StepFailed")
        ]
        # The GPU is free again, so another point may have it by now: what counts is that we let it go.
        ours = {one["data"].get("op_id") for one in events}
        assert not [
            gpu.quarantined
            for node in cluster.nodes()
            for gpu in node.gpus
            if gpu.quarantined and gpu.quarantined.op_id in ours
        ]
        return Ending(
            crashed=crashed,
            states=[one["data"]["state"] for one in events if one["event"] == "StateChanged"],
            steps=steps,
            resets=self.world.hardware.gpu(target.name, job.gpus[0]).resets - before,
            restarts=len(after.restart_ops) + after.moves,
            signals=len(after.signals),
        )

    def start(self, *, crash: bool) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "fleetmedic.cli", "remediator", "serve",
            "--config", str(self.folder / "remediator.yml"),
            "--web.listen-address", f"127.0.0.1:{self.port}", "--data-dir", str(self.folder / "data"),
        ]  # fmt: skip
        environment = dict(os.environ) | ({"CRASH_AT": str(self.crash_at)} if crash else {})
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        until(lambda: process.poll() is not None or self._ready(), "the remediator does not start")
        return process

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def send(self, process: subprocess.Popen[bytes], target: Target) -> bool:
        """Deliver the alert as Alertmanager does, again and again until a 202; True if it crashed."""
        labels = {"severity": "critical", "cluster": "local"} | self.labels(target)
        alert = {"status": "firing", "labels": labels, "fingerprint": "".join(filter(str.isalnum, f"{target}{self.crash_at}")),
                 "startsAt": datetime.fromtimestamp(1_795_000_000 + self.crash_at, UTC).isoformat()}  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/alerts", json.dumps({"alerts": [alert]}).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )  # fmt: skip
        while process.poll() is None:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert answer.status == 202
                    return False
            except urllib.error.HTTPError as refused:
                if refused.code < 500:  # the same request would be refused for ever
                    raise
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        assert process.returncode == 137, (self.folder / "log").read_text()[-2000:]
        return True

    def labels(self, target: Target) -> dict[str, str]:
        """Return the labels of the alert on a target."""
        assert target.gpu is not None
        uuid = self.world.hardware.gpu(target.name, target.gpu).uuid
        return {
            "alertname": "GpuLost",
            "node": target.name,
            "gpu": str(target.gpu),
            "uuid": uuid,
        }

    def finish(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the end of the incident, or of the process; True if it crashed."""

        def closed() -> bool:
            return any(
                one["data"].get("state") in ("CLOSED", "ESCALATED", "FAILED")
                for one in read_events(self.folder / "data")
            )

        until(lambda: process.poll() is not None or closed(), self.story)
        if process.poll() is None:
            time.sleep(0.05)
        if process.poll() is not None:
            assert process.returncode == 137, (self.folder / "log").read_text()[-2000:]
            return True
        return False

    def story(self) -> str:
        events = [f"{one['event']} {one['text']}" for one in read_events(self.folder / "data")]
        return "\n".join([*events, "log:", (self.folder / "log").read_text()[-2000:]])


def until(what: Callable[[], Any], complaint: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, complaint() if callable(complaint) else complaint
        time.sleep(0.02)


def crash_everywhere(
    worlds: list[World], run: Callable[[World, int], Ending]
) -> tuple[Ending, dict[int, Ending]]:
    """Return how an incident ends undisturbed, and after a crash at each point."""
    undisturbed = run(worlds[0], 100_000)
    assert not undisturbed.crashed
    endings: dict[int, Ending] = {}
    lock, following, done = threading.Lock(), iter(range(1, 200)), threading.Event()

    def work(world: World) -> None:
        while not done.is_set():
            with lock:
                crash_at = next(following)
            endings[crash_at] = ending = run(world, crash_at)
            if not ending.crashed:
                done.set()

    with ThreadPoolExecutor(WORKERS) as pool:
        for worker in [pool.submit(work, world) for world in worlds]:
            worker.result()
    print(f"{sum(ending.crashed for ending in endings.values())} crash points")
    return undisturbed, endings


def test_a_crash_at_any_point_changes_nothing_about_how_it_ends(
    worlds: list[World], tmp_path: Path, new_port: Callable[[], int]
) -> None:
    def run(world: World, crash_at: int) -> Ending:
        return Point(world, tmp_path / str(crash_at), new_port(), crash_at).run()

    undisturbed, endings = crash_everywhere(worlds, run)
    assert undisturbed.states[-1] == "CLOSED"
    assert (undisturbed.resets, undisturbed.signals) == (1, 1)
    assert sum(ending.crashed for ending in endings.values()) >= 25
    for crash_at, ending in sorted(endings.items()):
        about = (crash_at, ending)
        assert undisturbed.states == ending.states, about
        assert undisturbed.steps == ending.steps, about
        assert (undisturbed.resets, undisturbed.restarts) == (ending.resets, ending.restarts), about
        assert undisturbed.signals == ending.signals, about
