"""What a decision costs in a large fleet, while ten thousand alerts arrive in one burst.

A real Alertmanager receives one alert for almost every GPU of 1,250 nodes with 8 GPUs each, and sends them
to `fleetmedic remediator serve` on the in-memory cluster. Meanwhile, a few fresh alerts are sent to the
webhook directly. Afterwards almost everything is on hold, because so many alerts are a storm.

Printed: whether the journal holds every alert, the CPU time for each decision (of the whole process, with
webhook and journal), the time until a fresh alert was decided, and the CPU share once all are on hold.

Run: python bench/decisions.py [--nodes 1250] [--gpus 8] [--rest 30] [--alertmanager alertmanager-0.33]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from programs import free_port, started, version

from fleetmedic.alerting.render import RenderContext, parse_version
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries
from remediator.journal import find_events

TOKEN = "0123456789abcdef0123"
FRESH = 8
CONFIG = """
cluster: {{name: bench, adapter: memory, memory: {{nodes: {nodes}, gpus: {gpus}}}}}
level: repair
webhook_token_file: {folder}/token
alertmanager_url: http://{alertmanager}
"""


def labels(node: int, gpu: int) -> dict[str, str]:
    """The labels of a hardware alert about one GPU of the in-memory cluster."""
    return {
        "alertname": "GpuLost", "severity": "critical", "category": "gpu", "source": "static",
        "instrument": "driver", "cluster": "bench", "node": f"node{node}", "gpu": str(gpu),
        "uuid": f"GPU-{node}-{gpu}",
    }  # fmt: skip


def post(url: str, body: object, token: str = "") -> None:
    """Send a JSON body. Raises URLError."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    urllib.request.urlopen(request, timeout=60).close()


def to_alertmanager(url: str, alerts: list[dict[str, str]]) -> None:
    """Send firing alerts to Alertmanager, as Prometheus does."""
    post(
        f"{url}/api/v2/alerts",
        [{"labels": one, "annotations": {"summary": "x" * 80}} for one in alerts],
    )


def to_webhook(url: str, one: dict[str, str]) -> None:
    """Send one firing alert to the remediator, as Alertmanager does."""
    alert = {
        "status": "firing", "labels": one, "annotations": {},
        "startsAt": datetime.now(UTC).isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": f"{abs(hash((one['node'], one['gpu']))):016x}"[:16],
    }  # fmt: skip
    post(f"{url}/api/v1/alerts", {"version": "4", "alerts": [alert]}, TOKEN)


class Remediator:
    """The running remediator: its metrics, its journal and its CPU time."""

    def __init__(self, url: str, folder: Path, pid: int) -> None:
        self.url, self.folder = url, folder
        self._process = psutil.Process(pid)

    def metric(self, name: str) -> float:
        """The sum of all series of one metric."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        found = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> float:
        """Resident memory in MB."""
        return self._process.memory_info().rss / 1e6

    def decided(self, target: str) -> bool:
        """Whether an incident of the target was opened, and its first decision is in the journal."""
        events = find_events(self.folder, target=target)
        return any(str(one.kind) in ("StateChanged", "Held") for one in events)


@contextmanager
def running(folder: Path, given: argparse.Namespace) -> Iterator[tuple[str, Remediator]]:
    """Alertmanager and the remediator; yields Alertmanager's URL and the remediator."""
    alertmanager, own = (f"127.0.0.1:{free_port()}" for _ in range(2))
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    context = RenderContext(
        f"http://{own}", str(folder / "token"), str(share("alertmanager") / "templates"),
        parse_version(version(given.alertmanager)),
    )  # fmt: skip
    (folder / "alertmanager.yml").write_text(render_alertmanager(context))
    text = CONFIG.format(
        nodes=given.nodes, gpus=given.gpus, folder=folder, alertmanager=alertmanager
    )
    (folder / "remediator.yml").write_text(text)
    command = [
        *binaries.command(given.alertmanager), f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/am", f"--web.listen-address={alertmanager}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    serve = [
        sys.executable, "-m", "fleetmedic.cli", "remediator", "serve",
        f"--config={folder}/remediator.yml", f"--data-dir={folder}/data",
        f"--web.listen-address={own}",
    ]  # fmt: skip
    with started(command, f"http://{alertmanager}/-/ready", folder / "alertmanager.log"):
        url = f"http://{alertmanager}"
        to_alertmanager(url, [{"alertname": "Watchdog", "severity": "none", "cluster": "bench"}])
        with started(serve, f"http://{own}/-/healthy", folder / "remediator.log") as process:
            yield url, Remediator(f"http://{own}", folder / "data", process.pid)


def burst(url: str, remediator: Remediator, given: argparse.Namespace) -> None:
    """Send the burst and print what it cost."""
    every = [labels(node, gpu) for node in range(1, given.nodes + 1) for gpu in range(given.gpus)]
    fresh = every[:: len(every) // FRESH][:FRESH]
    wave = [one for one in every if one not in fresh]
    cpu, made, began = remediator.cpu(), remediator.metric(EVALUATIONS), time.monotonic()
    to_alertmanager(url, wave)
    waits = []
    for one in fresh:
        time.sleep(0.5)
        waits.append(seconds_to_decide(remediator, one))
    while remediator.metric("remediator_incidents_total") < len(every):
        if time.monotonic() - began > given.patience:
            raise SystemExit(
                f"only {remediator.metric('remediator_incidents_total'):.0f} incidents of {len(every)}"
            )
        time.sleep(0.5)
    took = time.monotonic() - began
    spent, count = remediator.cpu() - cpu, remediator.metric(EVALUATIONS) - made
    print(f"burst: {len(every)} alerts, all with an incident after {took:.1f} s")
    print(
        f"CPU: {spent:.1f} s for {count:.0f} decisions = {1000 * spent / max(1, count):.2f} ms a decision"
    )
    print(f"fresh alert decided meanwhile: at most {1000 * max(waits):.0f} ms of {len(waits)}")


def seconds_to_decide(remediator: Remediator, one: dict[str, str]) -> float:
    """Send one fresh alert to the webhook; returns the seconds until its first decision is durable."""
    began = time.monotonic()
    to_webhook(remediator.url, one)
    target = f"gpu/{one['node']}/{one['gpu']}"
    while not remediator.decided(target):
        if time.monotonic() - began > 60:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began


def rest(url: str, remediator: Remediator, given: argparse.Namespace) -> None:
    """Print the CPU share while all incidents are on hold and nothing is written any more."""
    until, events = time.monotonic() + given.patience, -1.0
    while time.monotonic() < until:
        time.sleep(10)
        before, events = events, remediator.metric("remediator_journal_events_total")
        if events - before <= 20:
            break
    cpu, made, began = remediator.cpu(), remediator.metric(EVALUATIONS), time.monotonic()
    time.sleep(given.rest)
    took = time.monotonic() - began
    share_ = (remediator.cpu() - cpu) / took
    rate = (remediator.metric(EVALUATIONS) - made) / took
    print(f"memory: {remediator.memory():.0f} MB, journal: {events:.0f} events")
    print(f"at rest: {100 * share_:.1f} % of a core, {rate:.0f} decisions a second")


EVALUATIONS = "remediator_evaluations_total"


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1250)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rest", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--alertmanager", default="alertmanager")
    given = parser.parse_args()
    os.environ.setdefault("GOMAXPROCS", "1")
    with (
        tempfile.TemporaryDirectory(prefix="fleetmedic-bench-") as name,
        running(Path(name), given) as (url, remediator),
    ):
        burst(url, remediator, given)
        rest(url, remediator, given)


if __name__ == "__main__":
    main()
