"""The HTTP side: sends the page that is ready, and never reads a GPU.

Four routes need no framework; a hundred lines on asyncio streams answer a scrape in less time and
memory than one. Heads, connections and waiting times are bounded.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from exporter.openmetrics import Form, negotiate

MAX_HEAD = 8192
MAX_CONNECTIONS = 64
HEAD_SECONDS = 10.0
IDLE_SECONDS = 130.0
_TEXT = "text/plain; charset=utf-8"

LANDING = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>fleetmedic exporter</title>
<h1>fleetmedic exporter</h1><p><a href="/metrics">Metrics</a> &middot;
<a href="/-/healthy">healthy</a> &middot; <a href="/-/ready">ready</a></p></html>
"""


class Request:
    """A parsed request head. Raises ValueError when it is none."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, target, version = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("not HTTP/1")
        self.path = target.partition("?")[0]
        self.headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()
        connection = self.headers.get("connection", "").lower()
        self.keep = "close" not in connection and version == "HTTP/1.1"

    @property
    def has_body(self) -> bool:
        return self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    @property
    def takes_gzip(self) -> bool:
        """Whether Accept-Encoding names gzip and does not rule it out with q=0."""
        for part in self.headers.get("accept-encoding", "").lower().split(","):
            coding, _, rest = part.partition(";")
            if coding.strip() == "gzip":
                return rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        return False


def response(
    status: HTTPStatus, body: bytes, kind: str = _TEXT, *, extra: str = "", keep: bool, head: bool
) -> bytes:
    """A whole response."""
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\n{extra}"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return lines.encode("latin-1") + (b"" if head else body)


class Pages(Protocol):
    """Where pages come from."""

    def page(self, wanted: frozenset[str] | None, form: Form, gzip: bool) -> bytes | None:
        """The page in this form; None when none may be shown."""
        ...


class Server:
    """Serves the latest page."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._connections = 0

    def answer(self, request: Request) -> tuple[bytes, bool]:
        """The response to a request, and whether the connection is kept."""
        keep = request.keep and not request.has_body
        head = request.method == "HEAD"
        if request.path not in ("/", "/metrics", "/-/healthy", "/-/ready"):
            text = b"There is nothing here; the metrics are at /metrics.\n"
            return response(HTTPStatus.NOT_FOUND, text, keep=keep, head=head), keep
        if request.method not in ("GET", "HEAD"):
            text = b"This path takes GET and HEAD only.\n"
            status, extra = HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n"
            return response(status, text, extra=extra, keep=keep, head=head), keep
        if request.path == "/":
            kind = "text/html; charset=utf-8"
            return response(HTTPStatus.OK, LANDING, kind, keep=keep, head=head), keep
        if request.path == "/-/healthy":
            return response(HTTPStatus.OK, b"Healthy.\n", keep=keep, head=head), keep
        form = negotiate(request.headers.get("accept", ""))
        body = self._pages.page(None, form, request.takes_gzip)
        if body is None:
            text = b"The values are still being read, or too old.\n"
            status = HTTPStatus.SERVICE_UNAVAILABLE
            return response(status, text, keep=keep, head=head), keep
        if request.path == "/-/ready":
            return response(HTTPStatus.OK, b"Ready.\n", keep=keep, head=head), keep
        extra = "Vary: Accept, Accept-Encoding\r\n"
        if request.takes_gzip:
            extra = f"{extra}Content-Encoding: gzip\r\n"
        return response(HTTPStatus.OK, body, form, extra=extra, keep=keep, head=head), keep

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for `asyncio.start_server(limit=MAX_HEAD)`."""
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                text = b"Too many connections; try again.\n"
                status = HTTPStatus.SERVICE_UNAVAILABLE
                writer.write(response(status, text, keep=False, head=False))
            else:
                await self._requests(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the other side went away or was too slow: nobody is left to be told
        finally:
            self._connections -= 1
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep, wait = True, HEAD_SECONDS
        while keep:
            try:
                async with asyncio.timeout(wait):
                    head = await reader.readuntil(b"\r\n\r\n")
                data, keep = self.answer(Request(head[:-4]))
            except asyncio.LimitOverrunError:
                text, status = b"The request's head is too large.\n", 431
                data, keep = response(HTTPStatus(status), text, keep=False, head=False), False
            except ValueError:
                text, status = b"This is no HTTP/1.1 request.\n", 400
                data, keep = response(HTTPStatus(status), text, keep=False, head=False), False
            writer.write(data)
            async with asyncio.timeout(HEAD_SECONDS):
                await writer.drain()
            wait = IDLE_SECONDS
