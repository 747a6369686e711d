"""Implements HTTP/1.1 on one connection, with h11 and asyncio streams. Sizes and times are limited.

Request bodies are discarded, and idle connections are closed. A client that does not read a
response in time loses its connection.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

import h11

from exporter.web.message import Refused, Request, Response

MAX_HEAD = 16_384
MAX_BODY = 4_096
CHUNK = 16_384
HEAD_SECONDS = 10.0
IDLE_SECONDS = 130.0  # longer than the usual scrape intervals, so that connections are reused
WRITE_SECONDS = 20.0
CLOSE_SECONDS = 1.0
FLUSH_TICK = 0.01
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_SENTENCES = {
    HTTPStatus.BAD_REQUEST: "Invalid HTTP/1.1 request.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request headers are too large.",
    HTTPStatus.NOT_IMPLEMENTED: "Unsupported transfer encoding.",
}


class HttpConnection:
    """One HTTP connection. `carrier` is the transport below TLS, if any.

    `waiting` is the monotonic time at which the connection began to wait for a complete request. It
    is None while a request is being answered.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        carrier: asyncio.WriteTransport,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._carrier = carrier
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._patience = HEAD_SECONDS
        self._head_only = False
        self.waiting: float | None = time.monotonic()

    async def request(self, peer: str) -> Request | None:
        """Return the next request; None at the end of the connection. Its body is discarded. Raises
        Refused."""
        loop = asyncio.get_running_loop()
        begun = bool(self._http.trailing_data[0])
        self._head_only = False  # the response to an invalid request has a body
        head: h11.Request | None = None
        size = 0
        try:
            async with asyncio.timeout(HEAD_SECONDS if begun else self._patience) as deadline:
                while True:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        if head is not None and self._http.they_are_waiting_for_100_continue:
                            break  # answered without reading the body; then the connection ends
                        data = await self._reader.read(CHUNK)
                        if data and not begun:
                            begun = True
                            deadline.reschedule(loop.time() + HEAD_SECONDS)
                        self._http.receive_data(data)
                    elif isinstance(event, h11.Request):
                        head, self._head_only = event, event.method == b"HEAD"
                    elif isinstance(event, h11.Data):
                        size += len(event.data)
                        if size > MAX_BODY:
                            raise Refused(
                                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                                "The request's body is too large.",
                            )
                    else:
                        break
        except TimeoutError:
            if begun:
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, "The request took too long.") from None
            return None
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            raise Refused(
                status, _SENTENCES.get(status, _SENTENCES[HTTPStatus.BAD_REQUEST])
            ) from None
        self._patience, self.waiting = IDLE_SECONDS, None
        return None if head is None else _read(head, peer)

    async def respond(self, response: Response) -> bool:
        """Send a response. Returns whether another request can follow.

        Raises TimeoutError if the client does not read the response in time.
        """
        headers = [
            ("Content-Type", response.kind),
            ("Content-Length", str(len(response.body))),
            ("Date", _date(int(time.time()))),
            *response.headers,
        ]
        if response.close:
            headers.append(("Connection", "close"))
        out = self._http.send(
            h11.Response(
                status_code=response.status, headers=headers, reason=_PHRASES[response.status]
            )
        )
        parts = [out or b""]
        if response.body and not self._head_only:
            parts.append(self._http.send(h11.Data(data=response.body)) or b"")
        self._http.send(h11.EndOfMessage())
        self._writer.write(b"".join(parts))
        await self._flush()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.waiting = time.monotonic()
        return True

    async def _flush(self) -> None:
        """Wait until the kernel has taken all data, so that pages for slow clients do not fill the memory."""
        async with asyncio.timeout(WRITE_SECONDS):
            await self._writer.drain()
            while self._carrier.get_write_buffer_size():  # drain() ignores data buffered by TLS
                await asyncio.sleep(FLUSH_TICK)

    @property
    def may_refuse(self) -> bool:
        """Return whether an error response can still be sent, because no response has been started."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def linger(self) -> None:
        """Close the sending direction and read remaining data for a moment.

        Otherwise a client that is still sending data could lose the response.
        """
        if not self._writer.can_write_eof():
            return
        self._writer.write_eof()
        left = 16
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while left and await self._reader.read(CHUNK):
                    left -= 1
        except TimeoutError:
            pass  # the client had enough time


async def close_connection(writer: asyncio.StreamWriter) -> None:
    """Close the connection. Waits briefly for the client to close its side."""
    if writer.is_closing():  # after a failed handshake, wait_closed() would not return
        writer.transport.abort()
        return
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except OSError:
        writer.transport.abort()


_stamped: tuple[int, str] = (-1, "")


def _date(now: int) -> str:
    """Return the value of the HTTP header Date, cached for one second."""
    global _stamped
    if _stamped[0] != now:
        at = time.gmtime(now)
        day = f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year}"
        _stamped = (now, f"{day} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT")
    return _stamped[1]


def _read(head: h11.Request, peer: str) -> Request:
    size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
    if size > MAX_HEAD:  # h11 does not check a head that arrives at once
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise Refused(status, _SENTENCES[status])
    if head.http_version not in (b"1.0", b"1.1"):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 is supported.")
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    target = head.target.decode("latin-1")
    if target.startswith(("http://", "https://")):  # absolute form, as sent to proxies
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return Request(head.method.decode("ascii"), path, query, headers, peer)
