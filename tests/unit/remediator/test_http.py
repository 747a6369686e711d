"""What Prometheus, Alertmanager and a notification address answer, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from remediator.core.model import Alert
from remediator.http import (
    AlertmanagerClient,
    HttpError,
    Notifier,
    PrometheusClient,
    Sample,
)


class Place(ThreadingHTTPServer):
    """A server on loopback that answers what it was told, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status = 200
        self.body: bytes | dict[str, bytes] = b"{}"
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []

    def answers(self, value: object, status: int = 200) -> None:
        self.status, self.body = status, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Place

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length).decode()
        self.server.asked.append((self.path, sent))
        body = self.server.body
        if isinstance(body, dict):
            body = body[parse_qs(sent)["query"][0]]
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def vector(*series: tuple[dict[str, str], float, str]) -> dict[str, object]:
    result = [{"metric": labels, "value": [at, value]} for labels, at, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def query(place: Place, expr: str = "up", timeout: float = 2.0) -> list[Sample]:
    async def ask() -> list[Sample]:
        async with PrometheusClient(place.url, timeout=timeout) as client:
            return await client.query(expr)

    return asyncio.run(ask())


def active(place: Place) -> tuple[Alert, ...]:
    async def ask() -> tuple[Alert, ...]:
        async with AlertmanagerClient(place.url + "/") as client:
            return await client.active()

    return asyncio.run(ask())


def send(url: str, body: object) -> None:
    async def ask() -> None:
        async with Notifier() as notifier:
            await notifier.send(url, body)

    asyncio.run(ask())


def test_a_vector_becomes_samples(place: Place) -> None:
    place.answers(vector(({"__name__": "up", "node": "node1"}, 1700000000.5, "1")))
    assert query(place) == [Sample({"__name__": "up", "node": "node1"}, 1.0, 1700000000.5)]


def test_a_scalar_becomes_one_sample_without_labels(place: Place) -> None:
    place.answers(
        {"status": "success", "data": {"resultType": "scalar", "result": [1700000000, "+Inf"]}}
    )
    assert query(place) == [Sample({}, float("inf"), 1700000000.0)]


def test_no_series_is_an_empty_list(place: Place) -> None:
    place.answers(vector())
    assert query(place) == []


def test_the_expression_is_sent_as_it_is(place: Place) -> None:
    place.answers(vector())
    query(place, 'a{b="c&d"} + 1')
    assert parse_qs(place.asked[0][1])["query"] == ['a{b="c&d"} + 1']


def test_samples_carry_the_time_of_their_own_scrape(place: Place) -> None:
    one, two = {"node": "node1"}, {"node": "node2"}
    place.body = {
        "gpu_lost": json.dumps(
            vector(
                ({"__name__": "gpu_lost", **one}, 100.0, "1"),
                ({"__name__": "gpu_lost", **two}, 100.0, "0"),
            )
        ).encode(),
        "timestamp(gpu_lost)": json.dumps(vector((one, 100.0, "42.5"))).encode(),
    }

    async def ask() -> list[Sample]:
        async with PrometheusClient(place.url) as client:
            return await client.samples("gpu_lost")

    assert asyncio.run(ask()) == [Sample({"__name__": "gpu_lost", **one}, 1.0, 42.5)]
    assert len({parse_qs(sent)["time"][0] for _, sent in place.asked}) == 1


def test_a_refused_query_says_what_prometheus_said(place: Place) -> None:
    place.answers(
        {"status": "error", "errorType": "bad_data", "error": 'parse error: unexpected "}"'}, 400
    )
    with pytest.raises(HttpError, match="refused the query: parse error"):
        query(place)


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
def test_an_answer_of_another_kind_is_one_sentence(place: Place, body: bytes) -> None:
    place.body = body
    with pytest.raises(HttpError, match=r"^http://127\.0\.0\.1:\d+/api/v1/query"):
        query(place)


def test_a_slow_place_is_given_up(place: Place) -> None:
    place.delay = 0.5
    place.answers(vector())
    with pytest.raises(HttpError, match=r"did not answer within 0\.05 s"):
        query(place, timeout=0.05)


def test_a_place_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(HttpError, match="cannot be reached"):
        send("http://127.0.0.1:1/hook/secret", {})


def test_too_large_an_answer_is_refused(place: Place) -> None:
    async def ask() -> None:
        async with PrometheusClient(place.url, max_body=10) as client:
            await client.query("up")

    place.answers(vector())
    with pytest.raises(HttpError, match="more than 10 bytes"):
        asyncio.run(ask())


def test_a_password_in_the_address_stays_out_of_the_sentence() -> None:
    async def ask() -> None:
        async with PrometheusClient("http://me:hunter2@127.0.0.1:1") as client:
            await client.query("up")

    with pytest.raises(HttpError) as caught:
        asyncio.run(ask())
    assert "hunter2" not in str(caught.value)


def test_active_alerts_are_read_and_unknown_fields_ignored(place: Place) -> None:
    place.answers(
        [
            {
                "labels": {"alertname": "GpuLost", "node": "node2", "gpu": "3"},
                "annotations": {"summary": "gone"},
                "startsAt": "2026-11-22T10:00:00.123Z",
                "endsAt": "2026-11-22T10:05:00.123Z",
                "updatedAt": "2026-11-22T10:00:01.000Z",
                "fingerprint": "a1b2",
                "receivers": [{"name": "remediator"}],
                "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
                "newFieldOfTomorrow": 1,
            }
        ]
    )
    assert active(place) == (
        Alert(
            fingerprint="a1b2",
            starts_at=1795341600.123,
            starts_text="2026-11-22T10:00:00.123Z",
            firing=True,
            labels={"alertname": "GpuLost", "node": "node2", "gpu": "3"},
        ),
    )
    assert place.asked[0][0].startswith("/api/v2/alerts?active=true&silenced=false")


@pytest.mark.parametrize(
    "alert",
    [
        {"labels": {}, "fingerprint": "a"},
        {"labels": {}, "fingerprint": "a", "startsAt": "yesterday"},
        {"labels": {}, "fingerprint": "a", "startsAt": "2026-11-22T10:00:00"},
        {"labels": {"a": 1}, "fingerprint": "a", "startsAt": "2026-11-22T10:00:00Z"},
    ],
)
def test_one_unreadable_alert_fails_the_answer(place: Place, alert: dict[str, object]) -> None:
    good = {"labels": {}, "fingerprint": "b", "startsAt": "2026-11-22T10:00:00Z"}
    place.answers([good, alert])
    with pytest.raises(HttpError, match=r"something else|where a time belongs"):
        active(place)


def test_alertmanager_in_trouble_is_not_an_empty_list(place: Place) -> None:
    place.answers([], 503)
    with pytest.raises(HttpError, match="answered 503"):
        active(place)


def test_a_notification_is_posted_as_json(place: Place) -> None:
    send(f"{place.url}/hook/secret", {"text": "node2/3 is quarantined"})
    assert place.asked == [("/hook/secret", '{"text":"node2/3 is quarantined"}')]


def test_a_refused_notification_does_not_tell_its_secret_path(place: Place) -> None:
    place.answers({}, 403)
    with pytest.raises(HttpError, match="answered 403") as caught:
        send(f"{place.url}/hook/secret?token=hunter2", {})
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://127.0.0.1/", "http://[::1", "file:///etc"])
def test_an_address_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(HttpError, match="cannot be reached"):
        send(url, {})
