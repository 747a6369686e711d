"""Invalid responses of Prometheus raise errors. Integration tests cover the valid ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import rules.history
from rules.detectors.base import Query
from rules.history import Prometheus, PrometheusError

QUERY = Query("clock", "gpu_clock_hertz", ("node", "gpu"))


class Stranger(ThreadingHTTPServer):
    """A fake Prometheus that returns a configured response."""

    body: bytes = b""
    code: int = 200


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(found.code)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None: ...

    found = Stranger(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def client(server: Stranger) -> Prometheus:
    return Prometheus(f"http://127.0.0.1:{server.server_port}/")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"status": 3}', b'{"status":"success","data":{"result":[{}]}}',
     b'{"status":"success","data":' + b"[" * 100_000],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error_with_the_address(
    stranger: Stranger, body: bytes
) -> None:
    stranger.body = body
    with pytest.raises(PrometheusError, match="returned an invalid"):
        client(stranger).latest([QUERY], 1000.0)


def test_an_error_code_carries_what_was_said(stranger: Stranger) -> None:
    stranger.code, stranger.body = 422, b'{"error":"query timed out"}'
    with pytest.raises(PrometheusError, match=r"422.*timed out"):
        client(stranger).latest([QUERY], 1000.0)


def test_an_endless_answer_is_cut(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules.history, "MAX_ANSWER_BYTES", 1000)
    stranger.body = b" " * 100_000
    with pytest.raises(PrometheusError, match="returned more than"):
        client(stranger).latest([QUERY], 1000.0)


def test_nobody_at_the_address_is_a_sentence() -> None:
    with pytest.raises(PrometheusError, match="cannot connect to"):
        Prometheus("http://127.0.0.1:1").rule_names("g")


def test_values_that_are_no_numbers_are_no_data(stranger: Stranger) -> None:
    stranger.body = (
        b'{"status":"success","data":{"result":['
        b'{"metric":{"node":"a","gpu":"0"},"value":[1000,"junk"]},'
        b'{"metric":{"node":"a","gpu":"1"},"value":[1000,"5"]}]}}'
    )
    found = client(stranger).latest([QUERY], 1000.0)["clock"]
    assert np.isnan(found.aligned([("a", "0")])).all()
    assert found.aligned([("a", "1")])[0, 0] == 5


def test_a_fleet_too_large_for_the_memory_is_read_more_coarsely(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules.history, "MAX_CELLS", 1000)
    stranger.body = b'{"status":"success","data":{"result":[{"metric":{},"value":[0,"10"]}]}}'
    found = client(stranger).read([QUERY], 36_000.0, 36_000.0, 30.0)["clock"]
    assert found.grid.step > 30
    assert found.grid.count * 10 <= 1000
    assert found.grid.end <= 36_000.0


def test_a_refused_reload_and_a_kept_configuration_are_errors(stranger: Stranger) -> None:
    stranger.body = b"prometheus_config_last_reload_successful 0\n"
    with pytest.raises(PrometheusError, match="still uses its previous configuration"):
        client(stranger).reload()
    stranger.code, stranger.body = 500, b"failed to reload config: bad rule"
    with pytest.raises(PrometheusError, match="bad rule"):
        client(stranger).reload()
