"""Fakes of external systems: pages on loopback in the formats of these systems.

GET /kube         kube-state-metrics: the Ready condition of nodes
GET /scheduler    the scheduler of the site: wait times of jobs in its queues
GET /objectives   latency objectives of the site
POST /chat        a chat service for notifications; returns 200 until `chat_refuses`
POST /read        a slow remote storage
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READ_SECONDS = 4.0
BOUNDS = (60, 600, 3600, 14_400, 28_800)


@dataclass
class Outside:
    """The state of the pages. Thread-safe for single changes."""

    ready: dict[str, bool] = field(default_factory=dict)  # nodes by name, for /kube
    waits: list[float] = field(default_factory=list)  # seconds, for /scheduler
    objectives: dict[str, float] = field(default_factory=dict)  # seconds by service
    silent: set[str] = field(default_factory=set)  # pages that return an error
    chat_refuses: bool = False
    port: int = 0

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def page(self, path: str) -> str | None:
        """The text of a page, or None if it does not exist."""
        makers = {"/kube": self._kube, "/scheduler": self._scheduler, "/objectives": self._promises}
        if path in self.silent or path not in makers:
            return None
        return "\n".join([*makers[path](), ""])

    def _kube(self) -> Iterator[str]:
        yield "# TYPE kube_node_status_condition gauge"
        for node, ready in self.ready.items():
            for status in ("true", "false", "unknown"):
                value = int((status == "true") is ready and status != "unknown")
                labels = f'node="{node}",condition="Ready",status="{status}"'
                yield f"kube_node_status_condition{{{labels}}} {value}"

    def _scheduler(self) -> Iterator[str]:
        name, queue = "scheduler_queue_wait_seconds", 'queue="big"'
        waits = list(self.waits)
        yield f"# TYPE {name} histogram"
        for bound in BOUNDS:
            count = sum(each <= bound for each in waits)
            yield f'{name}_bucket{{{queue},le="{bound}"}} {count}'
        yield f'{name}_bucket{{{queue},le="+Inf"}} {len(waits)}'
        yield f"{name}_sum{{{queue}}} {sum(waits)}"
        yield f"{name}_count{{{queue}}} {len(waits)}"

    def _promises(self) -> Iterator[str]:
        yield "# TYPE service_latency_objective_seconds gauge"
        for service, seconds in self.objectives.items():
            yield f'service_latency_objective_seconds{{service="{service}"}} {seconds}'


def _handler(outside: Outside) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = outside.page(self.path)
            self._answer(503 if text is None else 200, (text or "").encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/read":
                time.sleep(READ_SECONDS)
                self._answer(503, b"")
            else:
                self._answer(503 if outside.chat_refuses else 200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextlib.contextmanager
def served() -> Iterator[Outside]:
    """Serve the pages on a free port."""
    outside = Outside()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(outside))
    server.daemon_threads = True
    outside.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield outside
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Wire:
    """A network connection between two programs that can be interrupted."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def cut(self) -> None:
        """Interrupt the connection."""
        self._cut.set()

    def close(self) -> None:
        """Stop listening."""
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65_536)) and not self._cut.is_set():
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def status(request: urllib.request.Request) -> int:
    """The HTTP status of the response. Raises OSError without a response."""
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
