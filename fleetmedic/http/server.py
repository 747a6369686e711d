"""A minimal HTTP/1.1 server based on h11, with limits on every resource.

A framework would double the memory of each process, and the worker pool runs many processes on a
small machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11

MAX_HEAD = 16_384
MAX_BODY = 65_536
MAX_CONNECTIONS = 2_000
# Each limit is for the whole step, so a client that sends one byte per second cannot extend it.
IDLE_SECONDS = 10.0  # until the first byte of a request
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
WRITE_SECONDS = 10.0
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request. `path` excludes the query. Header names are in lower case."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response. `allow` are the methods that the path supports, for status 405."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    retry_after: int | None = None
    allow: str = ""


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class BadRequest(Exception):  # noqa: N818 - the name of the status
    """The request is malformed, too large or too slow. `status` is the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


async def next_event(reader: asyncio.StreamReader, connection: h11.Connection) -> Any:
    """Return the peer's next event, or ConnectionClosed if the peer has closed the connection.

    The caller limits the time. Raises h11.RemoteProtocolError for invalid data.
    """
    while (event := connection.next_event()) is h11.NEED_DATA:
        data = await reader.read(MAX_HEAD)
        if not data:
            return h11.ConnectionClosed()
        connection.receive_data(data)
    return event


async def read_request(
    reader: asyncio.StreamReader, connection: h11.Connection
) -> HttpRequest | None:
    """Read the next HTTP request; None at the end of the connection. Raises BadRequest."""
    if not await _begins(reader, connection):
        return None
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await next_event(reader, connection)
        if not isinstance(head, h11.Request):  # the connection was closed
            return None
        if _announced(head) > MAX_BODY:
            raise BadRequest(413)
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read_body(reader, connection)
    except TimeoutError:
        raise BadRequest(408) from None
    except h11.RemoteProtocolError as error:
        raise BadRequest(error.error_status_hint) from None
    if body is None:
        return None
    if head.http_version not in (b"1.0", b"1.1"):
        raise BadRequest(505)
    headers, target = _headers(head), head.target.decode("ascii")
    if target.lower().startswith(("http://", "https://")):  # absolute form, which names the host
        headers["host"], slash, rest = target.partition("://")[2].partition("/")
        target = slash + rest or "/"
    path = target.partition("?")[0]
    return HttpRequest(head.method.decode("ascii"), path, body, headers)


async def _begins(reader: asyncio.StreamReader, connection: h11.Connection) -> bool:
    """Wait for the first byte of a request. Returns False if the client stays silent."""
    if connection.trailing_data[0]:
        return True
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            connection.receive_data(await reader.read(MAX_HEAD))
    except TimeoutError:
        return False
    return True


async def _read_body(reader: asyncio.StreamReader, connection: h11.Connection) -> bytes | None:
    """Return the body of a request; None if the client closes the connection before its end."""
    body = bytearray()
    while not isinstance(event := await next_event(reader, connection), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            return None
        body += event.data
        if len(body) > MAX_BODY:
            raise BadRequest(413)
    return bytes(body)


def _headers(head: h11.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _announced(head: h11.Request) -> int:
    return int(dict(head.headers).get(b"content-length", b"0"))


def wrong_method(allowed: str) -> HttpResponse:
    """Return the response to a method that the path does not support, such as `GET, HEAD`."""
    text = f"Method not allowed; this path supports {allowed.replace(', ', ' and ')} only.\n"
    return HttpResponse(405, text.encode(), allow=allowed)


def render(
    response: HttpResponse,
    connection: h11.Connection,
    *,
    close: bool = False,
    head_only: bool = False,
) -> bytes:
    """Return the bytes of a response. `close`: the server closes the connection after the response."""
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ]
    if response.allow:
        headers.append(("Allow", response.allow))
    if response.retry_after is not None:
        headers.append(("Retry-After", str(response.retry_after)))
    if close:
        headers.append(("Connection", "close"))
    reason = HTTPStatus(response.status).phrase
    events: list[h11.Event] = [
        h11.Response(status_code=response.status, headers=headers, reason=reason)
    ]
    if not head_only:
        events.append(h11.Data(data=response.body))
    return b"".join(connection.send(one) or b"" for one in (*events, h11.EndOfMessage()))


def _server_side() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)


@dataclass(slots=True, eq=False)
class _Place:
    """The place of a connection. `waiting`: the time at which it began to wait for a complete request;
    None while a request is being answered."""

    writer: asyncio.StreamWriter
    waiting: float | None = field(default_factory=time.monotonic)


class HttpServer:
    """An HTTP server that passes every request to one handler.

    At the limit, a new connection replaces the one that has waited longest for a complete request. So
    idle and slow clients cannot block others. If all connections are being answered, it gets 503.
    """

    def __init__(self, handler: HttpHandler, max_connections: int = MAX_CONNECTIONS) -> None:
        self._handler = handler
        self._max = max_connections
        self._places: set[_Place] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._draining = False

    async def start(self, host: str, port: int) -> int:
        """Listen on an address. Returns the port. Raises OSError if the port is in use."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=MAX_HEAD, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, seconds: float) -> None:
        """Accept no more requests, wait up to `seconds` for running requests, and close."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        for task in self._connections - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=seconds)
        for task in self._connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._make_room():
            writer.write(render(HttpResponse(503, retry_after=1), _server_side(), close=True))
            return await _close(writer)
        place = _Place(writer)
        self._places.add(place)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._connections.add(task)
        try:
            await self._serve(reader, place, task)
        except (OSError, asyncio.CancelledError):  # TimeoutError is an OSError
            pass  # the client disconnected or does not read, or the server is closing
        finally:
            self._busy.discard(task)
            self._places.discard(place)
            await _close(writer)
            self._connections.discard(task)

    def _make_room(self) -> bool:
        """Return whether another connection is accepted. Closes a waiting connection if necessary."""
        if len(self._places) < self._max:
            return True
        waiting = [(since, place) for place in self._places if (since := place.waiting) is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda each: each[0])
        self._places.discard(longest)
        longest.writer.transport.abort()
        return True

    async def _serve(
        self, reader: asyncio.StreamReader, place: _Place, task: asyncio.Task[None]
    ) -> None:
        connection, writer = _server_side(), place.writer
        while not self._draining:
            try:
                request = await read_request(reader, connection)
            except BadRequest as error:
                answer = HttpResponse(error.status, f"{error}\n".encode())
                writer.write(render(answer, connection, close=True))
                return
            if request is None:
                return
            self._busy.add(task)
            place.waiting = None
            response = await self._handler(request)
            head_only = request.method == "HEAD"
            writer.write(render(response, connection, close=self._draining, head_only=head_only))
            async with asyncio.timeout(WRITE_SECONDS):
                await writer.drain()
            self._busy.discard(task)
            place.waiting = time.monotonic()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close the connection. Waits briefly until the client has received the rest of the response."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except (OSError, asyncio.CancelledError):
        writer.transport.abort()
