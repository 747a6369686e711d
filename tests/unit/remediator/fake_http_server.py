"""A server on loopback that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Place(ThreadingHTTPServer):
    """A server on loopback that answers what it was told, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status = 200
        # By the expression of a query, or by the path of a URL; else the same for everything.
        self.body: bytes | dict[str, bytes] = b"{}"
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []

    def answers(self, value: object, status: int = 200) -> None:
        self.status, self.body = status, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Place

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length).decode()
        self.server.asked.append((self.path, sent))
        body = self.server.body
        if isinstance(body, dict):
            body = body[parse_qs(sent)["query"][0] if sent else urlsplit(self.path).path]
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass
