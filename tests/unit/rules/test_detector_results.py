"""The HTTP server of the detectors: paths, methods, headers, and the release of slow connections."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time

import pytest

from fleetmedic.http import server
from fleetmedic.kernel.errors import UserError
from rules.detector_results import DetectorResults, serve_results


@pytest.fixture(scope="module")
def results() -> DetectorResults:
    return DetectorResults(60.0, 180.0, last_run={"peers": 1.0}, success={"peers": True})


@pytest.fixture(scope="module")
def port(results: DetectorResults) -> int:
    return serve_results("127.0.0.1", 0, results)


def ask(
    port: int, method: str, path: str, **headers: str
) -> tuple[int, http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response, response.read()
    finally:
        connection.close()


def test_the_metrics_have_the_format_that_the_client_accepts(port: int) -> None:
    status, response, body = ask(port, "GET", "/metrics?x=1")
    assert status == 200
    assert b'detector_run_success{detector="peers"} 1.0' in body
    assert response.getheader("Content-Type", "").startswith("text/plain")
    _, response, body = ask(port, "GET", "/metrics", Accept="application/openmetrics-text")
    assert response.getheader("Content-Type", "").startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_readiness_and_unknown_paths(port: int, results: DetectorResults) -> None:
    assert ask(port, "GET", "/-/healthy")[0] == 200
    assert ask(port, "GET", "/-/ready")[0] == 503
    results.ready = True
    assert ask(port, "GET", "/-/ready")[0] == 200
    assert ask(port, "GET", "/")[0] == 200
    assert ask(port, "GET", "/nothing")[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/", "/nothing"])
def test_head_is_answered_like_get_without_the_body(port: int, path: str) -> None:
    status, response, body = ask(port, "GET", path)
    without = ask(port, "HEAD", path)
    assert (without[0], without[2]) == (status, b"")
    assert without[1].getheader("Content-Length") == str(len(body))
    assert without[1].getheader("Content-Type") == response.getheader("Content-Type")


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PROPFIND"])
def test_other_methods_get_405_with_the_methods_that_are_allowed(port: int, method: str) -> None:
    status, response, body = ask(port, method, "/metrics")
    assert (status, response.getheader("Allow")) == (405, "GET, HEAD")
    assert body == b"Method not allowed; this path supports GET and HEAD only.\n"


@pytest.mark.parametrize("path", ["/metrics", "/nothing"])
def test_no_response_reveals_the_version_of_python(port: int, path: str) -> None:
    _, response, _ = ask(port, "GET", path)
    assert response.version == 11
    assert response.getheader("Server") is None
    assert response.getheader("X-Content-Type-Options") == "nosniff"


def test_a_request_that_arrives_line_by_line_is_closed_at_the_deadline(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.05) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n")
        answer = b""
        while not answer and time.monotonic() - began < 5:
            client.sendall(b"X: y\r\n")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert ask(port, "GET", "/-/healthy")[0] == 200


def test_a_port_in_use_is_an_error_that_names_the_option(
    port: int, results: DetectorResults
) -> None:
    with pytest.raises(
        UserError, match=f"cannot listen on 127.0.0.1:{port} .*--web.listen-address"
    ):
        serve_results("127.0.0.1", port, results)
