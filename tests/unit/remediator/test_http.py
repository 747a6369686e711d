"""What Prometheus and a notification address answer, and what is made of it."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs

import pytest

from remediator.http import HttpError, Notifier
from remediator.prometheus import PrometheusClient, QuerySample
from tests.unit.remediator.fake_http_server import FakeHttpServer


def vector(*series: tuple[dict[str, str], float, str]) -> dict[str, object]:
    result = [{"metric": labels, "value": [at, value]} for labels, at, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def query(server: FakeHttpServer, expr: str = "up", timeout: float = 2.0) -> list[QuerySample]:
    async def ask() -> list[QuerySample]:
        async with PrometheusClient(server.url, timeout=timeout) as client:
            return await client.query(expr)

    return asyncio.run(ask())


def send(url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        async with Notifier() as notifier:
            return await notifier.exchange("POST", url, content=body)

    return asyncio.run(ask())


def test_a_vector_becomes_samples(server: FakeHttpServer) -> None:
    server.answers(vector(({"__name__": "up", "node": "node1"}, 1700000000.5, "1")))
    assert query(server) == [QuerySample({"__name__": "up", "node": "node1"}, 1.0, 1700000000.5)]


def test_a_scalar_becomes_one_sample_without_labels(server: FakeHttpServer) -> None:
    server.answers(
        {"status": "success", "data": {"resultType": "scalar", "result": [1700000000, "+Inf"]}}
    )
    assert query(server) == [QuerySample({}, float("inf"), 1700000000.0)]


def test_no_series_is_an_empty_list(server: FakeHttpServer) -> None:
    server.answers(vector())
    assert query(server) == []


def test_the_expression_is_sent_as_it_is(server: FakeHttpServer) -> None:
    server.answers(vector())
    query(server, 'a{b="c&d"} + 1')
    assert parse_qs(server.asked[0][1])["query"] == ['a{b="c&d"} + 1']


def test_samples_carry_the_time_of_their_own_scrape(server: FakeHttpServer) -> None:
    one, two = {"node": "node1"}, {"node": "node2"}
    server.body = {
        "gpu_lost": json.dumps(
            vector(
                ({"__name__": "gpu_lost", **one}, 100.0, "1"),
                ({"__name__": "gpu_lost", **two}, 100.0, "0"),
            )
        ).encode(),
        "timestamp(gpu_lost)": json.dumps(vector((one, 100.0, "42.5"))).encode(),
    }

    async def ask() -> list[QuerySample]:
        async with PrometheusClient(server.url) as client:
            return await client.samples("gpu_lost", at=50.0)

    assert asyncio.run(ask()) == [QuerySample({"__name__": "gpu_lost", **one}, 1.0, 42.5)]
    assert len({parse_qs(sent)["time"][0] for _, sent in server.asked}) == 1


def test_a_refused_query_says_what_prometheus_said(server: FakeHttpServer) -> None:
    server.answers(
        {"status": "error", "errorType": "bad_data", "error": 'parse error: unexpected "}"'}, 400
    )
    with pytest.raises(HttpError, match="refused the query: parse error"):
        query(server)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not here</html>",
        b"[]",
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}',
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
        b'{"status":"success"}',
        b"\xff\xfe",
    ],
)
def test_an_answer_of_another_kind_is_one_sentence(server: FakeHttpServer, body: bytes) -> None:
    server.body = body
    with pytest.raises(HttpError, match=r"^http://127\.0\.0\.1:\d+/api/v1/query"):
        query(server)


def test_a_slow_place_is_given_up(server: FakeHttpServer) -> None:
    server.delay = 0.5
    server.answers(vector())
    with pytest.raises(HttpError, match=r"did not answer within 0\.05 s"):
        query(server, timeout=0.05)


def test_a_place_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(HttpError, match="cannot be reached"):
        send("http://127.0.0.1:1/hook/secret")


def test_too_large_an_answer_is_refused(server: FakeHttpServer) -> None:
    async def ask() -> None:
        async with PrometheusClient(server.url, max_body=10) as client:
            await client.query("up")

    server.answers(vector())
    with pytest.raises(HttpError, match="larger than 10 bytes"):
        asyncio.run(ask())


def test_a_password_in_the_address_stays_out_of_the_sentence() -> None:
    async def ask() -> None:
        async with PrometheusClient("http://me:hunter2@127.0.0.1:1") as client:
            await client.query("up")

    with pytest.raises(HttpError) as caught:
        asyncio.run(ask())
    assert "hunter2" not in str(caught.value)


def test_a_notification_is_sent_as_it_is_and_its_status_comes_back(server: FakeHttpServer) -> None:
    server.answers({"ok": True}, 201)
    assert send(f"{server.url}/hook/secret", b'{"text":"node2/3"}') == (201, b'{"ok": true}')
    assert server.asked == [("/hook/secret", '{"text":"node2/3"}')]


def test_an_address_that_does_not_answer_shows_its_host_and_not_its_secret_path() -> None:
    with pytest.raises(HttpError) as caught:
        send("http://me:pw@127.0.0.1:1/hook/secret?token=hunter2")
    assert "127.0.0.1:1 cannot be reached" in str(caught.value)
    assert not {"secret", "hunter2", "pw"} & set(str(caught.value).replace("/", " ").split())


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://127.0.0.1/", "http://[::1", "file:///etc"])
def test_an_address_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(HttpError, match="cannot be reached"):
        send(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://127.0.0.1:0", "http://a..b:1"])
def test_whatever_the_client_library_raises_for_an_address_is_one_sentence(url: str) -> None:
    async def ask() -> None:
        async with PrometheusClient(url) as client:
            await client.query("up")

    with pytest.raises(HttpError, match=f"^{url}/api/v1/query cannot be reached: "):
        asyncio.run(ask())
    with pytest.raises(HttpError, match="cannot be reached"):
        send(f"{url}/hook")


@pytest.mark.parametrize("header", ["s\xebcret", "s\u0663cret", "s\x00cret", "s\ncret"])
def test_a_header_that_cannot_be_sent_is_one_sentence_without_the_header(
    server: FakeHttpServer, header: str
) -> None:
    async def ask() -> None:
        async with Notifier() as notifier:
            await notifier.exchange("POST", server.url, headers={"X-Key": header})

    with pytest.raises(HttpError, match="cannot be reached") as caught:
        asyncio.run(ask())
    assert "cret" not in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_response_that_is_nested_too_deeply_is_one_sentence(server: FakeHttpServer) -> None:
    server.body = b'{"status":"success","data":{"resultType":"vector","result":' + b"[" * 100_000
    with pytest.raises(HttpError, match="unexpected body"):
        query(server)
