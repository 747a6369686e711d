"""The exporter beside node_exporter: scrape times, memory, processor time, and what a fault costs.

The real exporter process reads the fake driver (tests/fake_nvml), in turn healthy, with one GPU hung
and with one lost; Debian's prometheus-node-exporter is scraped in the same seconds, each scrape on a
new connection. Prints a table with ratios, and one JSON line a row with --json.
Run: python bench/exporter.py [--gpus 8,16,32,72] [--scrapes 200] [--idle 60] [--node-exporter PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fleetmedic.hardware.state import Hardware
from fleetmedic.stack.binaries import find

NODE = "node1"
FAKE = Path(__file__).resolve().parent.parent / "tests" / "fake_nvml"
LINE = re.compile(rb'^(\w+)\{gpu="(\d+)",uuid="[^"]*"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One state of one exporter. Milliseconds, MiB, per cent of one core, seconds."""

    what: str
    series: int
    bytes: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    pss_mib: float
    processes: int
    cpu_percent: float | None = None
    oldest_s: float | None = None
    flagged_s: float | None = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def scrape(port: int) -> tuple[float, bytes]:
    """Seconds and page of one scrape on a connection of its own."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept: text/plain;version=0.0.4\r\n"
            b"Connection: close\r\n\r\n"
        )
        parts = []
        while part := connection.recv(1 << 20):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head[:200].decode(errors="replace"))
    return time.perf_counter() - began, body


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += family(int(child))
    return found


def pss(pid: int) -> float:
    """MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def cpu(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def values(page: bytes, name: str) -> dict[int, float]:
    """A family by GPU, where it has no further label."""
    wanted = name.encode()
    return {int(gpu): float(value) for found, gpu, value in LINE.findall(page) if found == wanted}


def quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


def measure(what: str, port: int, pid: int, scrapes: int, sick: set[int], clock: bool) -> Row:
    """Ten scrapes a second. With `clock` the driver counts energy as Unix time, which gives the age
    of each value."""
    times, oldest, body = [], 0.0, b""
    for _ in range(scrapes):
        seconds, body = scrape(port)
        times.append(seconds)
        if clock:
            now = time.time()
            energy = values(body, "gpu_energy_joules_total")
            oldest = max(oldest, *(now - at for gpu, at in energy.items() if gpu not in sick))
        time.sleep(0.1)
    pids = family(pid)
    return Row(
        what,
        sum(1 for line in body.splitlines() if not line.startswith(b"#")),
        len(body), quantile(times, 0.5), quantile(times, 0.99), round(1000 * max(times), 2),
        round(sum(map(pss, pids)), 1), len(pids), oldest_s=round(oldest, 2) if clock else None,
    )  # fmt: skip


def processor(port: int, pid: int, idle: float) -> float:
    """Per cent of a core at a scrape each 10 s."""
    before, began = {p: cpu(p) for p in family(pid)}, time.monotonic()
    while time.monotonic() - began < idle:
        time.sleep(10)
        scrape(port)
    used = sum(cpu(p) - before.get(p, 0.0) for p in family(pid))
    return round(100 * used / (time.monotonic() - began), 2)


def until(port: int, family_name: str, gpu: int, value: float, limit: float = 15.0) -> float:
    """Seconds until the page says so."""
    began = time.monotonic()
    while values(scrape(port)[1], family_name).get(gpu) != value:
        if time.monotonic() - began > limit:
            raise RuntimeError(f"{family_name} of GPU {gpu} is not {value} after {limit:g} s")
        time.sleep(0.05)
    return round(time.monotonic() - began, 2)


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[int]:
    """A process that serves /metrics; ended on leaving."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_up = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                scrape(port)
                break
            if time.monotonic() > until_up or process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not come up")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def exporter(folder: Path, gpus: int, library: Path) -> Iterator[tuple[int, int, Hardware]]:
    """Port, pid and hardware of the real exporter on the fake driver; its firmware ticks beside it."""
    hardware = Hardware(folder / "hardware")
    hardware.create(1, gpus)
    environment = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_ENERGY_IS_CLOCK": "1",
        "FAKE_NVML_DIR": str(hardware.root / NODE),
    }  # fmt: skip
    firmware = subprocess.Popen(
        [sys.executable, "-P", str(FAKE / "firmware.py"), str(hardware.root), NODE]
    )
    port = free_port()
    command = [
        sys.executable, "-m", "fleetmedic.cli", "exporter", "--source=nvml", f"--hardware.node={NODE}",
        f"--web.listen-address=127.0.0.1:{port}", f"--state.dir={folder}/state",
        f"--path.kmsg={hardware.kmsg_path(NODE)}",
    ]  # fmt: skip
    try:
        time.sleep(1)
        with running(command, environment, port) as pid:
            time.sleep(6)
            yield port, pid, hardware
    finally:
        firmware.terminate()
        firmware.wait(5)


def three_states(
    port: int, pid: int, hardware: Hardware, given: argparse.Namespace
) -> Iterator[Row]:
    """Healthy, one hung, one lost."""
    sick = {3}
    yield measure("fleetmedic, healthy", port, pid, given.scrapes, set(), True)
    hardware.change(NODE, 3, hung=True)
    flagged = until(port, "gpu_responding", 3, 0)
    row = measure("fleetmedic, one hung", port, pid, given.scrapes, sick, True)
    yield Row(**{**asdict(row), "flagged_s": flagged})
    hardware.change(NODE, 3, hung=False)
    until(port, "gpu_responding", 3, 1, 30)
    time.sleep(3)
    hardware.change(NODE, 3, lost=True)
    flagged = until(port, "gpu_lost", 3, 1)
    row = measure("fleetmedic, one lost", port, pid, given.scrapes, sick, True)
    yield Row(**{**asdict(row), "flagged_s": flagged})


def show(rows: list[Row], peer: Row | None) -> None:
    """A table; the ratio is p99 against node_exporter's in the same run."""
    print(f"{'':30}{'series':>8}{'p50 ms':>8}{'p99 ms':>8}{'ratio':>7}{'max ms':>8}{'PSS MiB':>9}"
          f"{'procs':>6}{'CPU %':>7}{'oldest s':>9}{'flagged s':>10}")  # fmt: skip
    for row in rows:
        ratio = f"{row.p99_ms / peer.p99_ms:.2f}" if peer else ""
        optional = [
            "" if value is None else f"{value:.2f}"
            for value in (row.cpu_percent, row.oldest_s, row.flagged_s)
        ]
        print(f"{row.what:30}{row.series:>8}{row.p50_ms:>8.2f}{row.p99_ms:>8.2f}{ratio:>7}"
              f"{row.max_ms:>8.2f}{row.pss_mib:>9.1f}{row.processes:>6}"
              f"{optional[0]:>7}{optional[1]:>9}{optional[2]:>10}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--gpus", default="8,16,32,72", help="numbers of GPUs, the first in full")
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at a 10 s scrape")
    parser.add_argument("--node-exporter", default=find("node_exporter"), type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(FAKE))
    from build import build  # the tests' own fake driver

    rows: list[Row] = []
    peer = None
    with tempfile.TemporaryDirectory(prefix="fleetmedic-bench-") as name:
        library = build(Path(name) / "library")
        for number, gpus in enumerate(map(int, given.gpus.split(","))):
            with exporter(Path(name) / str(gpus), gpus, library) as (port, pid, hardware):
                used = processor(port, pid, given.idle)
                if number:
                    row = measure(f"fleetmedic, {gpus} GPUs", port, pid, given.scrapes, set(), True)
                    rows.append(Row(**{**asdict(row), "cpu_percent": used}))
                    continue
                states = list(three_states(port, pid, hardware, given))
                rows += [Row(**{**asdict(states[0]), "cpu_percent": used}), *states[1:]]
            if given.node_exporter:
                port = free_port()
                command = [str(given.node_exporter), f"--web.listen-address=127.0.0.1:{port}"]
                with running(command, dict(os.environ), port) as pid:
                    used = processor(port, pid, given.idle)
                    row = measure("node_exporter", port, pid, given.scrapes, set(), False)
                    peer = Row(**{**asdict(row), "cpu_percent": used})
                    rows.append(peer)
    show(rows, peer)
    if given.json:
        for row in rows:
            print(json.dumps(asdict(row)))


if __name__ == "__main__":
    main()
