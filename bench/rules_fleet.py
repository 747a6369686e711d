"""Measures the cost of the shipped rules on one Prometheus that monitors 10,000 GPUs.

Two real exporters on simulated hardware, one healthy and one with failed GPUs, provide the metrics, the
series and the changes of their values. A server multiplies them to a fleet: each node has its own GPUs
(uuid) and job. Constant lines are compressed in advance, changing lines are rendered at every scrape. A real
Prometheus scrapes all nodes and evaluates the shipped rules with factor 1. All results come from
Prometheus (/api/v1/rules, /metrics). If the critical groups miss an iteration at one second, longer
intervals are tried until none is missed. 10,000 GPUs take a quarter of an hour and 13 GiB.

Run: python bench/rules_fleet.py [--nodes 1250] [--gpus 8] [--minutes 10] [--scrape 5]
                                 [--prometheus prometheus-3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from programs import found, free_port, started, version

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.progress.training import Progress
from fleetmedic.stack import binaries
from rules.render import RenderParameters, render

LINE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)
TYPE = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)
UUID = re.compile(r"GPU-[0-9a-f]{8}")
SICK_SHARE = 0.02
NODES_OF_A_JOB = 4
CRITICAL = ("gpu-critical",)
# Values that increase by one per second, even if two scrapes do not show it.
CLOCKS = ("node_time_seconds", "gpu_exporter_collector_last_success_timestamp_seconds")
INTERVALS = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class Shape:
    """A page: constant lines, and changing lines with value and slope (per second; None for
    a gauge that alternates between two values)."""

    still: str
    moving: tuple[tuple[str, float, float | None, float], ...]

    def __len__(self) -> int:
        return len(LINE.findall(self.still)) + len(self.moving)


def shape(before: str, after: str, seconds: float) -> Shape:
    """The constant and changing lines of a page, from two scrapes."""
    kinds = dict(TYPE.findall(after))
    first = {name + labels: value for name, labels, value in LINE.findall(before)}
    still, moving = [], []
    for line in after.splitlines():
        match = LINE.match(line)
        if match is None:
            still.append(line)
            continue
        name, labels, value = match[1], match[2] or "", match[3]
        old = first.get(name + labels, value)
        if name in CLOCKS:
            moving.append((name + labels, float(value), 1.0, 0.0))
            continue
        if old == value or "NaN" in (old, value):
            still.append(line)
            continue
        climbs = kinds.get(name) == "counter" or name.endswith(
            ("timestamp_seconds", "_bucket", "_sum")
        )
        slope = (float(value) - float(old)) / seconds if climbs else None
        moving.append((name + labels, float(value), slope, float(old)))
    return Shape("\n".join(still) + "\n", tuple(moving))


def of_node(text: str, node: int) -> str:
    """The page with the GPUs and the job of one node of the fleet."""
    text = UUID.sub(f"GPU-{node:08x}", text)
    return text.replace('job_id="train-a"', f'job_id="train-{node // NODES_OF_A_JOB}"')


def exporters(folder: Path, gpus: int) -> tuple[Shape, Shape]:
    """Pages of a healthy and of a failed node, from real exporters on simulated hardware."""
    hardware = Hardware(folder / "hardware")
    hardware.create(2, gpus)
    inject(hardware, "node2", 1, "ecc")
    inject(hardware, "node2", 3, "lost")
    ports, processes = [], []
    halt = threading.Event()
    try:
        for node in ("node1", "node2"):
            port = free_port()
            (folder / node / "progress").mkdir(parents=True)
            command = [
                sys.executable, "-m", "fleetmedic.cli", "exporter", "--source=simulated",
                f"--web.listen-address=127.0.0.1:{port}", f"--state.dir={folder}/{node}",
                f"--hardware.dir={hardware.root}", f"--hardware.node={node}",
                f"--path.kmsg={hardware.root}/{node}/kmsg", f"--progress.dir={folder}/{node}/progress",
            ]  # fmt: skip
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            ports.append(port)
        jobs = [Progress("train-a", folder / node / "progress") for node in ("node1", "node2")]
        threading.Thread(target=steps, args=(jobs, halt), daemon=True).start()
        time.sleep(25)
        before, at = [fetch(f"http://127.0.0.1:{port}/metrics") for port in ports], time.monotonic()
        time.sleep(30)
        after = [fetch(f"http://127.0.0.1:{port}/metrics") for port in ports]
        seconds = time.monotonic() - at
    finally:
        halt.set()
        for process in processes:
            process.terminate()
            process.wait(10)
    pages = [
        shape(old, allocated(new, gpus), seconds) for old, new in zip(before, after, strict=True)
    ]
    return pages[0], pages[1]


def steps(jobs: list[Progress], halt: threading.Event) -> None:
    step = 0
    while not halt.wait(1.0):
        step += 1
        for job in jobs:
            job.step(step, loss=1.0, seconds=1.0, samples=64, data_wait=0.02, compute=0.9)


def allocated(page: str, gpus: int) -> str:
    """The page with every GPU allocated to the node's job, as by a scheduler."""
    uuids = dict(re.findall(r'gpu_up\{gpu="(\d+)",uuid="([^"]+)"', page))
    lines = [
        f'gpu_allocation_info{{gpu="{gpu}",uuid="{uuids[str(gpu)]}",job_id="train-a",user="u",'
        'account="a",namespace="",pod="",container=""} 1'
        for gpu in range(gpus) if str(gpu) in uuids
    ]  # fmt: skip
    kept = [line for line in page.splitlines() if not line.startswith("gpu_allocation_info{")]
    return "\n".join([*kept, *lines, ""])


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


class Fleet:
    """Serves /0 to /N-1, gzip only, to one client with persistent connections."""

    def __init__(self, healthy: Shape, sick: Shape, nodes: int) -> None:
        self._shapes = (healthy, sick)
        self._kind = [int(node < nodes * SICK_SHARE) for node in range(nodes)]
        self._still, self._moving = [], []
        for node, kind in enumerate(self._kind):
            page = self._shapes[kind]
            self._still.append(pack(of_node(page.still, node).encode(), 6))
            lines = (of_node(key, node).replace("%", "%%") + " %b\n" for key, *_ in page.moving)
            self._moving.append("".join(lines).encode())
        self._began, self._second = time.time(), -1
        self._values: list[tuple[bytes, ...]] = []

    def page(self, node: int) -> bytes:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._values = [tuple(self._moved(page, now - self._began)) for page in self._shapes]
        return self._still[node] + pack(self._moving[node] % self._values[self._kind[node]], 0)

    def _moved(self, page: Shape, passed: float) -> Iterator[bytes]:
        odd = int(passed / 5) % 2
        for _, value, slope, other in page.moving:
            now = (other if odd else value) if slope is None else value + slope * passed
            yield repr(now).encode()

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", port, backlog=4096)
        async with server:
            await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = self.page(int(head.split(b" ", 2)[1][1:]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        writer.close()


def pack(text: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, wbits=31)
    return packer.compress(text) + packer.flush()


def serve(healthy: Shape, sick: Shape, nodes: int, port: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    more_files()
    asyncio.run(Fleet(healthy, sick, nodes).serve(port))


def more_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass
class Group:
    """One rule group: seconds of each observed evaluation."""

    interval: float
    seconds: list[float] = field(default_factory=list)


class Watch:
    """Reads Prometheus' own metrics."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.groups: dict[str, Group] = {}
        self.rules: dict[str, list[float]] = {}
        self._seen: dict[str, str] = {}

    def look(self) -> None:
        """Record the evaluations since the last call (of a fast group only the latest)."""
        for group in json.loads(fetch(f"{self.address}/api/v1/rules"))["data"]["groups"]:
            name, at = group["name"], group["lastEvaluation"]
            if self._seen.get(name) == at or at.startswith("0001"):
                continue
            self._seen[name] = at
            found = self.groups.setdefault(name, Group(group["interval"]))
            found.seconds.append(group["evaluationTime"])
            for rule in group["rules"]:
                key = f"{name}/{rule['name']}"
                self.rules.setdefault(key, []).append(rule["evaluationTime"])

    def own(self) -> dict[str, float]:
        """Prometheus' own metrics, summed over rule groups."""
        found: dict[str, float] = {}
        for name, labels, value in LINE.findall(fetch(f"{self.address}/metrics")):
            found[name] = found.get(name, 0.0) + float(value)
            if name == "prometheus_rule_group_iterations_missed_total" and float(value):
                group = re.search(r';([^"]+)"', labels)
                found[f"missed:{group[1] if group else labels}"] = float(value)
        return found

    def forget(self) -> None:
        """Discard the evaluations recorded until now."""
        self.look()
        self.groups, self.rules = {}, {}


def configure(folder: Path, port: int, given: argparse.Namespace) -> None:
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"cluster": "bench", "node": f"node{node}", "__metrics_path__": f"/{node}"},
        }
        for node in range(given.nodes)
    ]
    config = {
        "global": {
            "scrape_interval": f"{given.scrape}s", "scrape_timeout": f"{max(1, given.scrape - 1)}s",
            "evaluation_interval": "15s",
        },
        "rule_files": [f"{folder}/rules/static/*.yml", f"{folder}/rules/recording/*.yml"],
        "scrape_configs": [{"job_name": "node", "static_configs": targets}],
    }  # fmt: skip
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    render(folder / "rules", RenderParameters(scrape_interval=given.scrape))


def at_interval(folder: Path, seconds: int) -> None:
    """Set the evaluation interval of the critical groups."""
    for path in folder.glob("rules/*/*.yml"):
        text = path.read_text()
        for name in CRITICAL:
            text = re.sub(rf"(- name: {name}\n\s+interval: )\w+", rf"\g<1>{seconds}s", text)
        path.write_text(text)


@contextlib.contextmanager
def prometheus(folder: Path, given: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    address = f"127.0.0.1:{free_port()}"
    command = [
        *binaries.command(given.prometheus), f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
        "--web.enable-lifecycle",
    ]  # fmt: skip
    ready, log = f"http://{address}/-/ready", folder / "prometheus.log"
    with started(command, ready, log, patience=60.0, prepare=more_files) as process:
        yield f"http://{address}", psutil.Process(process.pid)


def measure(watch: Watch, seconds: float) -> dict[str, float]:
    """Observe for `seconds`; returns the increase of Prometheus' own metrics."""
    before, until = watch.own(), time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.5)
        watch.look()
    after = watch.own()
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def run(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    healthy, sick = exporters(folder / "exporters", given.gpus)
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(healthy, sick, given.nodes, port), daemon=True
    )
    server.start()
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        if not server.is_alive():
            raise SystemExit("the page server has exited")
        time.sleep(0.2)
    configure(folder, port, given)
    with prometheus(folder, given) as (address, process):
        watch = Watch(address)
        time.sleep(given.warm)
        watch.forget()
        own_cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        served = psutil.Process(server.pid)
        server_cpu = sum(served.cpu_times()[:2])
        grew = measure(watch, given.minutes * 60)
        passed = time.monotonic() - began
        now = watch.own()
        said = {
            "prometheus": version(given.prometheus),
            "nodes": given.nodes, "gpus": given.nodes * given.gpus, "scrape_s": given.scrape,
            "minutes": given.minutes, "series_a_node": len(healthy), "moving": len(healthy.moving),
            "head_series": int(now["prometheus_tsdb_head_series"]),
            "samples_per_s": int(grew["prometheus_tsdb_head_samples_appended_total"] / passed),
            "rss_gib": round(process.memory_info().rss / 2**30, 2),
            "cores": round((sum(process.cpu_times()[:2]) - own_cpu) / passed, 2),
            "cores_of_the_server": round((sum(served.cpu_times()[:2]) - server_cpu) / passed, 2),
            "alerts": alerts(address),
            "nodes_up": query(address, "sum(up)"),
            "groups": {
                name: {
                    "interval_s": group.interval, "mean_s": round(statistics.mean(group.seconds), 3),
                    "max_s": round(max(group.seconds), 3), "seen": len(group.seconds),
                    "missed": int(grew.get(f"missed:{name}", 0)),
                }
                for name, group in sorted(watch.groups.items(), key=lambda it: -statistics.mean(it[1].seconds))
            },
            "dearest": {
                key: round(statistics.mean(seconds), 3)
                for key, seconds in sorted(watch.rules.items(), key=lambda it: -statistics.mean(it[1]))[: given.dearest]
            },
        }  # fmt: skip
        said["shortest_interval_s"] = shortest(folder, watch, grew, given)
    server.terminate()
    server.join(10)
    return said


def alerts(address: str) -> dict[str, int]:
    """The number of pending and firing alerts, by name."""
    found = json.loads(fetch(f"{address}/api/v1/alerts"))["data"]["alerts"]
    return dict(Counter(f"{alert['labels']['alertname']} {alert['state']}" for alert in found))


def query(address: str, expression: str) -> float:
    answer = json.loads(fetch(f"{address}/api/v1/query?query={urllib.request.quote(expression)}"))
    found = answer["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def shortest(
    folder: Path, watch: Watch, grew: dict[str, float], given: argparse.Namespace
) -> int | None:
    """The shortest interval at which no critical group missed an iteration."""
    for seconds in INTERVALS:
        if seconds > 1:
            at_interval(folder, seconds)
            request = urllib.request.Request(f"{watch.address}/-/reload", method="POST")
            urllib.request.urlopen(request, timeout=120).close()
            time.sleep(10)
            grew = measure(watch, given.trial)
        if not any(grew.get(f"missed:{name}", 0) > 0 for name in CRITICAL):
            return seconds
    return None


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--nodes", type=int, default=1250)
    options.add_argument("--gpus", type=int, default=8, help="GPUs per node")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--warm", type=float, default=60, help="warm-up in seconds")
    options.add_argument(
        "--trial", type=float, default=60, help="seconds per trial of a longer interval"
    )
    options.add_argument("--scrape", type=int, default=5, help="scrape interval in seconds")
    options.add_argument(
        "--dearest", type=int, default=10, help="number of most expensive rules to print"
    )
    options.add_argument("--prometheus", default="prometheus")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found(given.prometheus)
    more_files()
    with tempfile.TemporaryDirectory() as folder:
        said = run(Path(folder), given)
    if given.json:
        print(json.dumps(said))
        return
    for key, value in said.items():
        if key not in ("groups", "dearest"):
            print(f"{key:20} {value}")
    print(f"\n{'group':22} {'interval':>8} {'mean s':>8} {'max s':>8} {'missed':>7}")
    for name, group in said["groups"].items():
        print(
            f"{name:22} {group['interval_s']:>8g} {group['mean_s']:>8} {group['max_s']:>8} {group['missed']:>7}"
        )
    print("\nmost expensive rules, mean seconds")
    for key, seconds in said["dearest"].items():
        print(f"  {key:50} {seconds}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
