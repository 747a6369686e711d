"""One worker: `python -m fleetmedic.localcluster.pool.worker --folder DIR`.

Serves one request at a time. A request takes 50 ms: a small computation, then a wait that simulates
the GPU time. So a worker serves twenty requests a second with little CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from pathlib import Path

from fleetmedic.http.hosts import is_own_host
from fleetmedic.http.server import HttpRequest, HttpResponse, HttpServer
from fleetmedic.localcluster.pool.process import claim_or_exit, serve_until_terminated

REQUEST_SECONDS = 0.05
ROUNDS = 500
NAMES = frozenset({"localhost"})  # besides IP addresses


def compute(body: bytes) -> str:
    """Apply SHA-256 to the body repeatedly: a small computation of fixed size."""
    digest = hashlib.sha256(body).digest()
    for _ in range(ROUNDS):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


class Worker:
    """Serves one request at a time, like a model that uses a whole GPU."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._one = asyncio.Lock()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Compute a result for `/infer`. Every other path is a health check."""
        if request.path != "/infer":
            return HttpResponse(200, b"ok\n")
        if not is_own_host(request.headers.get("host", ""), NAMES):  # a web page in a browser
            return HttpResponse(403, b"unknown host name in the URL; use an IP address\n")
        async with self._one:
            began = time.monotonic()
            result = compute(request.body)
            await asyncio.sleep(max(0.0, REQUEST_SECONDS - (time.monotonic() - began)))
        answer = {"worker": self._name, "result": result}
        return HttpResponse(200, json.dumps(answer).encode(), "application/json")


def main() -> None:
    """Run the worker on a free loopback port."""
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder: Path = parser.parse_args().folder
    claim_or_exit(folder)
    server = HttpServer(Worker(folder.name).handle)
    asyncio.run(serve_until_terminated(server, folder, "127.0.0.1", 0))


if __name__ == "__main__":
    main()
