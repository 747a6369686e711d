"""Any bytes, at any speed, result in a response or a closed connection within the limits."""

from __future__ import annotations

import asyncio

import h11
import pytest

from fleetmedic.http.server import MAX_BODY, MAX_HEAD, BadRequest, HttpRequest, read_request


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
