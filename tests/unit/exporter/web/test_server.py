"""Any bytes, at any speed, result in a one-sentence response or a closed connection, and the next
connection is not affected."""

from __future__ import annotations

import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
import trustme

from exporter.web import connection as wire
from exporter.web import server as serving

GET = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
Serve = Callable[..., Any]


def statuses(answer: bytes) -> list[int]:
    """The status of each of the responses."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /metrics HTTP/x\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\xff\xfe\x00 \x00 \x00\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 431),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 30, 400),
    ],
)  # fmt: skip
def test_what_is_no_request_is_answered_in_a_sentence(
    serve: Serve, sent: bytes, status: int
) -> None:
    served = serve()
    answer = served.say(sent)
    assert statuses(answer) == [status]
    assert answer.endswith(b".\n")
    assert b"Connection: close\r\n" in answer
    assert served.get() == 200


def test_what_is_no_request_is_answered_also_behind_one_that_wanted_no_body(serve: Serve) -> None:
    served = serve()
    answer = served.say(GET.replace(b"GET", b"HEAD") + b"nonsense\r\n\r\n")
    assert statuses(answer) == [200, 400]
    assert answer.endswith(b"Invalid HTTP/1.1 request.\n")


def test_random_bytes_break_nothing(serve: Serve) -> None:
    served, chance = serve(), random.Random(7)
    for _ in range(150):
        junk = chance.randbytes(chance.randrange(1, 300))
        cut = chance.randrange(len(GET))
        served.say(
            chance.choice((junk, GET[:cut] + junk + GET[cut:], GET + junk)) + b"\r\n\r\n\r\n"
        )
        if chance.random() < 0.2:
            served.connect().close()
    assert served.get() == 200


def test_requests_that_come_together_are_answered_in_their_order(serve: Serve) -> None:
    served = serve()
    sent = (
        GET
        + b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
        + b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    answer = served.say(sent * 20 + LAST + GET)
    assert statuses(answer) == [200, 404, 200] * 20 + [200]


def test_a_request_may_come_in_pieces(serve: Serve) -> None:
    served = serve()
    with served.connect() as connection:
        for byte in LAST:
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_body_is_dropped_and_the_next_request_is_read(serve: Serve) -> None:
    body = b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + b"GET " * 750
    chunks = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert statuses(serve().say(body + chunks + LAST)) == [405, 405, 200]


def test_who_asks_before_sending_a_body_is_answered_without_it(serve: Serve) -> None:
    sent = b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    assert statuses(serve().say(sent)) == [405]


def test_old_and_odd_forms_are_understood(serve: Serve) -> None:
    served = serve()
    assert statuses(served.say(b"GET /-/ready HTTP/1.0\r\n\r\n")) == [200]
    absolute = b"GET http://a:9410/-/ready?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(served.say(absolute)) == [200]
    with served.connect() as connection:  # half closed, as by `nc -N`
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_slow_head_is_told_so_and_an_idle_connection_just_ends(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.3)
    served = serve()
    assert statuses(served.say(GET[:20])) == [408]
    assert served.say(b"") == b"", "no response without a request"
    assert statuses(served.say(GET)) == [200]
    began = time.monotonic()
    with served.connect() as connection:  # single bytes do not extend the timeout
        with pytest.raises(OSError):  # noqa: PT012
            for byte in GET * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 3


def test_who_does_not_take_the_answer_loses_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, new_pages: Any
) -> None:
    monkeypatch.setattr(wire, "WRITE_SECONDS", 0.2)
    served = serve(pages=new_pages(b"x" * 20_000_000))
    with served.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert served.failed("slow", 1)
    assert served.get() == 200


def test_a_connection_without_a_whole_request_gives_its_place_to_one_that_asks(
    serve: Serve,
) -> None:
    served = serve(max_requests=3)
    waiting = [served.connect() for _ in range(30)]
    for number, connection in enumerate(waiting):
        connection.sendall((b"", GET, GET[:9])[number % 3])
    assert all(served.get() == 200 for _ in range(20))
    assert served.counters.failed["limit"] == 0


def test_when_every_place_waits_for_an_answer_the_next_one_is_told_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, go_on = threading.Semaphore(0), threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: [checking.release(), go_on.wait(5)][1])
    digest = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    served = serve(f"basic_auth_users: {{a: '{digest}'}}\n", max_requests=3)
    busy = [served.connect() for _ in range(3)]
    for connection in busy:
        connection.sendall(GET[:-2] + b"Authorization: Basic YTpyaWdodA==\r\n\r\n")
    assert checking.acquire(timeout=5)
    until = time.monotonic() + 5
    while any(place.waiting is not None for place in served.server._places):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert statuses(served.say(b"")) == [503]
    assert served.failed("limit", 1)
    assert "too_many_connections" in served.events()
    go_on.set()
    for connection in busy:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_wrong_logins_however_many_keep_nobody_out_who_logged_in_before(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    served = serve(f"basic_auth_users: {{a: '{digest}'}}\n", max_requests=8)
    assert served.get(Authorization="Basic YTpyaWdodA==") == 200
    go_on = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: not go_on.wait(5))
    try:
        flood = [served.connect() for _ in range(8)]
        for connection in flood:
            connection.sendall(GET[:-2] + b"Authorization: Basic YTp3cm9uZw==\r\n\r\n")
        until = time.monotonic() + 5
        while served.counters.requests.get(("429", "/-/healthy"), 0) < 4:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert served.get(Authorization="Basic YTpyaWdodA==") == 200
        assert served.counters.failed["limit"] == 0
        assert served.counters.logins_failed == 0, "no password was checked yet"
    finally:
        go_on.set()


def test_many_at_once_are_all_answered(serve: Serve) -> None:
    served = serve(max_requests=200)
    asking = [served.connect() for _ in range(150)]
    for connection in asking:
        connection.sendall(GET)
    assert all(each.recv(100).startswith(b"HTTP/1.1 200 ") for each in asking)
    for connection in asking:
        connection.close()


def test_requests_are_counted_by_few_labels_only(serve: Serve) -> None:
    served = serve()
    served.get("/metrics")
    for path in ("/a", "/b", "/-/release"):
        served.get(path)
    served.say(b"junk\r\n\r\n")
    assert served.counters.requests == {
        ("200", "/metrics"): 1, ("404", "other"): 2, ("405", "/-/release"): 1, ("400", "other"): 1,
    }  # fmt: skip


def test_a_mistake_of_ours_is_a_500_that_tells_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, new_pages: Any
) -> None:
    pages = new_pages()
    monkeypatch.setattr(pages, "page", lambda *_: 1 / 0)
    served = serve(pages=pages)
    status, _, body = served.ask("GET", "/metrics")
    assert (status, body) == (500, b"Internal error; see the exporter's log.\n")
    assert served.told[0][1]["why"].startswith("ZeroDivisionError")


PAIR = "cert_file: localhost.crt, key_file: localhost.key"
TLS = f"tls_server_config: {{{PAIR}}}\n"
Certified = Callable[[str], trustme.LeafCert]
Trusting = Callable[..., ssl.SSLContext]


def test_tls_keeps_to_its_lowest_version(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    served = serve(f"tls_server_config: {{{PAIR}, min_version: TLS13}}\n")
    assert served.get(tls=trusting()) == 200
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        served.get(tls=old)
    with pytest.raises(OSError):
        served.get()
    assert served.failed("tls", 2)
    [(event, fields)] = served.told
    assert (event, fields["peer"]) == ("tls_handshake_failed", "127.0.0.1")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("low", "version"), [("TLS10", "TLSv1"), ("TLS11", "TLSv1.1"), ("TLS12", "TLSv1.2")])  # fmt: skip
def test_old_versions_are_spoken_where_they_are_asked_for_by_name(
    serve: Serve, certified: Certified, trusting: Trusting, low: str, version: str
) -> None:
    certified("localhost")
    served = serve(f"tls_server_config: {{{PAIR}, min_version: {low}, max_version: {low}}}\n")
    client = trusting()
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.TLSv1
    with served.connect(client) as connection:
        assert connection.version() == version
        connection.sendall(GET)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_suite_is_chosen_by_the_server_or_by_the_client(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"  # fmt: skip
    client = trusting()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    for preferred, chosen in (("true", "AES256"), ("false", "AES128")):
        served = serve(
            f"tls_server_config: {{{PAIR}, {suites}, prefer_server_cipher_suites: {preferred}}}\n"
        )
        with served.connect(client) as connection:
            cipher = connection.cipher()
            assert cipher is not None
            assert chosen in cipher[0]
        served.stop()


def test_a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    served = serve(TLS)

    def serial() -> str:
        with served.connect(trusting()) as connection:
            return str((connection.getpeercert() or {})["serialNumber"])

    first = serial()
    with served.connect(trusting()) as kept:
        kept.sendall(GET)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")
        certified("localhost")
        second = serial()
        assert second != first
        kept.sendall(GET)
        assert kept.recv(1000) == b"", (
            "a connection with the old TLS settings is closed without a response"
        )
    (served.folder / "localhost.crt").write_text("junk")
    assert serial() == second
    assert served.counters.reloaded is False
    assert served.events() == ["web_config_reloaded", "web_config_kept"]


def test_tls_is_turned_on_without_a_restart_and_stays_on(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    served = serve("{}\n")
    assert served.get() == 200
    served.web.write_text(TLS)
    assert served.get(tls=trusting()) == 200
    with pytest.raises(OSError):
        served.get()
    served.web.write_text("{}\n")
    with pytest.raises(OSError):
        served.get()
    assert served.get(tls=trusting()) == 200


def test_a_client_needs_its_certificate_and_its_name(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    prometheus, other = certified("prometheus.example"), certified("other.example")
    address = certified("10.0.0.1")
    served = serve(
        f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt, "
        "client_auth_type: RequireAndVerifyClientCert, "
        "client_allowed_sans: [prometheus.example, 10.0.0.1]}\n"
    )
    assert served.get(tls=trusting(prometheus)) == 200
    assert served.get(tls=trusting(address)) == 200
    with pytest.raises(OSError):
        served.get(tls=trusting(other))
    assert served.failed("client_name", 1)
    with pytest.raises(OSError):
        served.get(tls=trusting())
    with pytest.raises(OSError):
        served.get(tls=trusting(trustme.CA().issue_cert("prometheus.example")))
    assert served.failed("tls", 2)
    served.stop()

    optional = serve(
        f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt, "
        "client_auth_type: VerifyClientCertIfGiven}\n"
    )
    assert optional.get(tls=trusting()) == 200
    assert optional.get(tls=trusting(other)) == 200
    with pytest.raises(OSError):
        optional.get(tls=trusting(trustme.CA().issue_cert("prometheus.example")))


def test_a_handshake_that_does_not_end_costs_one_place_for_a_while(
    serve: Serve, certified: Certified, trusting: Trusting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    certified("localhost")
    served = serve(TLS, max_requests=5)
    silent = [served.connect() for _ in range(4)]
    for connection in silent[:2]:
        connection.sendall(b"\x16\x03\x01\x02\x00")
    assert all(served.get(tls=trusting()) == 200 for _ in range(3))
    for connection in silent:
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass
    for junk in (b"\x16\x03\x01\xff\xff" + b"\0" * 300, GET, b"\0" * 5000, b"\x80\x2e\x01"):
        with served.connect() as connection:
            connection.sendall(junk)
    assert served.get(tls=trusting()) == 200


def test_many_clients_over_tls_are_served(
    serve: Serve, certified: Certified, trusting: Trusting
) -> None:
    certified("localhost")
    served, client = serve(TLS), trusting()
    with served.connect(client) as connection:
        for _ in range(20):
            connection.sendall(GET)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert all(served.get("/metrics", tls=client) == 200 for _ in range(20))
