"""A minimal HTTP/1.1 client for servers on this machine, based on h11."""

from __future__ import annotations

import asyncio

import h11

from fleetmedic.http.server import MAX_HEAD, next_event

MAX_ANSWER = 1_000_000
ANSWER_SECONDS = 15.0


async def fetch(
    host: str, port: int, method: str, path: str, body: bytes = b""
) -> tuple[int, bytes]:
    """Send one request to a server on this machine; returns status and body.

    Raises OSError, also if the response is not complete after ANSWER_SECONDS, or EOFError if the response is incomplete.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _fetch(host, port, method, path, body)
    except h11.RemoteProtocolError:
        raise EOFError(f"{host}:{port} sent an invalid HTTP response") from None


async def _fetch(host: str, port: int, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [
        ("Host", f"{host}:{port}"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    sent: tuple[h11.Event, ...] = (
        h11.Request(method=method, target=path, headers=headers),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
    try:
        writer.write(b"".join(connection.send(one) or b"" for one in sent))
        status, content = 0, bytearray()
        while not isinstance(event := await next_event(reader, connection), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError(
                    f"{host}:{port} closed the connection before the end of its response"
                )
            if len(content) > MAX_ANSWER:
                raise EOFError(f"{host}:{port} sent more than {MAX_ANSWER} bytes")
        return status, bytes(content)
    finally:
        writer.close()
