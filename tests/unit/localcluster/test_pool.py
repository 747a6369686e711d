"""The pool's gateway, its metrics page and its bounds, in one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetmedic.http.client import fetch
from fleetmedic.http.server import HttpRequest, HttpResponse, HttpServer
from fleetmedic.kernel.errors import UserError
from fleetmedic.localcluster.pool import gateway as gateways
from fleetmedic.localcluster.pool.gateway import Gateway
from fleetmedic.localcluster.pool.load import load
from fleetmedic.localcluster.pool.metrics import GatewayMetrics
from fleetmedic.localcluster.pool.worker import Worker


def test_the_metrics_page_is_what_prometheus_reads() -> None:
    metrics = GatewayMetrics("serve")
    metrics.answered(200, 0.06)
    metrics.answered(503, 90.0)
    page = metrics.render(waiting=3, running=2, replicas=2).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    serve = ("service", "serve")
    assert samples["inference_requests_waiting", serve] == 3
    assert samples["inference_requests_total", ("code", "504"), serve] == 0
    assert samples["inference_requests_total", ("code", "503"), serve] == 1
    name = "inference_request_duration_seconds"
    assert samples[f"{name}_bucket", ("le", "0.05"), serve] == 0
    assert samples[f"{name}_bucket", ("le", "0.075"), serve] == 1
    assert samples[f"{name}_bucket", ("le", "+Inf"), serve] == 2
    assert samples[f"{name}_count", serve] == 2


HERE = {"host": "127.0.0.1"}
Scene = Callable[[Gateway, int], Awaitable[None]]


def play(folder: Path, workers: int, scene: Scene, *, dead: int = 0) -> None:
    """A gateway with real workers, and `dead` ports where nobody listens, on loopback."""

    async def go() -> None:
        servers = [HttpServer(Worker(f"w{n}").handle) for n in range(workers)]
        ports = {f"w{n}": await server.start("127.0.0.1", 0) for n, server in enumerate(servers)}
        ports.update({f"dead{n}": n + 1 for n in range(dead)})
        endpoints = folder / "endpoints.json"
        endpoints.write_text(json.dumps({"workers": ports}))
        gateway = Gateway(GatewayMetrics("serve"), endpoints)
        follower = asyncio.create_task(gateway.follow())
        front = HttpServer(gateway.handle)
        await scene(gateway, await front.start("127.0.0.1", 0))
        follower.cancel()
        for server in (front, *servers):
            await server.drain(1)

    asyncio.run(go())


def test_requests_wait_for_an_idle_worker_and_all_are_answered(tmp_path: Path) -> None:
    async def scene(gateway: Gateway, port: int) -> None:
        calls = [asyncio.create_task(fetch("127.0.0.1", port, "POST", "/infer")) for _ in range(6)]
        await asyncio.sleep(0.03)
        _, page = await fetch("127.0.0.1", port, "GET", "/metrics")
        assert b'inference_requests_waiting{service="serve"} 4' in page
        assert b'inference_requests_running{service="serve"} 2' in page
        assert b'inference_replicas{service="serve"} 2' in page
        answers = await asyncio.gather(*calls)
        assert [status for status, _ in answers] == [200] * 6
        assert {json.loads(body)["worker"] for _, body in answers} == {"w0", "w1"}

    play(tmp_path, 2, scene)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/metrics", 200),
        ("TRACE", "/metrics", 405),
        ("POST", "/healthz", 405),
        ("GET", "/infer", 405),
        ("GET", "/nothing", 404),
    ],
)
def test_the_gateway_rejects_methods_that_a_path_does_not_support(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async def scene(gateway: Gateway, port: int) -> None:
        answer = await gateway.handle(HttpRequest(method, path, headers=HERE))
        assert answer.status == status

    play(tmp_path, 0, scene)


@pytest.mark.parametrize("host", ["evil.example", "", "[::1]evil.example"])
def test_a_foreign_host_name_starts_no_work_and_scrapes_may_use_any_name(
    tmp_path: Path, host: str
) -> None:
    async def scene(gateway: Gateway, port: int) -> None:
        foreign = {"host": host}
        work = HttpRequest("POST", "/infer", b"x", foreign)
        assert (await gateway.handle(work)).status == 403
        assert (await Worker("w").handle(work)).status == 403
        assert (await gateway.handle(HttpRequest("GET", "/", headers=foreign))).status == 403
        for path in ("/metrics", "/healthz"):
            assert (await gateway.handle(HttpRequest("GET", path, headers=foreign))).status == 200
        local = HttpRequest("POST", "/infer", b"x", {"host": f"localhost:{port}"})
        assert (await gateway.handle(local)).status == 200

    play(tmp_path, 1, scene)


def test_a_worker_that_died_costs_no_request(tmp_path: Path) -> None:
    async def scene(gateway: Gateway, port: int) -> None:
        calls = [fetch("127.0.0.1", port, "POST", "/infer") for _ in range(4)]
        assert [status for status, _ in await asyncio.gather(*calls)] == [200] * 4

    play(tmp_path, 1, scene, dead=1)


def test_a_full_queue_and_a_long_wait_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "MAX_WAITING", 1)
    monkeypatch.setattr(gateways, "WAIT_SECONDS", 0.05)

    async def scene(gateway: Gateway, port: int) -> None:
        calls = [fetch("127.0.0.1", port, "POST", "/infer") for _ in range(2)]
        statuses = sorted(status for status, _ in await asyncio.gather(*calls))
        assert statuses == [503, 504]

    play(tmp_path, 0, scene)


def test_a_worker_answers_one_request_at_a_time() -> None:
    async def go() -> float:
        worker = Worker("w")
        loop = asyncio.get_running_loop()
        began = loop.time()
        ask = HttpRequest("POST", "/infer", b"x", HERE)
        answers: list[HttpResponse] = await asyncio.gather(*(worker.handle(ask) for _ in range(3)))
        assert len({answer.body for answer in answers}) == 1
        return loop.time() - began

    assert asyncio.run(go()) >= 0.15


@pytest.mark.parametrize(
    ("url", "rate", "seconds"),
    [
        ("http://example.org:80", 1, 1),
        ("http://127.0.0.1", 1, 1),
        ("http://127.0.0.1:99999", 1, 1),
        ("http://127.0.0.1:80", 201, 1),
        ("http://127.0.0.1:80", 1, 601),
        ("http://127.0.0.1:80", 0, 1),
    ],
)
def test_the_load_stays_on_this_machine_and_below_its_caps(
    url: str, rate: float, seconds: float
) -> None:
    with pytest.raises(UserError):
        asyncio.run(load(url, rate, seconds))
