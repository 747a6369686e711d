"""A client that stops in the middle of a request loses its connection, and delays nobody else."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fleetmedic.kernel.logs import configure_logs
from remediator import payload
from remediator.admission import RefusedError
from remediator.connections import TimedConnection, _Missing
from remediator.payload import body_of
from remediator.security_headers import HEADERS

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"


class Quick(TimedConnection):
    """With limits for a test."""

    SECONDS = dict.fromkeys(TimedConnection.SECONDS, 0.3)


async def _answer(request: Request) -> Response:
    try:
        return PlainTextResponse(str(len(await body_of(request))))
    except RefusedError as error:
        return PlainTextResponse(str(error), error.status)


async def _unread(_: Request) -> Response:
    return PlainTextResponse("refused", 401)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """The address of a server on loopback."""
    app = Starlette(
        routes=[
            Route("/", _answer, methods=["GET", "POST"]),
            Route("/unread", _unread, methods=["POST"]),
        ]
    )
    config = uvicorn.Config(app, log_config=None, lifespan="off", http=Quick)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await task


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    """What came until the server closed the connection; fails when it does not."""
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        POST,
        POST.replace(b"POST /", b"POST /unread"),
        WHOLE + b"GET / H",
    ],
)
def test_a_request_that_is_not_completed_ends_its_connection(half: bytes) -> None:
    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(half)
            await _until_closed(reader)
            writer.close()

    asyncio.run(play())


def test_a_client_that_trickles_does_not_extend_the_limit() -> None:
    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\n")

            async def trickle() -> None:
                while True:
                    writer.write(b"x: 1\r\n")
                    await asyncio.sleep(0.05)

            task = asyncio.create_task(trickle())
            await _until_closed(reader)
            task.cancel()
            writer.close()

    asyncio.run(play())


def test_many_half_requests_are_closed_and_whole_ones_are_answered_meanwhile() -> None:
    async def play() -> None:
        async with serving() as address:
            half = []
            for n in range(100):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(POST if n % 2 else WHOLE[:-2])
                half.append((reader, writer))
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(20):
                writer.write(WHOLE)
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(1)
            writer.close()
            await asyncio.gather(*(_until_closed(reader) for reader, _ in half))
            for _, one in half:
                one.close()

    asyncio.run(play())


def test_a_body_that_comes_too_late_is_answered_before_its_connection_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload, "BODY_TIMEOUT", 0.05)

    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(POST)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408")
            writer.close()

    asyncio.run(play())


def test_a_kept_connection_may_be_idle_between_two_requests() -> None:
    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(2):
                writer.write(WHOLE)
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(1)
                await asyncio.sleep(0.6)
            writer.close()

    asyncio.run(play())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/", "/unread", "/nothing"])
@pytest.mark.parametrize("pause", [0, 1, 2, 3, 5, 8])
def test_an_invalid_body_is_refused_once_and_nothing_is_logged_as_an_exception(
    caplog: pytest.LogCaptureFixture, method: str, path: str, pause: int
) -> None:
    """Whether the route has answered when the invalid part of the body arrives or not."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    async def play() -> bytes:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            if pause:
                writer.write(head)
                for _ in range(pause):
                    await asyncio.sleep(0)
                writer.write(b"-1\r\n\r\n")
            else:
                writer.write(head + b"-1\r\n\r\n")
            answer = await _until_closed(reader)
            writer.close()
            return answer

    with caplog.at_level(logging.WARNING):
        answer = asyncio.run(play())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [one.getMessage() for one in caplog.records if one.levelno > logging.WARNING] == []
    assert [one.exc_info for one in caplog.records if one.exc_info] == []


def test_the_response_to_an_invalid_request_has_the_security_headers() -> None:
    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"junk\r\n\r\n")
            head, _, body = (await _until_closed(reader)).partition(b"\r\n\r\n")
            lines = head.decode().splitlines()
            assert lines[0] == "HTTP/1.1 400 Bad Request"
            sent = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines[1:]}
            assert sent.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()
            assert body == b"Invalid HTTP request received.\n"
            writer.close()

    asyncio.run(play())


def test_an_invalid_request_is_one_structured_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def play() -> None:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\x16\x03\x01 not HTTP\r\n\r\n")
            assert (await _until_closed(reader)).startswith(b"HTTP/1.1 400")
            writer.close()

    before = logging.getLogger().handlers[:]
    try:
        configure_logs(json=True)
        asyncio.run(play())
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = before
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["text"] for one in events] == ["Invalid HTTP request received."]


def test_the_reader_of_a_body_gives_up_first() -> None:
    assert TimedConnection.SECONDS[_Missing.BODY] > payload.BODY_TIMEOUT
