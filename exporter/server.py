"""The HTTP side: sends the page that is ready, and never reads a GPU.

Four routes need no framework; a hundred lines on asyncio streams answer a scrape in less time and
memory than one. Heads, connections and waiting times are bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl

from exporter.auth import Users
from exporter.openmetrics import Form, negotiate
from exporter.web_config import Tls, WebConfig, WebConfigFile, allowed

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
        self.path, _, self.query = target.partition("?")
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


class BadQuery(Exception):  # noqa: N818
    """A query that asks for what there is not; the message is one sentence."""


def chosen(query: str, names: tuple[str, ...]) -> frozenset[str] | None:
    """The collectors that `collect[]` or `exclude[]` choose; None for all. Raises BadQuery."""
    given = parse_qsl(query, keep_blank_values=True, max_num_fields=200)
    wanted = [value for key, value in given if key == "collect[]"]
    without = [value for key, value in given if key == "exclude[]"]
    if wanted and without:
        raise BadQuery("Give collect[] or exclude[], not both.")
    for name in (*wanted, *without):
        if name not in names:
            raise BadQuery(f"There is no collector {name[:80]!r}; known: {', '.join(names)}.")
    if wanted:
        return frozenset(wanted)
    return frozenset(names).difference(without) if without else None


class Pages(Protocol):
    """Where pages come from. `names` are the collectors."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def page(self, wanted: frozenset[str] | None, form: Form, gzip: bool) -> bytes | None:
        """The page in this form; None when none may be shown."""
        ...


class Server:
    """Serves the latest page. `web` is the file of --web.config.file, `dcgm` the page of the metrics
    that dcgm-exporter gives, where they were asked for."""

    def __init__(
        self,
        pages: Pages,
        web: WebConfigFile | None = None,
        dcgm: Callable[[], bytes | None] | None = None,
    ) -> None:
        self._pages = pages
        self._web = web
        self._dcgm = dcgm
        self._paths = {"/", "/metrics", "/-/healthy", "/-/ready"} | (
            {"/metrics/dcgm"} if dcgm is not None else set()
        )
        self._connections = 0
        self._checks = asyncio.Semaphore(2)  # at once: a password costs a tenth of a second
        self.users = Users()

    @property
    def config(self) -> WebConfig:
        """What is in force now."""
        return self._web.config if self._web is not None else WebConfig()

    def answer(self, request: Request) -> tuple[bytes, bool]:
        """The response to a request, and whether the connection is kept."""
        keep = request.keep and not request.has_body
        head = request.method == "HEAD"
        if request.path not in self._paths:
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
        if request.path == "/metrics/dcgm" and self._dcgm is not None:
            body = self._dcgm()
            form = Form.TEXT
            return self._metrics(request, body, form, packed=False, keep=keep)
        try:
            wanted = chosen(request.query, self._pages.names)
        except (BadQuery, ValueError) as error:
            text = f"{error}\n".encode()
            return response(HTTPStatus.BAD_REQUEST, text, keep=keep, head=head), keep
        form = negotiate(request.headers.get("accept", ""))
        body = self._pages.page(wanted, form, request.takes_gzip)
        return self._metrics(request, body, form, packed=request.takes_gzip, keep=keep)

    def _metrics(
        self, request: Request, body: bytes | None, form: Form, *, packed: bool, keep: bool
    ) -> tuple[bytes, bool]:
        head = request.method == "HEAD"
        if body is None:
            text = b"The values are still being read, or too old.\n"
            status = HTTPStatus.SERVICE_UNAVAILABLE
            return response(status, text, keep=keep, head=head), keep
        if request.path == "/-/ready":
            return response(HTTPStatus.OK, b"Ready.\n", keep=keep, head=head), keep
        extra = "Vary: Accept, Accept-Encoding\r\n"
        if packed:
            extra = f"{extra}Content-Encoding: gzip\r\n"
        return response(HTTPStatus.OK, body, form, extra=extra, keep=keep, head=head), keep

    async def _secure(self, writer: asyncio.StreamWriter) -> bool:
        """Begin TLS where it is configured; whether this client may go on."""
        if self._web is None:
            return True
        self._web.refresh()
        if self._web.context is None:
            return True
        await writer.start_tls(self._web.context, ssl_handshake_timeout=HEAD_SECONDS)
        tls = self.config.tls_server_config or Tls()
        return allowed(writer.get_extra_info("peercert"), tls.client_allowed_sans)

    async def _refused(self, request: Request) -> bytes | None:
        """What to answer to one who may not ask, or None. Which part was wrong is not told."""
        users = self.config.basic_auth_users
        if not users:
            return None
        header = request.headers.get("authorization", "")
        if self.users.known(header, users):
            return None
        async with self._checks:
            if await asyncio.to_thread(self.users.check, header, users):
                return None
        extra = 'WWW-Authenticate: Basic realm="fleetmedic exporter"\r\n'
        text, head = b"Give the name and password of a user.\n", request.method == "HEAD"
        return response(HTTPStatus.UNAUTHORIZED, text, extra=extra, keep=False, head=head)

    def _headed(self, data: bytes) -> bytes:
        """The response with the headers of the configuration."""
        headers = self.config.http_server_config.headers
        if not headers:
            return data
        first, end, rest = data.partition(b"\r\n")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return first + end + lines.encode("latin-1") + rest

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for `asyncio.start_server(limit=MAX_HEAD)`."""
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                text = b"Too many connections; try again.\n"
                status = HTTPStatus.SERVICE_UNAVAILABLE
                writer.write(response(status, text, keep=False, head=False))
            elif await self._secure(writer):
                await self._requests(reader, writer)
        except (OSError, ssl.SSLError, TimeoutError, asyncio.IncompleteReadError):
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
                request = Request(head[:-4])
                refused = await self._refused(request)
                data, keep = self.answer(request) if refused is None else (refused, False)
            except asyncio.LimitOverrunError:
                text, status = b"The request's head is too large.\n", 431
                data, keep = response(HTTPStatus(status), text, keep=False, head=False), False
            except ValueError:
                text, status = b"This is no HTTP/1.1 request.\n", 400
                data, keep = response(HTTPStatus(status), text, keep=False, head=False), False
            writer.write(self._headed(data))
            async with asyncio.timeout(HEAD_SECONDS):
                await writer.drain()
            wait = IDLE_SECONDS
