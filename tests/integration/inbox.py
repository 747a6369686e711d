"""A server that takes the place of a person: it keeps each message that the remediator sends."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Inbox(ThreadingHTTPServer):
    """An address of notify.webhooks: keeps each message that comes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.messages: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/"

    def about(self, target: str, occasion: str) -> list[dict[str, Any]]:
        """The messages about one target."""
        return [m for m in self.messages if m.get("target") == target and m["occasion"] == occasion]

    def groups(self, prefix: str) -> list[dict[str, Any]]:
        """The messages about what holds many incidents."""
        return [m for m in self.messages if m.get("group", "").startswith(prefix)]


class _Post(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.messages.append(
            json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        )
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def inbox() -> Iterator[Inbox]:
    """A server for messages to people."""
    with Inbox() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
