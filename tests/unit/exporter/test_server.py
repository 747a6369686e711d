"""The HTTP side answers what it should and survives the rest."""

import asyncio
import gzip as packer
from collections.abc import Awaitable, Callable

import pytest

from exporter.openmetrics import Form
from exporter.server import MAX_CONNECTIONS, MAX_HEAD, Request, Server, chosen

TEXT = b"gpu_expected 8\n" * 100


class Pages:
    """One page, or none that may be shown."""

    names = ("gpu_load", "xid")

    def __init__(self, shown: bytes | None = TEXT) -> None:
        self._shown = shown

    def page(self, wanted: frozenset[str] | None, form: Form, gzip: bool) -> bytes | None:
        return self._shown if self._shown is None or not gzip else packer.compress(self._shown)


def ask(head: str, shown: bytes | None = TEXT) -> tuple[str, bytes, bool]:
    data, keep = Server(Pages(shown)).answer(Request(head.encode("latin-1")))
    first, _, body = data.partition(b"\r\n\r\n")
    return first.decode(), body, keep


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /metrics HTTP/1.1", 200),
        ("GET /metrics?x=1 HTTP/1.1", 200),
        ("HEAD /metrics HTTP/1.1", 200),
        ("GET / HTTP/1.1", 200),
        ("GET /-/healthy HTTP/1.1", 200),
        ("GET /-/ready HTTP/1.1", 200),
        ("GET /etc/passwd HTTP/1.1", 404),
        ("GET /metrics/ HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("DELETE /-/ready HTTP/1.1", 405),
    ],
)
def test_a_route_has_its_status(line: str, status: int) -> None:
    head, body, _ = ask(line)
    assert head.startswith(f"HTTP/1.1 {status} ")
    if status >= 400:
        assert body.count(b".") == 1
        assert body.endswith(b".\n")


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)  # fmt: skip
def test_gzip_is_sent_to_those_who_take_it(accepts: str, packed: bool) -> None:
    head, body, _ = ask(f"GET /metrics HTTP/1.1\r\nAccept-Encoding: {accepts}")
    assert ("Content-Encoding: gzip" in head) is packed
    assert (packer.decompress(body) if packed else body) == TEXT


def test_without_a_page_it_is_alive_and_not_ready() -> None:
    assert ask("GET /-/healthy HTTP/1.1", None)[0].startswith("HTTP/1.1 200")
    assert ask("GET /-/ready HTTP/1.1", None)[0].startswith("HTTP/1.1 503")
    assert ask("GET /metrics HTTP/1.1", None)[0].startswith("HTTP/1.1 503")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", None),
        ("name=x", None),
        ("collect[]=xid", {"xid"}),
        ("collect[]=xid&collect[]=gpu_load", {"xid", "gpu_load"}),
        ("collect%5B%5D=xid", {"xid"}),
        ("exclude[]=xid", {"gpu_load"}),
    ],
)
def test_a_query_chooses_collectors(query: str, wanted: set[str] | None) -> None:
    assert chosen(query, Pages.names) == wanted


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("collect[]=gpu", "There is no collector 'gpu'; known: gpu_load, xid."),
        ("exclude[]=", "There is no collector ''"),
        ("collect[]=xid&exclude[]=gpu_load", "not both"),
        ("collect[]=%0d%0aX-Evil:%201", "There is no collector"),
        ("&".join(["collect[]=xid"] * 300), "fields"),
    ],
)
def test_a_query_for_what_there_is_not_is_a_sentence(query: str, sentence: str) -> None:
    head, body, _ = ask(f"GET /metrics?{query} HTTP/1.1")
    assert head.startswith("HTTP/1.1 400")
    assert sentence in body.decode()
    assert "X-Evil" not in head


def test_a_head_request_has_no_body() -> None:
    head, body, _ = ask("HEAD /metrics HTTP/1.1")
    assert f"Content-Length: {len(TEXT)}" in head
    assert body == b""


def test_a_request_with_a_body_ends_the_connection() -> None:
    assert not ask("POST /metrics HTTP/1.1\r\nContent-Length: 10")[2]
    assert ask("GET /metrics HTTP/1.1")[2]
    assert not ask("GET /metrics HTTP/1.0")[2]


def over_the_wire(talk: Callable[[int], Awaitable[bytes]]) -> bytes:
    async def run() -> bytes:
        server = Server(Pages())
        listening = await asyncio.start_server(server.connection, "127.0.0.1", 0, limit=MAX_HEAD)
        try:
            return await talk(listening.sockets[0].getsockname()[1])
        finally:
            listening.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/3\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
        (b"\xff\xfe\x00 \x00 \x00\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_answered_in_a_sentence(sent: bytes, status: int) -> None:
    async def talk(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await reader.read(4096)
        writer.close()
        return answer

    assert over_the_wire(talk).startswith(f"HTTP/1.1 {status} ".encode())


def test_connections_are_bounded() -> None:
    async def talk(port: int) -> bytes:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        for reader, writer in opened:
            writer.write(b"GET /-/healthy HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"Healthy.\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = await reader.read(4096)
        for _, other in [*opened, (reader, writer)]:
            other.close()
        return answer

    assert over_the_wire(talk).startswith(b"HTTP/1.1 503 ")
