"""A target in absolute form means the host that it names, and only HTTP/1.x is answered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.testclient import TestClient

from remediator.security_headers import HEADERS

Serve = Callable[..., AbstractContextManager[TestClient]]


def ask(client: TestClient, target: str, host: str, version: str = "1.1") -> tuple[int, set[str]]:
    """The status and the names of the headers, for a request as uvicorn passes it on."""
    sent: list[Any] = []
    scope = {
        "type": "http", "http_version": version, "method": "GET", "scheme": "http", "root_path": "",
        "path": target, "raw_path": target.encode(), "query_string": b"", "headers": [(b"host", host.encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9095),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    assert client.portal is not None
    client.portal.call(client.app.state.served, scope, receive, send)  # type: ignore[attr-defined]
    return sent[0]["status"], {name.decode() for name, _ in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1/-/healthy", "127.0.0.1", 200),
        ("HTTP://127.0.0.1:9095/-/healthy", "evil.example", 200),
        ("https://localhost", "localhost", 200),
        ("http://localhost/nothing", "localhost", 404),
        ("http://evil.example/", "127.0.0.1", 403),
        ("http://", "127.0.0.1", 403),
        ("/http://127.0.0.1/", "127.0.0.1", 404),
    ],
)
def test_the_host_and_the_path_of_an_absolute_target_are_used(
    served: Serve, target: str, host: str, status: int
) -> None:
    with served() as client:
        assert ask(client, target, host)[0] == status


@pytest.mark.parametrize("version", ["9.9", "2.0", "0.9"])
def test_another_version_of_http_is_refused(served: Serve, version: str) -> None:
    with served() as client:
        status, headers = ask(client, "/-/healthy", "127.0.0.1", version)
        assert status == 505
        assert {name.lower() for name in HEADERS} <= {name.lower() for name in headers}
        assert ask(client, "/-/healthy", "127.0.0.1", "1.0")[0] == 200
