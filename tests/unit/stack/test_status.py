"""The status of a stack tells who paused the remediator, and where the dashboards are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import cast

import pytest
from rich.console import Console

from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.health import ready_url
from fleetmedic.stack.identity import own_identity
from fleetmedic.stack.status import (
    ProcessStatus,
    all_healthy,
    check_processes,
    dashboards_line,
    lines,
    stops,
    table,
)

REFUSED = "The journal cannot be written: disk full.\n"
TAKEN = "Another remediator acts; this one takes no action."
PAUSE = {"by": "alice", "reason": "rack\x1b 4", "at": 1_700_000_000.0}


@pytest.fixture
def remediator() -> Iterator[str]:
    """The URL of a server that answers as a paused remediator."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path != "/-/ready"
            body = (
                json.dumps({"incidents": [], "pause": PAUSE, "refusal": TAKEN})
                if ready
                else REFUSED
            )
            self.send_response(200 if ready else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_what_stops_the_remediator_is_a_line_of_the_status(remediator: str) -> None:
    stack = StackFile("local", 9090, True, {"remediator": remediator}, "token")
    line, other = stops(stack)
    assert other == TAKEN
    assert line.startswith("Paused by alice since 2023-11-14")
    assert line.endswith(": rack  4")
    assert dashboards_line(stack) == f"Dashboards: {remediator}/dashboards"


def test_a_process_that_is_not_ready_is_not_healthy_and_gives_the_reason(remediator: str) -> None:
    urls = {"remediator": remediator, "rules": "http://127.0.0.1:1"}
    dead = {"localcluster": (1, 1)}
    running = {"remediator": own_identity(), "rules": own_identity()}
    stack = StackFile("local", 9090, True, urls, "token", own_identity(), running | dead)
    rows = check_processes(stack)
    assert [row.state for row in rows] == ["not ready", "not ready", "down"]
    refused, unreachable, down = lines(rows)
    assert refused.startswith("remediator       not ready  pid")
    assert refused.endswith(f"{remediator}  HTTP 503: {REFUSED.strip()}")
    assert unreachable.endswith("http://127.0.0.1:1  Connection refused")
    assert "localcluster     down" in down
    assert down.endswith("see `fleetmedic up logs localcluster`")
    assert not all_healthy(stack, rows)
    shown = Console(file=StringIO(), width=200)
    shown.print(table(rows, "title"))
    assert f"not ready: HTTP 503: {REFUSED.strip()}" in cast("StringIO", shown.file).getvalue()


def test_a_narrow_terminal_gets_one_line_for_each_process() -> None:
    names = ["localcluster", "exporter-node1"]
    rows = [ProcessStatus(name, None, 4_000_000, 90.0, 10**8, "http://h:1") for name in names]
    shown = Console(file=StringIO(), width=40)
    shown.print(table(rows, "title", 40))
    text = cast("StringIO", shown.file).getvalue()
    assert [line.split() for line in text.splitlines() if "healthy" in line] == [
        ["localcluster", "healthy"], ["exporter-node1", "healthy"],
    ]  # fmt: skip
    wide = Console(file=StringIO(), width=100)
    wide.print(table(rows, "title", 100))
    assert "4000000" in cast("StringIO", wide.file).getvalue()


def test_every_process_is_asked_whether_it_is_ready() -> None:
    assert ready_url("remediator", "http://h:1") == "http://h:1/-/ready"
    assert ready_url("exporter-node1", "http://h:1") == "http://h:1/-/ready"
    assert ready_url("pool", "http://h:1") == "http://h:1/healthz"
    assert ready_url("rules", "http://h:1") == "http://h:1/-/healthy"


def test_without_a_remediator_the_status_names_no_dashboards_and_no_pause() -> None:
    stack = StackFile("local", 9090, True, {}, "token")
    assert stops(stack) == []
    assert "no remediator" in dashboards_line(stack)
    silent = StackFile("local", 9090, True, {"remediator": "http://127.0.0.1:1"}, "token")
    assert stops(silent) == []
