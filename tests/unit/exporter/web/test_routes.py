"""The response of each path, its authentication, and the permission to release GPUs."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest

from exporter.pages.collector_runner import CollectorState
from exporter.pages.openmetrics import ExpositionFormat
from exporter.web.access_control import RequestTokenBucket
from exporter.web.landing import landing
from exporter.web.routes import release_seconds, selected_collectors
from fleetmedic.kernel.errors import UserError

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users: {{prometheus: '{HASH}'}}\n"
TOKEN = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RELEASE = "/-/release?ttl=30s"
Serve = Callable[..., Any]


def login(user: str, password: str | bytes) -> dict[str, str]:
    raw = user.encode() + b":" + (password.encode() if isinstance(password, str) else password)
    return {"Authorization": "Basic " + base64.b64encode(raw).decode()}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/metrics", 200),
        ("GET", "/metrics?x=1", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/api/v1/health", 200),
        ("GET", "/metrics/dcgm", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/metrics/", 404),
        ("GET", "//metrics", 404),
        ("POST", "/metrics", 405),
        ("OPTIONS", "/", 405),
        ("DELETE", "/-/ready", 405),
        ("GET", RELEASE, 405),
        ("HEAD", RELEASE, 405),
    ],
)
def test_a_path_has_its_status(serve: Serve, method: str, path: str, status: int) -> None:
    found, headers, body = serve().ask(method, path)
    assert found == status
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("frame-ancestors 'none'")
    assert ("style-src" in policy) is (found == 200 and path == "/"), "the only page with a style"
    assert headers["Date"].endswith(" GMT")
    if method == "HEAD":
        assert body == b""
        assert int(headers["Content-Length"]) > 0
    elif status >= 400:
        assert body.count(b".") == 1
        assert body.endswith(b".\n")
    if status == 405:
        assert headers["Allow"] == ("POST" if path == RELEASE else "GET, HEAD")


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)  # fmt: skip
def test_the_form_and_gzip_are_what_was_asked_for(
    serve: Serve, accepts: str, packed: bool, new_pages: Any
) -> None:
    served = serve()
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    _, headers, body = served.ask("GET", "/metrics", Accept_Encoding=accepts, Accept=accept)
    assert headers["Content-Type"] == ExpositionFormat.OPENMETRICS
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert (headers.get("Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(body) if packed else body) == new_pages().shown
    assert served.pages.asked == [(None, ExpositionFormat.OPENMETRICS, packed)]


def test_without_a_page_it_is_alive_and_not_ready(serve: Serve, new_pages: Any) -> None:
    served = serve(pages=new_pages(None), dcgm=True)
    assert served.get("/-/healthy") == 200
    assert served.get("/") == 200
    assert served.get("/api/v1/health") == 200
    for path in ("/-/ready", "/metrics", "/metrics/dcgm"):
        assert served.get(path) == 503


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", None),
        ("other=1", None),
        ("collect[]=xid", {"xid"}),
        ("collect%5B%5D=xid&collect[]=gpu_load", {"xid", "gpu_load"}),
        ("exclude[]=xid", {"gpu_load"}),
    ],
)
def test_collectors_are_chosen(query: str, wanted: set[str] | None) -> None:
    assert selected_collectors(query, ("gpu_load", "xid")) == wanted


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("collect[]=cpu", "Unknown collector 'cpu'; enabled collectors: gpu_load, xid."),
        ("exclude[]=cpu", "Unknown collector 'cpu'; enabled collectors: gpu_load, xid."),
        ("collect[]=", "Unknown collector ''"),
        ("collect[]=%ff%00", "Unknown collector '\ufffd\\x00'"),
        ("collect[]=xid&exclude[]=gpu_load", "cannot be combined"),
        ("collect[]=xid&" * 300, "too many fields"),
    ],
)
def test_an_unknown_collector_is_a_400_that_lists_the_known_ones(
    serve: Serve, query: str, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        selected_collectors(query, ("gpu_load", "xid"))
    assert sentence in str(caught.value)
    status, _, body = serve().ask("GET", f"/metrics?{query}")
    assert status == 400
    assert sentence in body.decode()


def test_the_landing_page_escapes_what_it_shows(serve: Serve) -> None:
    _, headers, body = serve(summaries={"gpu_load": "load <now>"}).ask("GET", "/")
    page = body.decode()
    assert headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "&lt;b&gt;no&lt;/b&gt; log" in page
    assert "load &lt;now&gt;" in page
    assert "version 1.2.3 on node1" in page
    assert 'href="/api/v1/health"' in page
    assert "http" not in page.replace("https", "http"), "the page loads no external resources"
    assert landing("a", {"/x?a&b": "<>"}, [], {}).count(b"&lt;&gt;") == 1


def test_the_landing_page_has_no_control_character_of_an_error() -> None:
    state = CollectorState("gpu_load", "lost\x00\x1b[2J", 1.0, 0.0)
    page = landing("a", {}, [state], {}).decode()
    assert "lost  [2J" in page
    assert not [one for one in page if not one.isprintable() and one != "\n"]


def test_the_path_of_the_metrics_can_be_another(serve: Serve) -> None:
    served = serve(metrics_path="/probe")
    assert served.get("/probe") == 200
    assert served.get("/metrics") == 404
    assert b"the metrics are at /probe." in served.ask("GET", "/metrics")[2]


def test_headers_of_the_configuration_are_in_every_response(serve: Serve) -> None:
    headers = "X-Frame-Options: deny, Content-Security-Policy: default-src 'self'"
    served = serve(f"http_server_config: {{headers: {{{headers}, X-XSS-Protection: ''}}}}\n")
    for path in ("/", "/metrics", "/nothing"):
        _, found, _ = served.ask("GET", path)
        assert found["X-Frame-Options"] == "deny"
        assert found["Content-Security-Policy"] == "default-src 'self'"
        assert "X-XSS-Protection" not in found
    assert b"X-Frame-Options: deny\r\n" in served.say(b"junk\r\n\r\n")


def test_a_login_is_asked_for_everywhere_and_never_says_what_was_wrong(serve: Serve) -> None:
    served = serve(USERS)
    wrong = [
        {}, login("prometheus", "wrong"), login("nobody", "right"), login("", ""),
        login("prometheus", "r" * 73), login("prometheus", "r" * 5000), login("prometheus", "right\0"),
        {"Authorization": "Bearer right"}, {"Authorization": "Basic !"}, {"Authorization": "Basic " + "A" * 9000},
    ]  # fmt: skip
    answers = [served.ask("GET", "/metrics", **headers) for headers in wrong]
    for _, headers, _ in answers:
        del headers["Date"]
    assert all(answer == answers[0] for answer in answers)
    status, headers, body = answers[0]
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic realm=")
    assert b"right" not in body
    for path in ("/", "/-/healthy", "/-/ready", "/api/v1/health", "/nothing"):
        assert served.get(path) == 401
    assert served.counters.logins_failed == len(wrong) + 5
    assert served.get("/metrics", **login("prometheus", "right")) == 200
    assert served.events() == ["login_failed"], "the event is rate-limited in the log"
    assert "wrong" not in str(served.told)


def test_a_right_login_is_checked_once_and_a_wrong_one_each_time(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda p, h: [checked.append(p), real(p, h)][1])
    served = serve(USERS)
    for _ in range(5):
        assert served.get("/metrics", **login("prometheus", "right")) == 200
    assert checked == [b"right"]
    for _ in range(3):
        assert served.get("/metrics", **login("prometheus", "wrong")) == 401
    assert served.get("/metrics") == 401
    assert checked == [b"right"] + [b"wrong"] * 3


def test_users_change_without_a_restart(serve: Serve) -> None:
    served = serve(USERS)
    right = login("prometheus", "right")
    assert served.get(**right) == 200
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    served.web.write_text(f"basic_auth_users: {{prometheus: '{other}'}}\n")
    assert served.get(**right) == 401
    assert served.get(**login("prometheus", "other")) == 200
    served.web.write_text("basic_auth_users: {prometheus: plain}\n")
    assert served.get(**login("prometheus", "other")) == 200
    assert served.counters.reloaded is False
    served.web.write_text("")
    assert served.get() == 401, "an empty file must not disable authentication"
    served.web.unlink()
    assert served.get() == 401


def test_the_limit_of_requests_is_kept_and_can_be_changed(serve: Serve) -> None:
    served = serve("rate_limit: {interval: 1h, burst: 3}\n")
    assert [served.get() for _ in range(5)] == [200, 200, 200, 429, 429]
    served.web.write_text("rate_limit: {interval: 0, burst: 3}\n")
    assert [served.get() for _ in range(5)] == [200] * 5
    bucket = RequestTokenBucket(10.0, 2, 100.0)
    assert [bucket.take(at) for at in (100, 100, 100, 109, 110, 110, 1000, 1000, 1000)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip


def test_gpus_are_released_to_nobody_where_nobody_can_log_in(serve: Serve, new_reader: Any) -> None:
    served = serve(reader=new_reader())
    status, _, body = served.ask("POST", RELEASE, **BEARER)
    assert status == 403
    assert b"--web.release-token-file" in body
    assert served.reader.released_for == 0


def test_gpus_are_released_for_the_token(serve: Serve, new_reader: Any) -> None:
    served = serve(reader=new_reader(), token=TOKEN)
    for headers in ({}, {"Authorization": "Bearer wrong"}, login("a", TOKEN)):
        status, found, _ = served.ask("POST", RELEASE, **headers)
        assert (status, found["WWW-Authenticate"].split()[0]) == (401, "Bearer")
    assert served.reader.released_for == 0
    assert served.counters.logins_failed == 3
    status, _, body = served.ask("POST", RELEASE, **BEARER)
    assert (status, json.loads(body)) == (200, {"released_seconds": 30.0, "done": True})
    assert served.reader.released_for == 30
    assert json.loads(served.ask("GET", "/api/v1/health")[2])["released_seconds"] == 30
    assert served.ask("POST", "/-/release?ttl=0", **BEARER)[0] == 200
    assert served.reader.released_for == 0
    (served.folder / "token").unlink()
    assert served.ask("POST", RELEASE, **BEARER)[0] == 401
    assert "release_token_unreadable" in served.events()


def test_gpus_are_released_for_a_user_or_for_the_token(serve: Serve, new_reader: Any) -> None:
    served = serve(USERS, reader=new_reader(), token=TOKEN)
    assert served.ask("POST", RELEASE, **BEARER)[0] == 200
    assert served.ask("POST", RELEASE, **login("prometheus", "right"))[0] == 200
    assert served.ask("POST", RELEASE, **login("prometheus", "wrong"))[0] == 401
    assert served.ask("GET", "/metrics", **BEARER)[0] == 401, (
        "the token is only valid for releasing GPUs"
    )


def test_a_page_in_a_browser_cannot_release_gpus(serve: Serve, new_reader: Any) -> None:
    served = serve(USERS, reader=new_reader())
    headers = login("prometheus", "right") | {"Origin": "http://elsewhere"}
    assert served.ask("POST", RELEASE, **headers)[0] == 403
    assert served.reader.released_for == 0


def test_a_release_that_is_not_done_yet_says_so(serve: Serve, new_reader: Any) -> None:
    served = serve(reader=new_reader(obeys=False), token=TOKEN)
    status, _, body = served.ask("POST", RELEASE, **BEARER)
    assert (status, json.loads(body)["done"]) == (202, False)
    nothing = serve(token=TOKEN)
    assert nothing.ask("POST", RELEASE, **BEARER)[0] == 409


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "?ttl=30s"), ("ttl=", "expected a duration"), ("ttl=soon", "expected a duration"), ("ttl=-5s", "expected a duration"),
        ("ttl=30", "expected a duration"), ("ttl=2h", "one hour"), ("ttl=1s&x=1", "the only parameter"), ("time=1s", "?ttl=30s"),
        ("&".join(["ttl=1s"] * 50), "?ttl=30s"),
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_is_a_400(
    serve: Serve, new_reader: Any, query: str, sentence: str
) -> None:
    with pytest.raises(UserError):
        release_seconds(query)
    served = serve(reader=new_reader(), token=TOKEN)
    status, _, body = served.ask("POST", f"/-/release?{query}", **BEARER)
    assert status == 400
    assert sentence in body.decode()
    assert served.reader.released_for == 0
