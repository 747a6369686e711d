"""Any bytes, at any speed, result in a response or a closed connection within the limits."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Awaitable, Callable

import h11
import pytest

from fleetmedic.http import client, server
from fleetmedic.http.client import fetch
from fleetmedic.http.server import (
    MAX_BODY,
    MAX_HEAD,
    BadRequest,
    HttpHandler,
    HttpRequest,
    HttpResponse,
    HttpServer,
    read_request,
    wrong_method,
)


def parse(raw: bytes) -> HttpRequest | None:
    async def go() -> HttpRequest | None:
        reader = asyncio.StreamReader(limit=16_384)
        reader.feed_data(raw)
        reader.feed_eof()
        return await read_request(
            reader, h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        )

    return asyncio.run(go())


def test_a_request_is_read_with_its_body_and_without_its_query() -> None:
    raw = b"POST /infer?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    assert parse(raw) == HttpRequest("POST", "/infer", b"hi")
    chunked = (
        b"POST /infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    assert parse(chunked) == HttpRequest("POST", "/infer", b"hi")
    assert parse(b"GET /") is None
    assert parse(raw[:-1]) is None


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"junk\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
            % (MAX_BODY + 1, b"x" * (MAX_BODY + 1)),
            413,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_junk_is_refused_with_its_status(raw: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(raw)
    assert refused.value.status == status


Scene = Callable[[int], Awaitable[None]]


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, f"{request.method} {request.path}\n".encode())


def serve(scene: Scene, handler: HttpHandler = hello, **limits: int) -> None:
    """Run `scene(port)` against a server on loopback, in one event loop."""

    async def go() -> None:
        served = HttpServer(handler, **limits)
        await scene(await served.start("127.0.0.1", 0))
        await served.drain(1)

    asyncio.run(go())


async def send(port: int, *pieces: bytes, every: float = 0.0) -> bytes:
    """Send the pieces, one per `every` seconds; return what the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def receive() -> bytes:
        answer = bytearray()
        try:
            while data := await reader.read(1000):
                answer += data
        except ConnectionError:
            pass  # a piece that was still on its way met a closed connection
        return bytes(answer)

    answer = asyncio.create_task(receive())
    try:
        for piece in pieces:
            writer.write(piece)
            done, _ = await asyncio.wait({answer}, timeout=every)
            if done:
                break
        return await asyncio.wait_for(answer, 5)
    finally:
        writer.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(server, name, 0.3)


def test_the_limits_close_a_silent_connection_within_12_seconds() -> None:
    assert server.IDLE_SECONDS == server.HEAD_SECONDS == server.BODY_SECONDS == 10.0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
    ],
)
def test_a_request_that_arrives_piece_by_piece_gets_408_at_the_deadline(
    begin: bytes, piece: bytes
) -> None:
    async def scene(port: int) -> None:
        began = time.monotonic()
        answer = await send(port, begin, *[piece] * 100, every=0.05)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close\r\n" in answer
        assert time.monotonic() - began < 2

    serve(scene)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_silent_connection_is_closed_without_a_response(first: bytes) -> None:
    async def scene(port: int) -> None:
        began = time.monotonic()
        answer = await send(port, first)
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ") == bool(first)
        assert time.monotonic() - began < 2

    serve(scene)


def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async def scene(port: int) -> None:
        raw = (
            b"".join(f"GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for n in range(3))
            + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answer = await send(port, raw)
        assert re.findall(rb"GET /(\w+)\n", answer) == [b"0", b"1", b"2", b"last"]

    serve(scene)


def test_a_client_that_does_not_read_its_response_loses_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "WRITE_SECONDS", 0.2)
    monkeypatch.setattr(server, "CLOSE_SECONDS", 0.1)

    async def large(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"x" * 20_000_000)

    async def scene(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(1)
            received = 0
            with contextlib.suppress(ConnectionError):
                while data := await asyncio.to_thread(client.recv, 1_000_000):
                    received += len(data)
            assert received < 20_000_000

    serve(scene, large)


def test_connections_above_the_limit_get_503_while_all_others_are_answered() -> None:
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: HttpRequest) -> HttpResponse:
        begun.release()
        await go_on.wait()
        return HttpResponse(200)

    async def scene(port: int) -> None:
        held = [asyncio.create_task(fetch("127.0.0.1", port, "GET", "/")) for _ in range(2)]
        for _ in held:
            await begun.acquire()
        answer = await send(port, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        go_on.set()
        assert [status for status, _ in await asyncio.gather(*held)] == [200, 200]
        status, _ = await fetch("127.0.0.1", port, "GET", "/")
        assert status == 200

    serve(scene, slow, max_connections=2)


@pytest.mark.parametrize(
    "half",
    [b"", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"],
)  # fmt: skip
def test_half_sent_requests_make_room_for_others_oldest_first(half: bytes) -> None:
    async def scene(port: int) -> None:
        held = []
        for _ in range(8):  # four more than the limit
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(half)
            await writer.drain()
            held.append((reader, writer))
        found = await asyncio.gather(*(fetch("127.0.0.1", port, "GET", "/") for _ in range(3)))
        assert [status for status, _ in found] == [200, 200, 200]
        for reader, writer in held[:4]:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        for _, writer in held[4:]:
            writer.close()

    serve(scene, max_connections=4)


def test_a_target_in_absolute_form_is_read_with_its_host() -> None:
    for target, host, path in (
        (b"http://127.0.0.1/metrics?x=1", "127.0.0.1", "/metrics"),
        (b"HTTP://evil.example:80", "evil.example:80", "/"),
        (b"https://a/b//c", "a", "/b//c"),
    ):
        request = parse(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert request is not None
        assert (request.path, request.headers["host"]) == (path, host)


@pytest.mark.parametrize("version", [b"9.9", b"2.0", b"0.9", b"1.2"])
def test_another_version_of_http_is_refused(version: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
    assert refused.value.status == 505


def test_an_incomplete_response_ends_the_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends single bytes does not extend the deadline of the client."""
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    async def go() -> None:
        dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = dripping.sockets[0].getsockname()[1]
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await fetch("127.0.0.1", port, "GET", "/")
        assert time.monotonic() - began < 2
        dripping.close()
        await asyncio.sleep(0.2)

    asyncio.run(go())


def test_headers_are_read_and_repeated_ones_are_joined() -> None:
    request = parse(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nACCEPT: y\r\n\r\n")
    assert request is not None
    assert request.headers == {"host": "a", "accept": "x, y"}


def test_a_response_to_a_wrong_method_names_the_allowed_ones_and_no_response_may_be_sniffed() -> (
    None
):
    async def refuse(request: HttpRequest) -> HttpResponse:
        return wrong_method("GET, HEAD")

    async def scene(port: int) -> None:
        answer = await send(port, b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
        assert b"Allow: GET, HEAD\r\n" in answer
        assert b"X-Content-Type-Options: nosniff\r\n" in answer
        assert b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n" in answer
        refused = await send(port, b"junk\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 400 ")
        assert b"Content-Security-Policy: " in refused
        assert answer.endswith(
            b"\r\n\r\nMethod not allowed; this path supports GET and HEAD only.\n"
        )

    serve(scene, refuse)
