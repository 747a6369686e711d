"""How many webhook requests become durable a second, how soon a GPU is quarantined, and whether half
requests disturb others.

Usage: `python bench/remediator_webhook.py [seconds]`. It starts `fleetmedic remediator serve` with an
embedded cluster's store (for the quarantine) and with the in-memory cluster (for the rate), sends alerts
over 64 persistent connections, and prints the results. The load generator runs on the same machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from fleetmedic.hardware.state import Hardware
from fleetmedic.localcluster.client import LocalCluster
from remediator.journal import read_events

TOKEN = "0123456789abcdef0123"
CONNECTIONS = 64
HALF = 500
CONFIG = """
cluster: {{adapter: {adapter}, local: {{cluster_dir: {state}/cluster, hardware_dir: {state}/hardware}}}}
level: {level}
webhook_token_file: {state}/token
without_alertmanager: true
timing: {{hold: 1h, reconcile_every: 1h}}
guards: {{max_out_percent: 100, max_new: 10000}}
"""


def request(number: int, alerts: int, name: str, node: str = "node1", gpu: int = 0) -> bytes:
    """One webhook request with its headers."""
    now = datetime.now(UTC).isoformat()
    labels = {
        "alertname": name,
        "severity": "info",
        "cluster": "local",
        "node": node,
        "gpu": str(gpu),
    }
    body = json.dumps({
        "version": "4", "alerts": [
            {"status": "firing", "labels": labels | {"n": str(n)}, "annotations": {"summary": "x" * 80},
             "startsAt": now, "endsAt": "0001-01-01T00:00:00Z", "fingerprint": f"{number:08x}{n:08x}"}
            for n in range(alerts)
        ],
    }).encode()  # fmt: skip
    head = (
        "POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> int:
    """Send one request on a persistent connection; returns the status."""
    writer.write(raw)
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return int(head.split(b" ", 2)[1])


async def rate(port: int, seconds: float, alerts: int) -> None:
    """Print requests a second and latencies at 64 connections."""
    count, times = 0, []
    end = time.monotonic() + seconds

    async def client(start: int) -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number = start
        while time.monotonic() < end:
            began = time.monotonic()
            status = await exchange(reader, writer, request(number, alerts, "Nothing"))
            assert status == 202, status
            times.append(time.monotonic() - began)
            count += 1
            number += CONNECTIONS
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(client(alerts * 1_000_000 + n) for n in range(CONNECTIONS)))
    spent = time.monotonic() - began
    ordered = sorted(times)
    print(f"{alerts:3} alerts a request: {count / spent:8.0f} requests/s {count * alerts / spent:8.0f} alerts/s, "
          f"p50 {ordered[len(ordered) // 2] * 1000:.1f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1000:.1f} ms")  # fmt: skip


async def half_sent(port: int) -> None:
    """Print how long 500 half requests keep their sockets, and what others wait meanwhile."""
    whole = b"GET /api/v1/incidents HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = request(0, 1, "Nothing")
    began = time.monotonic()

    async def half(number: int) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened = time.monotonic()
        writer.write(whole[:-2] if number % 2 else body[:-2])
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        return time.monotonic() - opened

    waiting = asyncio.gather(*(half(n) for n in range(HALF)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    while not waiting.done() and time.monotonic() < began + 60:
        sent = time.monotonic()
        assert await exchange(reader, writer, whole) == 200
        times.append(time.monotonic() - sent)
        await asyncio.sleep(0.02)
    writer.close()
    kept = await asyncio.wait_for(waiting, 1)
    times.sort()
    print(f"{HALF} half requests: closed after {min(kept):.1f} to {max(kept):.1f} s; {len(times)} others meanwhile: "
          f"p50 {statistics.median(times) * 1000:.1f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.1f} ms")  # fmt: skip


async def quarantines(port: int, data: Path) -> None:
    """Print the time from a request to the quarantine of the GPU."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent: dict[str, float] = {}
    for node in range(1, 9):
        for gpu in range(8):
            sent[f"gpu/node{node}/{gpu}"] = time.time()
            raw = request(node * 8 + gpu, 1, "GpuHung", f"node{node}", gpu)
            assert await exchange(reader, writer, raw) == 202
            await asyncio.sleep(0.15)
    writer.close()
    took = sorted(
        line["at"] - sent[line["target"]]
        for line in read_events(data)
        if line["event"] == "StepDone" and line["data"]["action"] == "quarantine_gpu"
    )
    print(f"request to quarantined ({len(took)}): p50 {statistics.median(took) * 1000:.0f} ms, "
          f"p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms, max {took[-1] * 1000:.0f} ms")  # fmt: skip


def serve(state: Path, adapter: str, level: str) -> tuple[subprocess.Popen[bytes], int]:
    """A running remediator and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (state / f"{adapter}.yml").write_text(CONFIG.format(adapter=adapter, state=state, level=level))
    command = [sys.executable, "-m", "fleetmedic.cli", "remediator", "serve", "--config",
               str(state / f"{adapter}.yml"), "--web.listen-address", f"127.0.0.1:{port}",
               "--data-dir", str(state / adapter), "--log.level", "warning"]  # fmt: skip
    process = subprocess.Popen(command, env=dict(os.environ))
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    return process, port


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        (state / "token").write_text(TOKEN)
        (state / "token").chmod(0o600)
        Hardware(state / "hardware").create(8, 8)
        LocalCluster(state / "cluster", state / "hardware").nodes()
        for adapter, level in (("memory", "observe"), ("local", "quarantine")):
            process, port = serve(state, adapter, level)
            try:
                if adapter == "memory":
                    asyncio.run(rate(port, seconds, 1))
                    asyncio.run(rate(port, seconds, 10))
                    asyncio.run(half_sent(port))
                else:
                    asyncio.run(quarantines(port, state / adapter))
            finally:
                process.terminate()
                process.wait(10)


if __name__ == "__main__":
    main()
