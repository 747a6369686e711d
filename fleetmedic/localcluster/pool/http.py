"""A minimal HTTP/1.1 server for the pool, on the standard library, with limits on every resource.

It replaces a framework because the pool runs many processes on a small machine, and each uses half
the memory this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 16_384
MAX_BODY = 65_536
MAX_CONNECTIONS = 2_000
IDLE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """A request. `path` excludes the query."""

    method: str
    path: str
    body: bytes = b""
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class PoolResponse:
    """A response."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    retry_after: int | None = None


Handler = Callable[[PoolRequest], Awaitable[PoolResponse]]


class BadRequest(Exception):  # noqa: N818 - the name of the status
    """The request is malformed or too large; holds the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


async def read_request(reader: asyncio.StreamReader) -> PoolRequest | None:
    """The next request, None at the end of the connection. Raises BadRequest."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest(431) from None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
    }
    if "transfer-encoding" in headers:
        raise BadRequest(411)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400)
    if len(length) > 9 or int(length) > MAX_BODY:
        raise BadRequest(413)
    try:
        body = await asyncio.wait_for(reader.readexactly(int(length)), IDLE_SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    closing = headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0"
    return PoolRequest(words[0], words[1].partition("?")[0], body, not closing)


def render(response: PoolResponse, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """The bytes of a response."""
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
    )
    if response.retry_after is not None:
        head += f"Retry-After: {response.retry_after}\r\n"
    return head.encode() + b"\r\n" + (b"" if head_only else response.body)


class PoolServer:
    """Serves one handler until drained."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._draining = False

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError if the port is in use."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=MAX_HEAD, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def drain(self, seconds: float) -> None:
        """Accept no more requests, wait up to `seconds` for running ones, and close."""
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
                writer.write(render(PoolResponse(503, retry_after=1), keep_alive=False))
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
        going = True
        while going and not self._draining:
            try:
                request = await read_request(reader)
            except BadRequest as error:
                writer.write(
                    render(PoolResponse(error.status, f"{error}\n".encode()), keep_alive=False)
                )
                return
            if request is None:
                return
            self._busy.add(task)
            response = await self._handler(request)
            going = request.keep_alive and not self._draining
            writer.write(render(response, keep_alive=going, head_only=request.method == "HEAD"))
            await writer.drain()
            self._busy.discard(task)


async def fetch(
    host: str, port: int, method: str, path: str, body: bytes = b""
) -> tuple[int, bytes]:
    """Send one request to a server on this machine; returns status and body.

    Raises OSError (ConnectionError included) or EOFError if the response is incomplete.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD)
    try:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = answer.lower().partition("content-length:")[2].partition("\r\n")[0]
            content = await reader.readexactly(min(int(length or 0), 1_000_000))
            return int(answer.split(" ", 2)[1]), content
        except (asyncio.LimitOverrunError, ValueError, IndexError):
            raise EOFError(f"{host}:{port} sent no valid HTTP response") from None
    finally:
        writer.close()
