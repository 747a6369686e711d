"""A load generator for the pool: `python -m fleetmedic.localcluster.pool.load --url U --rate R --seconds S`.

Open loop: it sends a request every 1/R seconds, regardless of how long the responses take. It works
only against this machine and has hard limits, because it is meant for the demo only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from fleetmedic.http.client import fetch
from fleetmedic.kernel.errors import UserError

MAX_RATE = 200.0
MAX_SECONDS = 600.0
MAX_IN_FLIGHT = 1_500
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a load test. `shed` requests were not sent, because too many were in flight.

    `p50` and `p99` are quantiles of the response time in seconds.
    """

    sent: int
    answered: dict[str, int]
    shed: int
    p50: float
    p99: float


async def load(url: str, rate: float, seconds: float) -> Summary:
    """Send `rate` requests per second for `seconds`. Raises UserError above the limits."""
    host, port = _target(url)
    if not 0 < rate <= MAX_RATE or not 0 < seconds <= MAX_SECONDS:
        raise UserError(
            f"expected --rate above 0 and at most {MAX_RATE:g} (requests a second), --seconds above 0 "
            f"and at most {MAX_SECONDS:g}."
        )
    tasks: set[asyncio.Task[None]] = set()
    codes: Counter[str] = Counter()
    took: list[float] = []
    shed = 0

    async def one() -> None:
        began = time.monotonic()
        try:
            status, _ = await fetch(host, port, "POST", "/infer", b"{}")
            codes[str(status)] += 1
            took.append(time.monotonic() - began)
        except (OSError, EOFError):
            codes["error"] += 1

    loop = asyncio.get_running_loop()
    began = loop.time()
    total = max(1, round(rate * seconds))
    for number in range(total):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        if len(tasks) >= MAX_IN_FLIGHT:
            shed += 1
            continue
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=65.0)
    took.sort()
    return Summary(total - shed, dict(codes), shed, _at(took, 0.5), _at(took, 0.99))


def _at(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))], 4) if values else 0.0


def _target(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if host not in LOOPBACK or port is None:
        raise UserError(
            f"--url: expected http://127.0.0.1:PORT (only this machine is allowed), got {url[:80]!r}."
        )
    return host, port


def main() -> None:
    """Send the load and print the result as JSON."""
    parser = argparse.ArgumentParser(prog="load", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    try:
        summary = asyncio.run(load(given.url, given.rate, given.seconds))
    except UserError as error:
        sys.stderr.write(f"load: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.write(json.dumps(asdict(summary)) + "\n")


if __name__ == "__main__":
    main()
