"""The read-only proxy over HTTP: only queries of the dashboards, limits, and error messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from remediator.admission import Access, GuardedRoute
from remediator.core.journal_state import JournalState
from remediator.dashboards.dashboard_library import dashboards
from remediator.dashboards.proxy import (
    AT_ONCE,
    MAX_SERIES,
    WAITING,
    BusyError,
    PanelParameters,
    PrometheusProxy,
)
from remediator.dashboards.routes import DashboardRoutes
from remediator.metrics import RemediatorMetrics
from remediator.prometheus import PrometheusClient
from remediator.security_headers import SecurityHeaders
from remediator.webhook import _WebhookEndpoints

BOARD = "fleetmedic-fleet"
DATA = f"/api/v1/dashboards/{BOARD}"


class Listener:
    """A fake Prometheus that records requests and returns the configured status and body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.status, self.body = (
            200,
            b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
        )
        seen = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                seen.asked.append((self.path, parse_qs(form)))
                self.send_response(seen.status)
                self.send_header("Content-Length", str(len(seen.body)))
                self.end_headers()
                self.wfile.write(seen.body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


@contextmanager
def served(url: str | None) -> Iterator[TestClient]:
    pictures = DashboardRoutes(
        PrometheusProxy(PrometheusClient(url, timeout=2) if url else None, 5.0)
    )
    # Only the credentials of the context are used.
    edge = _WebhookEndpoints(
        SimpleNamespace(
            access=Access("t" * 16), metrics=RemediatorMetrics(JournalState(), lambda: 0.0)
        )
    )  # type: ignore[arg-type]
    app = Starlette(routes=[GuardedRoute(one, edge.guarded(one)) for one in pictures.endpoints()])
    secured = SecurityHeaders(app)
    with TestClient(secured, "http://localhost", client=("127.0.0.1", 50000)) as client:
        yield client


def _first() -> tuple[int, str]:
    return next(key for key, query in dashboards()[BOARD].queries.items() if not query.instant)


def test_the_browser_names_a_panel_and_the_server_takes_the_expression(listener) -> None:
    panel, ref = _first()
    with served(listener.url) as client:
        answer = client.get(
            f"{DATA}/panels/{panel}/{ref}?from=now-1h&var-node=a%22b&query=vector(1)"
        )
    assert answer.status_code == 200, answer.text
    (path, form) = listener.asked[0]
    assert path == "/api/v1/query_range"
    assert "vector(1)" not in form["query"][0]
    assert '\\"' in form["query"][0] or "$" not in form["query"][0]
    assert form["step"] == ["15"]
    assert answer.json()["series"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/dashboards/nowhere", 404),
        ("/api/v1/dashboards/..%2f..%2fetc", 404),
        (f"{DATA}/panels/9999/A", 404),
        (f"{DATA}/panels/x/A", 404),
        (f"{DATA}/panels/2/ZZ", 404),
        (f"{DATA}/panels/2/A?var-nothing=1", 404),
        (f"{DATA}/variables/nothing", 404),
        (f"{DATA}/panels/2/A?from=never", 400),
        (f"{DATA}/panels/2/A?from=now-1h&to=now-2h", 400),
        (f"{DATA}/panels/2/A?var-node=" + "x" * 300, 400),
        (f"{DATA}/panels/2/A?" + "&".join(["var-node=x"] * 101), 400),
        ("/dashboards/nowhere", 404),
        ("/static/../routes.py", 404),
        ("/static/nothing.js", 404),
    ],
)
def test_what_is_not_committed_is_refused_and_prometheus_is_not_asked(
    listener, path, status
) -> None:
    with served(listener.url) as client:
        answer = client.get(path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert listener.asked == []


def test_a_prometheus_that_does_not_answer_is_said_in_one_sentence(listener) -> None:
    panel, ref = _first()
    listener.server.shutdown()
    listener.server.server_close()
    with served(listener.url) as client:
        answer = client.get(f"{DATA}/panels/{panel}/{ref}")
    assert answer.status_code == 502
    assert answer.text.startswith("The query to Prometheus failed: ")
    with served(None) as client:
        assert "prometheus_url" in client.get(f"{DATA}/panels/{panel}/{ref}").text


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", b'{"status":"error","error":"too much"}', b'{"status":"success"}'],
)
def test_an_answer_that_is_none_is_said_too(listener, body) -> None:
    panel, ref = _first()
    listener.body = body
    with served(listener.url) as client:
        answer = client.get(f"{DATA}/panels/{panel}/{ref}")
    assert answer.status_code == 502
    assert answer.text.count("\n") == 1


def test_more_series_than_are_drawn_are_counted_and_left_out(listener) -> None:
    panel, ref = _first()
    series = [{"metric": {"n": str(n)}, "values": [[1, "1"]]} for n in range(MAX_SERIES + 7)]
    listener.body = json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": series}}
    ).encode()
    with served(listener.url) as client:
        found = client.get(f"{DATA}/panels/{panel}/{ref}").json()
    assert (found["total"], len(found["series"])) == (MAX_SERIES + 7, MAX_SERIES)


def test_only_so_many_are_asked_at_once_and_too_many_are_turned_away() -> None:
    class Slow:
        under_way = most = 0

        async def query_range(self, *_: object) -> list[object]:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.under_way -= 1
            return []

    async def crowd() -> tuple[int, int]:
        slow = Slow()
        proxy = PrometheusProxy(slow, 5.0)  # type: ignore[arg-type]
        many = [
            proxy.panel(dashboards()[BOARD], *_first(), PanelParameters("now-1h", "now", {}))
            for _ in range(AT_ONCE + WAITING + 20)
        ]
        found = await asyncio.gather(*many, return_exceptions=True)
        return slow.most, sum(isinstance(one, BusyError) for one in found)

    most, refused = asyncio.run(crowd())
    assert most == AT_ONCE
    assert 0 < refused <= 20


def test_pages_run_only_their_own_scripts_and_carry_none_inline(listener) -> None:
    with served(listener.url) as client:
        for path in ("/dashboards", f"/dashboards/{BOARD}"):
            page = client.get(path)
            assert page.headers["content-security-policy"].startswith("default-src 'self'")
            assert '<meta name="viewport"' in page.text
            assert "style=" not in page.text
            assert "<script>" not in page.text
        moved = client.get(f"/d/{BOARD}/slug?var-node=n1", follow_redirects=False)
        assert moved.headers["location"] == f"../../dashboards/{BOARD}?var-node=n1"
        moved = client.get(f"/d/{BOARD}", follow_redirects=False)
        assert moved.headers["location"] == f"../dashboards/{BOARD}"
        followed = client.get(f"/d/{BOARD}/slug?var-node=n1")
        assert (followed.status_code, followed.url.path) == (200, f"/dashboards/{BOARD}")
        assert "MIT" in client.get("/static/uPlot.LICENSE").text
