"""The gateway: a bounded queue in front of the workers, and its metrics.

`python -m fleetmedic.localcluster.pool.gateway --folder DIR --listen H:P --endpoints FILE`. FILE is
`{"workers": {NAME: PORT}}`. The controller writes it and the gateway reloads it, so that gateway,
controller and workers can be restarted independently.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from fleetmedic.http.client import fetch
from fleetmedic.http.hosts import is_own_host, own_names
from fleetmedic.http.server import HttpRequest, HttpResponse, HttpServer, wrong_method
from fleetmedic.localcluster.pool.metrics import CONTENT_TYPE, GatewayMetrics
from fleetmedic.localcluster.pool.process import claim_or_exit, serve_until_terminated

PATHS = ("/", "/infer", "/metrics", "/healthz")
ANY_HOST = ("/metrics", "/healthz")  # for scrapes and health checks
MAX_WAITING = 1_000
WAIT_SECONDS = 60.0
WORKER_SECONDS = 10.0
PENALTY_SECONDS = 0.5
MAX_TRIES = 3
RELOAD_SECONDS = 0.2


@dataclass(slots=True)
class Pending:
    """A request that waits for its response."""

    request: HttpRequest
    answer: asyncio.Future[HttpResponse]
    tries: int = 0


@dataclass(slots=True)
class WorkerSlot:
    """One worker, which serves one request at a time."""

    port: int
    busy: bool = False
    resting_until: float = 0.0


@dataclass(slots=True)
class Gateway:
    """Forwards each request to an idle worker, in order of arrival."""

    metrics: GatewayMetrics
    endpoints: Path
    _waiting: deque[Pending] = field(default_factory=deque)
    _workers: dict[str, WorkerSlot] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _names: frozenset[str] = field(default_factory=own_names)
    _running: int = 0
    _stamp: int = 0

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Forward `/infer` to a worker, and serve the other paths.

        Work is accepted only under an IP address or a name of this machine, not from web pages.
        """
        host = request.headers.get("host", "")
        if request.path not in ANY_HOST and not is_own_host(host, self._names):
            return HttpResponse(403, b"unknown host name in the URL; use an IP address\n")
        if request.path not in PATHS:
            return HttpResponse(404, b"not found; expected /infer, /metrics or /healthz\n")
        allowed = "POST" if request.path == "/infer" else "GET, HEAD"
        if request.method not in allowed.split(", "):
            return wrong_method(allowed)
        if request.path == "/metrics":
            page = self.metrics.render(
                waiting=len(self._waiting), running=self._running, replicas=len(self._workers)
            )
            return HttpResponse(200, page, CONTENT_TYPE)
        if request.path == "/healthz":
            return HttpResponse(200, b"ok\n")
        if request.path == "/":
            return HttpResponse(200, b"Worker pool. Paths: /infer, /metrics, /healthz.\n")
        arrived = time.monotonic()
        response = await self._answer(request)
        self.metrics.answered(response.status, time.monotonic() - arrived)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        if len(self._waiting) >= MAX_WAITING:
            return HttpResponse(503, b"the queue is full\n", retry_after=1)
        pending = Pending(request, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._dispatch()
        try:
            return await asyncio.wait_for(pending.answer, WAIT_SECONDS)
        except TimeoutError:
            return HttpResponse(504, b"no worker was free in time\n")
        finally:
            if pending in self._waiting:  # timeout, or the client disconnected
                self._waiting.remove(pending)

    def _dispatch(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if not self._waiting:
                return
            if not worker.busy and worker.resting_until <= now:
                worker.busy = True
                task = asyncio.create_task(self._forward(worker, self._waiting.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _forward(self, worker: WorkerSlot, pending: Pending) -> None:
        self._running += 1
        try:
            call = fetch("127.0.0.1", worker.port, "POST", "/infer", pending.request.body)
            status, body = await asyncio.wait_for(call, WORKER_SECONDS)
            if not pending.answer.done():
                pending.answer.set_result(HttpResponse(status, body, "application/json"))
        except (OSError, EOFError):  # TimeoutError is an OSError
            worker.resting_until = time.monotonic() + PENALTY_SECONDS
            self._try_again(pending)
        finally:
            self._running -= 1
            worker.busy = False
            self._dispatch()

    def _try_again(self, pending: Pending) -> None:
        """Send a request to another worker. This is safe because the computation is idempotent."""
        pending.tries += 1
        if pending.answer.done():
            return
        if pending.tries < MAX_TRIES:
            self._waiting.appendleft(pending)
        else:
            pending.answer.set_result(HttpResponse(502, b"no worker answered\n"))

    async def follow(self) -> None:
        """Reload the file with the workers' endpoints when it changes, until cancelled."""
        while True:
            self._reload()
            self._dispatch()
            await asyncio.sleep(RELOAD_SECONDS)

    def _reload(self) -> None:
        try:
            stamp = self.endpoints.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            raw = json.loads(self.endpoints.read_bytes())["workers"]
            ports = {str(name): int(port) for name, port in raw.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return  # missing or damaged: keep the known workers
        self._stamp = stamp
        kept = {
            name: worker for name, worker in self._workers.items() if ports.get(name) == worker.port
        }
        self._workers = {name: kept.get(name) or WorkerSlot(port) for name, port in ports.items()}


async def run(folder: Path, host: str, port: int, endpoints: Path) -> None:
    """Run the gateway until it receives TERM or INT."""
    gateway = Gateway(GatewayMetrics("serve"), endpoints)
    follower = asyncio.create_task(gateway.follow())
    await serve_until_terminated(HttpServer(gateway.handle), folder, host, port)
    follower.cancel()


def main() -> None:
    """Run the gateway on the address of --listen."""
    parser = argparse.ArgumentParser(prog="gateway", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--endpoints", type=Path, required=True)
    given = parser.parse_args()
    host, _, port = given.listen.rpartition(":")
    claim_or_exit(given.folder)
    asyncio.run(run(given.folder, host.strip("[]"), int(port), given.endpoints))


if __name__ == "__main__":
    main()
