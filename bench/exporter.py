"""Compares the exporter with node_exporter: scrape times, memory, CPU time, and the effect of faults.

The real exporter process reads the fake NVML (tests/fake_nvml): healthy, with one hung GPU, with one
lost GPU, then with more GPUs. Debian's prometheus-node-exporter runs at the same time and is scraped
right after each scrape. Both are scraped with Prometheus' headers on a new connection, so that the
ratio compares the same machine at the same time.

The age of a value is measured: the fake NVML returns Unix time as energy, so that the number on
the page is the time of the driver call. A GPU that is missing on the page counts as a hole.
`others` is the CPU share of other programs on the machine, including time taken by the hypervisor. If it is
more than a few per cent, the measured times and CPU values are too high.

Run: python bench/exporter.py [--quick] [--repeat 3] [--json] [--gpus 8,16,32,72] [--scrapes 200]
                              [--idle 60] [--faults 5] [--node-exporter PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from programs import free_port

from fleetmedic.hardware.state import Hardware
from fleetmedic.stack.binaries import find

NODE = "node1"
SICK = 3
BUSY = 5.0  # per cent
FAKE = Path(__file__).resolve().parent.parent / "tests" / "fake_nvml"
LINE = re.compile(rb'^(\w+)\{gpu="(\d+)",uuid="[^"]*"\} (\S+)$', re.MULTILINE)
REQUEST = (
    b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAccept-Encoding: gzip\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
    b"q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n"
)


@dataclass(frozen=True)
class Scraped:
    """One scrape: seconds, the page, and the bytes transferred."""

    seconds: float
    page: bytes
    wire: int


@dataclass(frozen=True)
class Row:
    """One state of one exporter. Milliseconds, MiB, per cent of one core (`others`: of the machine),
    seconds. `of_peer` is the p50 and p99 of node_exporter's scrapes in between."""

    what: str
    series: int
    kib: float
    wire_kib: float
    p50_ms: float
    p99_ms: float
    pss_mib: float
    processes: int
    cpu_percent: float
    others_percent: float
    of_peer: tuple[float, float] | None = None
    oldest_s: float | None = None
    holes: int | None = None
    flagged_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Running:
    """A process that serves /metrics."""

    port: int
    pid: int


def scrape(port: int) -> Scraped:
    """One scrape on a new connection; the time excludes decompression."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(REQUEST)
        parts = []
        while part := connection.recv(1 << 20):
            parts.append(part)
    seconds = time.perf_counter() - began
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head[:200].decode(errors="replace"))
    packed = b"content-encoding: gzip" in head.lower()
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunked(body)
    return Scraped(seconds, gzip.decompress(body) if packed else body, len(body))


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += family(int(child))
    return found


def pss(pids: list[int]) -> float:
    """The memory (PSS) of these processes in MiB."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return round(total / 1024, 1)


def cpu(pid: int) -> float:
    """CPU seconds of a process and of its exited children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Measures the CPU time of a process with its descendants, and of the whole machine."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = {each: cpu(each) for each in family(pid)}
        self._bench = sum(map(cpu, family(os.getpid())))
        self._machine, self._began = machine(), time.monotonic()

    def percent(self) -> float:
        """The process's CPU usage, in per cent of one core."""
        used = sum(cpu(each) - self._before.get(each, 0.0) for each in family(self._pid))
        return round(100 * used / (time.monotonic() - self._began), 2)

    def others(self) -> float:
        """The CPU usage of other programs, in per cent of the machine."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        ours = sum(map(cpu, family(os.getpid()))) - self._bench
        return round(max(0.0, 100 * (machine() - self._machine - ours) / seconds), 1)


def machine() -> float:
    """CPU seconds of all processes, including steal time."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def values(page: bytes, name: str) -> dict[int, float]:
    """The values of a metric by GPU, for series without further labels."""
    wanted = name.encode()
    return {int(gpu): float(value) for found, gpu, value in LINE.findall(page) if found == wanted}


def quantile(times: list[float], share: float) -> float:
    """A quantile in milliseconds."""
    ordered = sorted(times)
    return round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


@dataclass
class Taken:
    """The results of a series of scrapes of one exporter."""

    times: list[float] = field(default_factory=list)
    last: Scraped = field(default_factory=lambda: Scraped(0.0, b"", 0))

    def take(self, port: int) -> bytes:
        self.last = scrape(port)
        self.times.append(self.last.seconds)
        return self.last.page

    @property
    def quantiles(self) -> tuple[float, float]:
        return quantile(self.times, 0.5), quantile(self.times, 0.99)

    def row(self, what: str, pid: int, cpu_percent: float, others: float) -> Row:
        page = self.last.page
        series = sum(1 for line in page.splitlines() if not line.startswith(b"#"))
        pids = family(pid)
        return Row(what, series, round(len(page) / 1024, 1), round(self.last.wire / 1024, 1),
                   *self.quantiles, pss(pids), len(pids), cpu_percent, others)  # fmt: skip


def measure(
    what: str, ours: Running, peer: Running | None, gpus: set[int], given: argparse.Namespace
) -> tuple[Row, Row | None]:
    """Scrape every 10 s to measure CPU, then ten times a second to measure times. `gpus` are the GPUs
    whose values must be present and fresh."""
    quiet, beside = Meter(ours.pid), Meter(peer.pid) if peer else None
    while time.monotonic() - quiet._began < given.idle:
        time.sleep(10)
        scrape(ours.port)
        if peer:
            scrape(peer.port)
    used, used_beside = quiet.percent(), beside.percent() if beside else 0.0
    mine, theirs, oldest, holes = Taken(), Taken(), 0.0, 0
    for _ in range(given.scrapes):
        page, now = mine.take(ours.port), time.time()
        ages = {gpu: now - at for gpu, at in values(page, "gpu_energy_joules_total").items()}
        holes += len(gpus - set(ages))
        oldest = max(oldest, *(age for gpu, age in ages.items() if gpu in gpus))
        if peer:
            theirs.take(peer.port)
        time.sleep(0.1)
    others = quiet.others()
    row = mine.row(what, ours.pid, used, others)
    row = Row(**{**asdict(row), "oldest_s": round(oldest, 2), "holes": holes,
                 "of_peer": theirs.quantiles if peer else None})  # fmt: skip
    return row, theirs.row("node_exporter", peer.pid, used_beside, others) if peer else None


def until(port: int, family_name: str, gpu: int, value: float, limit: float = 30.0) -> float:
    """The seconds until the page shows the value."""
    began = time.monotonic()
    while values(scrape(port).page, family_name).get(gpu) != value:
        if time.monotonic() - began > limit:
            raise RuntimeError(f"{family_name} of GPU {gpu} is not {value} after {limit:g} s")
        time.sleep(0.02)
    return round(time.monotonic() - began, 2)


def fault(port: int, hardware: Hardware, kind: str, times: int) -> list[float]:
    """Inject the fault `times` times, the last one stays. Returns the seconds from fault to metric."""
    name, flag = {"hung": ("gpu_responding", 0), "lost": ("gpu_lost", 1)}[kind]
    found = []
    for number in range(times):
        if number:
            heal(port, hardware, kind)
        hardware.change(NODE, SICK, **{kind: True})
        found.append(until(port, name, SICK, flag))
    return found


def heal(port: int, hardware: Hardware, kind: str) -> None:
    hardware.change(NODE, SICK, **{kind: False})
    until(port, "gpu_up", SICK, 1)
    until(
        port, "gpu_slow", SICK, 0
    )  # a GPU that was slow just before counts as hung after 5 s only
    # Inject faults at different times of a read cycle.
    time.sleep(2.3 + time.time() % 1)


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[Running]:
    """A process that serves /metrics; terminated on exit of the context."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_up = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                scrape(port)
                break
            if time.monotonic() > until_up or process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not come up")
            time.sleep(0.1)
        yield Running(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def node_exporter(path: Path | None) -> Iterator[Running | None]:
    """node_exporter, if available."""
    if path is None:
        yield None
        return
    port = free_port()
    command = [str(path), f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, dict(os.environ), port) as peer:
        yield peer


@contextlib.contextmanager
def exporter(folder: Path, gpus: int, library: Path) -> Iterator[tuple[Running, Hardware]]:
    """The real exporter with the fake NVML, and its simulated hardware, with a process that updates it."""
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
        with running(command, environment, port) as ours:
            time.sleep(6)
            yield ours, hardware
    finally:
        firmware.terminate()
        firmware.wait(5)


def three_states(
    ours: Running, peer: Running | None, hardware: Hardware, gpus: int, given: argparse.Namespace
) -> Iterator[Row]:
    """Healthy, one hung, one lost; then node_exporter, measured while all GPUs were healthy."""
    row, beside = measure(f"{gpus} GPUs", ours, peer, set(range(gpus)), given)
    yield row
    well = set(range(gpus)) - {SICK}
    for kind in ("hung", "lost"):
        flagged = fault(ours.port, hardware, kind, given.faults)
        row, _ = measure(f"{gpus} GPUs, one {kind}", ours, peer, well, given)
        yield Row(**{**asdict(row), "flagged_s": flagged})
        heal(ours.port, hardware, kind)
    if beside:
        yield beside


def once(given: argparse.Namespace) -> Iterator[Row]:
    """One run with all states and numbers of GPUs."""
    sys.path.insert(0, str(FAKE))
    from build import build  # the tests' own

    with (
        tempfile.TemporaryDirectory(prefix="fleetmedic-bench-") as name,
        node_exporter(given.node_exporter) as peer,
    ):
        library = build(Path(name) / "library")
        for number, gpus in enumerate(map(int, given.gpus.split(","))):
            with exporter(Path(name) / str(gpus), gpus, library) as (ours, hardware):
                if number:
                    yield measure(f"{gpus} GPUs", ours, peer, set(range(gpus)), given)[0]
                else:
                    yield from three_states(ours, peer, hardware, gpus, given)


HEAD = (
    f"{'':18}{'series':>7}{'KiB':>7}{'gzip':>7}{'p50 ms':>8}{'p99 ms':>8}{'x p50':>7}{'x p99':>7}"
    f"{'PSS MiB':>9}{'procs':>6}{'CPU %':>7}{'oldest s':>9}{'holes':>6}{'flagged s':>12}{'others %':>9}"
)


def line(row: Row) -> str:
    """A line of the table; `x` columns are ratios to node_exporter at the same time."""
    ratios = [
        f"{mine / peer:.2f}"
        for mine, peer in zip((row.p50_ms, row.p99_ms), row.of_peer or (), strict=False)
    ] or ["", ""]
    oldest = "" if row.oldest_s is None else f"{row.oldest_s:.2f}"
    holes = "" if row.holes is None else str(row.holes)
    flagged = f"{min(row.flagged_s):.2f}-{max(row.flagged_s):.2f}" if row.flagged_s else ""
    return (f"{row.what:18}{row.series:>7}{row.kib:>7.0f}{row.wire_kib:>7.1f}{row.p50_ms:>8.2f}"
            f"{row.p99_ms:>8.2f}{ratios[0]:>7}{ratios[1]:>7}{row.pss_mib:>9.1f}{row.processes:>6}"
            f"{row.cpu_percent:>7.2f}{oldest:>9}{holes:>6}{flagged:>12}{row.others_percent:>9.1f}")  # fmt: skip


def spread(runs: list[list[Row]]) -> None:
    """Print median, minimum and maximum of the runs."""
    print(f"\n{len(runs)} runs: median (lowest-highest)")
    shown = {"p50 ms": "p50_ms", "p99 ms": "p99_ms", "PSS MiB": "pss_mib", "CPU %": "cpu_percent",
             "oldest s": "oldest_s"}  # fmt: skip
    print(f"{'':18}" + "".join(f"{title:>20}" for title in shown))
    for rows in zip(*runs, strict=True):
        cells = []
        for name in shown.values():
            found = [getattr(row, name) for row in rows if getattr(row, name) is not None]
            cells.append(
                f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"
                if found else ""
            )  # fmt: skip
        print(f"{rows[0].what:18}" + "".join(f"{cell:>20}" for cell in cells))


def arguments() -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument(
        "--quick", action="store_true", help="about two minutes; CPU values are imprecise"
    )
    parser.add_argument(
        "--gpus", help="numbers of GPUs, the first with faults (default: 8,16,32,72)"
    )
    parser.add_argument(
        "--scrapes", type=int, help="scrapes per state, ten a second (default: 200)"
    )
    parser.add_argument("--idle", type=float, help="seconds with a scrape every 10 s (default: 60)")
    parser.add_argument("--faults", type=int, help="number of injections per fault (default: 5)")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--node-exporter", default=find("node_exporter"), type=Path)
    parser.add_argument("--json", action="store_true", help="also print each row as JSON")
    given = parser.parse_args()
    usual = {"gpus": "8,16,32,72", "scrapes": 200, "idle": 60.0, "faults": 5}
    if given.quick:
        usual |= {"gpus": "8,72", "scrapes": 100, "idle": 10.0, "faults": 1}
    for name, value in usual.items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def main() -> None:
    given = arguments()
    runs: list[list[Row]] = []
    for number in range(given.repeat):
        print(f"run {number + 1}, load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
        print(HEAD)
        runs.append([])
        for row in once(given):
            runs[-1].append(row)
            print(line(row), flush=True)
    if given.repeat > 1:
        spread(runs)
    busy = max(row.others_percent for rows in runs for row in rows)
    if busy > BUSY:
        print(f"\nThe machine was busy: other programs used up to {busy:.0f} % of its CPUs. Times, "
              "CPU usage and detection times are higher than on an idle machine.")  # fmt: skip
    if given.node_exporter is None:
        print("\nnode_exporter not found, so there is no comparison. Set --node-exporter PATH.")
    if given.json:
        for number, rows in enumerate(runs):
            for row in rows:
                print(json.dumps({"run": number + 1, **asdict(row)}))


if __name__ == "__main__":
    main()
