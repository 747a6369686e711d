"""What one exporter costs: memory and processor of all its processes, and the time of a scrape.

Eight simulated GPUs, in turn healthy, with one lost, and with one hung. Prints one JSON line each.
Run: python bench/exporter_scrape.py [--scrapes 200] [--idle 30]
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleetmedic.hardware.state import Hardware


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def processes(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += processes(int(child))
    return found


def memory(pid: int) -> tuple[int, int]:
    """RSS and PSS in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    values = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(values["Rss"]), int(values["Pss"])


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def scrape(connection: http.client.HTTPConnection) -> tuple[float, bytes]:
    began = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    body = connection.getresponse().read()
    return time.perf_counter() - began, body


def measure(port: int, pid: int, scrapes: int, idle: float) -> dict[str, float | int]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times, body = [], b""
    for _ in range(scrapes):
        seconds, body = scrape(connection)
        times.append(seconds)
        time.sleep(0.1)
    pids = processes(pid)
    before, began = sum(map(cpu_seconds, pids)), time.monotonic()
    while time.monotonic() - began < idle:
        time.sleep(5)
        scrape(connection)
    used = sum(cpu_seconds(p) for p in processes(pid)) - before
    sizes = [memory(p) for p in processes(pid)]
    times.sort()
    text = gzip.decompress(body)
    return {
        "series": sum(1 for line in text.splitlines() if not line.startswith(b"#")),
        "bytes": len(text),
        "bytes_gzip": len(body),
        "p50_ms": round(times[len(times) // 2] * 1000, 2),
        "p99_ms": round(times[int(len(times) * 0.99) - 1] * 1000, 2),
        "max_ms": round(times[-1] * 1000, 2),
        "cpu_percent_at_5s_scrape": round(100 * used / (time.monotonic() - began), 2),
        "processes": len(sizes),
        "rss_mib": round(sum(rss for rss, _ in sizes) / 1024, 1),
        "pss_mib": round(sum(pss for _, pss in sizes) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--idle", type=float, default=30.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hardware = Hardware(Path(folder) / "hardware")
        hardware.create(1, 8)
        port = free_port()
        command = [
            sys.executable, "-m", "fleetmedic.cli", "exporter", f"--web.listen-address=127.0.0.1:{port}",
            "--source=simulated", f"--hardware.dir={hardware.root}", "--hardware.node=node1",
            f"--state.dir={folder}/state", f"--progress.dir={folder}/progress",
        ]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            time.sleep(3)
            for case, changes in (
                ("healthy", {}),
                ("lost", {"lost": True}),
                ("hung", {"hung": True}),
            ):
                if changes:
                    hardware.change("node1", 3, lost=False, hung=False)
                    hardware.change("node1", 3, **changes)
                    time.sleep(3)
                result = measure(port, process.pid, given.scrapes, given.idle)
                print(json.dumps({"case": case, **result}), flush=True)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


if __name__ == "__main__":
    main()
