"""A fake HTTP server on loopback, which returns the response that a test sets and records requests."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeHttpServer(ThreadingHTTPServer):
    """A fake HTTP server. `asked` has the path and the body of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status = 200
        # One body for all requests, or bodies by PromQL expression or URL path.
        self.body: bytes | dict[str, bytes] = b"{}"
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []

    def answers(self, value: object, status: int = 200) -> None:
        self.status, self.body = status, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHttpServer

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
