"""Every HTTP response has the security headers, also errors that no route answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from remediator.security_headers import HEADERS, SecurityHeaders

Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200), ("GET", "/dashboards", 200), ("GET", "/runbooks/GpuLost", 200), ("GET", "/api/v1/why", 400),
        ("GET", "/metrics", 200), ("GET", "/static/page.css", 200), ("GET", "/d/fleetmedic-gpu", 307),
        ("POST", "/api/v1/pause", 401), ("GET", "/api/v1/pause", 405), ("DELETE", "/", 405), ("GET", "/nothing", 404),
        ("GET", "/runbooks/", 404), ("GET", "/incidents/none", 404), ("HEAD", "/", 200), ("HEAD", "/nothing", 404),
    ],
)  # fmt: skip
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_response_has_the_security_headers(
    served: Serve, method: str, path: str, status: int, host: str
) -> None:
    with served() as client:
        found = client.request(method, path, headers={"Host": host}, follow_redirects=False)
        assert found.status_code == status or host == "evil.example"
        assert {name: found.headers.get(name) for name in HEADERS} == HEADERS


def test_the_pages_contain_no_style_that_the_policy_forbids(served: Serve) -> None:
    with served() as client:
        page = client.get("/").text + client.get("/runbooks/GpuLost").text
    assert "<style" not in page
    assert " style=" not in page


def test_an_internal_error_has_the_headers_and_a_header_of_a_route_stays() -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError("broken")

    async def own(_: Request) -> Response:
        return PlainTextResponse("x", headers={"Referrer-Policy": "same-origin"})

    app = SecurityHeaders(Starlette(routes=[Route("/broken", broken), Route("/own", own)]))
    client = TestClient(app, raise_server_exceptions=False)
    found = client.get("/broken")
    assert (found.status_code, found.headers["x-content-type-options"]) == (500, "nosniff")
    assert client.get("/own").headers["referrer-policy"] == "same-origin"


def test_a_scope_that_is_not_http_is_passed_on() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def nothing(*_: Any) -> None: ...

    asyncio.run(SecurityHeaders(app)({"type": "lifespan"}, nothing, nothing))  # type: ignore[arg-type]
    assert seen == [({"type": "lifespan"}, nothing, nothing)]
