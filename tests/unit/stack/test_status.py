"""The status of a stack tells who paused the remediator, and where the dashboards are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.status import dashboards_line, pause

PAUSE = {"by": "alice", "reason": "rack\x1b 4", "at": 1_700_000_000.0}


@pytest.fixture
def remediator() -> Iterator[str]:
    """The URL of a server that answers as a paused remediator."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"incidents": [], "pause": PAUSE}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_pause_is_a_line_of_the_status(remediator: str) -> None:
    stack = StackFile("local", 9090, True, {"remediator": remediator}, "token")
    line = pause(stack) or ""
    assert line.startswith("Paused by alice since 2023-11-14")
    assert line.endswith(": rack  4")
    assert dashboards_line(stack) == f"Dashboards: {remediator}/dashboards"


def test_without_a_remediator_the_status_names_no_dashboards_and_no_pause() -> None:
    stack = StackFile("local", 9090, True, {}, "token")
    assert pause(stack) is None
    assert "no remediator" in dashboards_line(stack)
    silent = StackFile("local", 9090, True, {"remediator": "http://127.0.0.1:1"}, "token")
    assert pause(silent) is None
