"""Close HTTP connections of clients that stop in the middle of a request."""

from __future__ import annotations

import asyncio
import socket
from enum import Enum, auto
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from remediator.security_headers import HEADERS


class _Missing(Enum):
    """The part of a request (head or body) for which the server still waits."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    UNREAD_BODY = auto()  # the rest of a request that already has its response


class TimedConnection(H11Protocol):
    """uvicorn's connection, with time limits for receiving the header and the body of a request.

    uvicorn itself only limits the idle time between two requests. Each limit is for the whole
    header or the whole body. So a client that sends one byte per second cannot extend the limit.
    """

    # A body has a second more than its reader waits (`payload.BODY_TIMEOUT`), who then answers 408.
    SECONDS: ClassVar = {_Missing.HEAD: 10.0, _Missing.BODY: 11.0, _Missing.UNREAD_BODY: 1.0}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._missing = _Missing.NOTHING
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Inherited from the listener only if that names its protocol, which `socket.create_server` does
        # not. Without it a body waits 40 ms for the acknowledgement of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._expect(_Missing.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(_Missing.NOTHING)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect(self._missing_now())

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect(self._missing_now())

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request, unless the route has begun its response, and close the connection.

        The route may still be working on the head of a request whose body is invalid. Its response is
        discarded, as for a client that disconnected.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        fields = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", **HEADERS}
        text = f"{msg}\n".encode()
        events: tuple[h11.Event, ...] = (
            h11.Response(
                status_code=400,
                headers=[*fields.items(), ("Content-Length", str(len(text)))],
                reason=b"Bad Request",
            ),
            h11.Data(data=text),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(one) or b"" for one in events))
        self.transport.close()

    def _missing_now(self) -> _Missing:
        if self.conn.their_state is h11.SEND_BODY:
            return _Missing.UNREAD_BODY if self.cycle.response_complete else _Missing.BODY
        if self.conn.their_state is not h11.IDLE:
            return _Missing.NOTHING
        begun = bool(self.conn.trailing_data[0])
        return _Missing.HEAD if begun or self.cycle is None else _Missing.NOTHING

    def _expect(self, missing: _Missing) -> None:
        if missing is self._missing:
            return
        self._missing = missing
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if missing is not _Missing.NOTHING:
            limit = self.SECONDS[missing]
            self._deadline = self.loop.call_later(limit, self.transport.abort)
