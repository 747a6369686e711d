"""A minimal HTTP/1.1 server based on h11, with limits on every resource.

A framework would double the memory of each process, and the worker pool runs many processes on a
small machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11

MAX_HEAD = 16_384
MAX_BODY = 65_536
MAX_CONNECTIONS = 2_000
IDLE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request. `path` excludes the query."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    retry_after: int | None = None


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class BadRequest(Exception):  # noqa: N818 - the name of the status
    """The request is malformed or too large. `status` is the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


async def next_event(reader: asyncio.StreamReader, connection: h11.Connection) -> Any:
    """Return the peer's next event, or ConnectionClosed if the peer has closed the connection.

    Raises h11.RemoteProtocolError for invalid data, and TimeoutError if the peer is silent.
    """
    while (event := connection.next_event()) is h11.NEED_DATA:
        data = await asyncio.wait_for(reader.read(MAX_HEAD), IDLE_SECONDS)
        if not data:
            return h11.ConnectionClosed()
        connection.receive_data(data)
    return event


async def read_request(
    reader: asyncio.StreamReader, connection: h11.Connection
) -> HttpRequest | None:
    """Read the next HTTP request; None at the end of the connection. Raises BadRequest."""
    head: h11.Request | None = None
    body = bytearray()
    try:
        while not isinstance(event := await next_event(reader, connection), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:  # the connection was closed
                return None
            if len(body) > MAX_BODY or (head and _announced(head) > MAX_BODY):
                raise BadRequest(413)
    except TimeoutError:
        return None
    except h11.RemoteProtocolError as error:
        raise BadRequest(error.error_status_hint) from None
    assert head is not None  # noqa: S101 - h11 reports no end before the head
    path = head.target.partition(b"?")[0].decode("ascii")
    return HttpRequest(head.method.decode("ascii"), path, bytes(body))


def _announced(head: h11.Request) -> int:
    return int(dict(head.headers).get(b"content-length", b"0"))


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
    ]
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


class HttpServer:
    """An HTTP server that passes every request to one handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
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
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._connections.add(task)
        try:
            if len(self._connections) <= MAX_CONNECTIONS:
                await self._serve(reader, writer, task)
            else:
                writer.write(render(HttpResponse(503, retry_after=1), _server_side(), close=True))
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client disconnected, or the server is closing
        finally:
            self._connections.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        connection = _server_side()
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
            response = await self._handler(request)
            head_only = request.method == "HEAD"
            writer.write(render(response, connection, close=self._draining, head_only=head_only))
            await writer.drain()
            self._busy.discard(task)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
