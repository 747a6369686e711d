"""The HTTP server: accepts connections up to a limit, does the TLS handshake, and serves the
requests.

At the limit, a new connection replaces the one that has waited longest for a complete request. So
idle and slow clients cannot block scrapes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus

from exporter.web.access_control import AccessControl
from exporter.web.connection import (
    CHUNK,
    CLOSE_SECONDS,
    FLUSH_TICK,
    HEAD_SECONDS,
    HttpConnection,
    close_connection,
)
from exporter.web.counters import RateLimitedLog, WebCounters
from exporter.web.message import Refused, Request, Response, sentence
from exporter.web.reload import ConfigFile
from exporter.web.routes import OTHER, Routes
from exporter.web.tls import allowed

MAX_REQUESTS = 40
BACKLOG = 1024  # connections that the kernel queues until they are accepted
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_POLICY_NAME = "Content-Security-Policy"
_POLICY = (_POLICY_NAME, "default-src 'none'; frame-ancestors 'none'")


class ConnectionSlot:
    """A connection that counts against the limit.

    `waiting` is the monotonic time at which the connection began to wait for a request. It is None
    while a request is being answered.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connection: HttpConnection | None = None
        self._since = time.monotonic()

    @property
    def waiting(self) -> float | None:
        return self._since if self.connection is None else self.connection.waiting


class WebServer:
    """The exporter's HTTP server, which serves all connections in one event loop."""

    def __init__(
        self,
        routes: Routes,
        access_control: AccessControl,
        file: ConfigFile,
        counters: WebCounters,
        log: Callable[..., None],
        max_requests: int = MAX_REQUESTS,
    ) -> None:
        self._routes = routes
        self._access_control = access_control
        self._file = file
        self._counters = counters
        self._log = log
        self._log_rarely = RateLimitedLog(log)
        self._max = max_requests
        self._places: set[ConnectionSlot] = set()
        self._turning_away = 0

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Serve the connections of this listening socket."""
        # Accepted sockets inherit this option. asyncio only sets it on sockets with IPPROTO_TCP, which
        # `socket.create_server` does not use. Without it, TLS waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return await asyncio.start_server(
            self.connection, sock=listener, limit=CHUNK, backlog=BACKLOG
        )

    async def close(self) -> None:
        """Close all connections. Waits briefly until they are closed."""
        for slot in self._places:
            slot.writer.transport.abort()
        until = time.monotonic() + CLOSE_SECONDS
        while self._places and time.monotonic() < until:
            await asyncio.sleep(FLUSH_TICK)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one HTTP connection until it is closed."""
        slot = ConnectionSlot(writer)
        if not self._make_room():
            self._counters.count_lost("limit")
            self._log_rarely("too_many_connections", limit=self._max)
            return await self._reject(reader, writer)
        self._places.add(slot)
        try:
            await self._serve(slot, reader, writer)
        except TimeoutError:  # the client did not read the response in time
            self._counters.count_lost("slow")
            writer.transport.abort()
        except (OSError, EOFError):
            pass  # the client closed the connection
        finally:
            await close_connection(writer)
            self._places.discard(slot)

    def _make_room(self) -> bool:
        """Return whether another connection can be accepted. Closes an idle connection if necessary."""
        if len(self._places) < self._max:
            return True
        idle = [(since, slot) for slot in self._places if (since := slot.waiting) is not None]
        if not idle:
            return False
        _, longest = min(idle, key=lambda each: each[0])
        self._places.discard(longest)
        longest.writer.transport.abort()
        return True

    async def _reject(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reject a connection above the limit with 503. A TLS connection is closed without a response."""
        self._refresh()
        self._turning_away += 1
        try:
            if self._file.tls is None and self._turning_away <= self._max:
                text = "Too many connections; try again."
                response = sentence(HTTPStatus.SERVICE_UNAVAILABLE, text, close=True)
                connection = HttpConnection(reader, writer, writer.transport)
                await connection.respond(self._with_headers(response))
                await connection.linger()
        except OSError:
            pass
        finally:
            await close_connection(writer)
            self._turning_away -= 1

    def _refresh(self) -> None:
        self._file.refresh()
        if self._file.configured:
            self._counters.reloaded = self._file.reloaded

    async def _serve(
        self, slot: ConnectionSlot, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._refresh()
        context, peer, carrier = self._file.tls, _peer(writer), writer.transport
        if context is not None and not await self._handshake(context, writer, peer):
            return
        connection = slot.connection = HttpConnection(reader, writer, carrier)
        try:
            while (request := await connection.request(peer)) is not None:
                self._refresh()
                if self._file.tls is not context:
                    return  # the TLS settings changed: the client must reconnect
                response = await self._answer(request)
                if not await connection.respond(response):
                    return
        except Refused as refused:
            self._counters.count_response(refused.response.status, OTHER)
            if connection.may_refuse:
                await connection.respond(self._with_headers(refused.response))
                await connection.linger()

    async def _handshake(
        self, context: ssl.SSLContext, writer: asyncio.StreamWriter, peer: str
    ) -> bool:
        """Perform the TLS handshake. Returns whether the client's certificate is accepted."""
        tls = self._file.config.tls
        sans = tls.client_allowed_sans if tls is not None else None
        try:
            await writer.start_tls(context, ssl_handshake_timeout=HEAD_SECONDS)
        except OSError as error:
            self._counters.count_lost("tls")
            why = getattr(error, "reason", None) or type(error).__name__
            self._log_rarely("tls_handshake_failed", peer=peer, why=why)
            return False
        if sans is None or allowed(writer.get_extra_info("peercert"), sans):
            return True
        self._counters.count_lost("client_name")
        self._log_rarely("client_name_not_allowed", peer=peer)
        return False

    async def _answer(self, request: Request) -> Response:
        handler = self._routes.handler(request.path)
        try:
            response = await self._access_control.refusal(request)
            if response is None:
                response = await self._routes.answer(request)
        except Exception as error:  # noqa: BLE001 - a bug in one route must not affect the others
            self._log_rarely(
                "no_answer", handler=handler, why=f"{type(error).__name__}: {error}"[:500]
            )
            response = sentence(
                HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; see the exporter's log."
            )
        self._counters.count_response(response.status, handler)
        return self._with_headers(response)

    def _with_headers(self, response: Response) -> Response:
        """Return the response with the configured headers. Every response must have these headers."""
        own = () if any(name == _POLICY_NAME for name, _ in response.headers) else (_POLICY,)
        return response.with_headers(*own, _NOSNIFF).with_headers(*self._file.config.headers)


def _peer(writer: asyncio.StreamWriter) -> str:
    """Return the IP address of the client."""
    name = writer.get_extra_info("peername")
    return str(name[0]) if name else "?"
