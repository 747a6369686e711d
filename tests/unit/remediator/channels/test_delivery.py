"""Delivery over real HTTP on loopback: what is sent, what the sender is told, and what is never said."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.alerting.settings import Http, Notifications, Slack, Teams, WeChat
from fleetmedic.kernel.errors import UserError
from remediator.channels.delivery import NotDelivered, open_channels
from remediator.channels.message import read
from remediator.http import Notifier
from tests.unit.remediator.channels.test_message import body

GROUP = read(body({"alertname": "GpuLost", "node": "n1"}, summary="It is lost."))


@dataclass
class Service:
    """Answers `answers` by path (status, body), and keeps what it was sent."""

    port: int = 0
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path.partition("?")[0] for path, _, _ in self.seen]


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.seen.append((self.path, dict(self.headers), sent))
            status, said = found.answers.get(self.path.partition("?")[0], (200, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET
        do_PUT = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def _file(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def _deliver(channel: Any, times: int = 1) -> None:
    async def run() -> None:
        async with Notifier() as sender:
            delivery = open_channels(Notifications(channels={"it": channel}), sender)
            for _ in range(times):
                await delivery.deliver("it", GROUP)

    asyncio.run(run())


def _http(tmp_path: Path, service: Service, **fields: Any) -> Http:
    url = _file(tmp_path / "url", f"http://127.0.0.1:{service.port}/it?token=TOPSECRET\n")
    return Http(url_file=url, **({"template": "sms"} | fields))


def test_a_message_is_posted_as_json_with_the_headers_of_the_file(
    tmp_path: Path, service: Service
) -> None:
    headers = _file(tmp_path / "headers", "Authorization: Bearer x\nX-Team: gpu\n")
    _deliver(_http(tmp_path, service, headers_file=headers))
    ((path, sent, text),) = service.seen
    assert path == "/it?token=TOPSECRET"
    assert (sent["Authorization"], sent["X-Team"]) == ("Bearer x", "gpu")
    assert json.loads(text) == {"text": "[FIRING 1] GpuLost on n1 It is lost."}


def test_a_template_of_ones_own_and_another_type_are_sent_as_they_are(
    tmp_path: Path, service: Service
) -> None:
    template = _file(tmp_path / "t.j2", "to=42&text={{ title | urlencode }}")
    _deliver(
        _http(
            tmp_path,
            service,
            template=template,
            method="PUT",
            content_type="application/x-www-form-urlencoded",
        )
    )
    assert service.seen[0][2] == b"to=42&text=%5BFIRING%201%5D%20GpuLost%20on%20n1"


@pytest.mark.parametrize(
    ("status", "again"),
    [(500, True), (503, True), (429, True), (408, True), (400, False), (404, False)],
)
def test_who_asked_is_told_whether_another_try_can_help(
    tmp_path: Path, service: Service, status: int, again: bool
) -> None:
    service.answers["/it"] = (status, b"no")
    with pytest.raises(NotDelivered) as error:
        _deliver(_http(tmp_path, service))
    assert error.value.again is again
    assert "TOPSECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b'{"errcode": 310000, "errmsg": "sign"}', "errcode=310000, expected 0"),
        (b"<html>", "invalid JSON"),
        (b"[]", "invalid JSON"),
        (b'{"errcode": ' + b"[" * 100_000, "invalid JSON"),
    ],
)
def test_a_service_that_says_no_with_a_200_did_not_take_it(
    tmp_path: Path, service: Service, said: bytes, text: str
) -> None:
    service.answers["/it"] = (200, said)
    with pytest.raises(NotDelivered, match=text):
        _deliver(_http(tmp_path, service, success="errcode=0"))


def test_a_service_that_is_not_there_is_worth_another_try_and_its_secret_is_not_said(
    tmp_path: Path,
) -> None:
    url = _file(tmp_path / "url", "http://127.0.0.1:9/x?token=TOPSECRET")
    with pytest.raises(NotDelivered, match="cannot be reached") as error:
        _deliver(Http(url_file=url, template="sms"))
    assert error.value.again
    assert "TOPSECRET" not in str(error.value)


@pytest.mark.parametrize("text", ["", "   \n"])
def test_an_empty_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotDelivered, match="url is empty"):
        _deliver(Http(url_file=_file(tmp_path / "url", text), template="sms"))


@pytest.mark.parametrize("url", ["TOPSECRET", "http://h:99999/TOPSECRET", "http://[::1/TOPSECRET"])
@pytest.mark.parametrize("sign", ["", "dingtalk"])
def test_a_file_without_a_valid_url_is_named_and_its_content_is_not_said(
    tmp_path: Path, url: str, sign: str
) -> None:
    path = _file(tmp_path / "url", url)
    secret = _file(tmp_path / "secret", "s") if sign else None
    for channel in (
        Teams(url_file=path),
        Http(url_file=path, template="sms", sign=sign, secret_file=secret),
    ):
        with pytest.raises(NotDelivered, match=f"^{path}: expected a URL") as error:
            _deliver(channel)
        assert error.value.again
        assert "TOPSECRET" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered, match=r"nowhere cannot be read: No such file"):
        _deliver(Teams(url_file=str(tmp_path / "nowhere")))


def test_a_header_file_that_is_none_is_named(tmp_path: Path, service: Service) -> None:
    with pytest.raises(NotDelivered, match="NAME: VALUE"):
        _deliver(_http(tmp_path, service, headers_file=_file(tmp_path / "h", "Bearer")))
    assert service.seen == []


def test_a_template_that_makes_no_json_sends_nothing(tmp_path: Path, service: Service) -> None:
    with pytest.raises(NotDelivered, match="produced invalid JSON"):
        _deliver(_http(tmp_path, service, template=_file(tmp_path / "t.j2", "{{ title }}")))
    assert service.seen == []


def test_a_new_address_needs_no_restart(tmp_path: Path, service: Service) -> None:
    async def run() -> None:
        channel = _http(tmp_path, service)
        async with Notifier() as sender:
            delivery = open_channels(Notifications(channels={"it": channel}), sender)
            await delivery.deliver("it", GROUP)
            Path(channel.url_file).write_text(f"http://127.0.0.1:{service.port}/other")
            await delivery.deliver("it", GROUP)

    asyncio.run(run())
    assert service.paths() == ["/it", "/other"]


def _wechat(tmp_path: Path, service: Service) -> WeChat:
    secret = _file(tmp_path / "secret", "TOPSECRET")
    return WeChat(
        corp_id="c",
        agent_id="7",
        secret_file=secret,
        to_party="2",
        url=f"http://127.0.0.1:{service.port}/",
    )


def test_wechats_token_is_asked_for_once_and_used_while_it_lasts(
    tmp_path: Path, service: Service
) -> None:
    service.answers["/gettoken"] = (200, b'{"errcode": 0, "access_token": "T", "expires_in": 7200}')
    service.answers["/message/send"] = (200, b'{"errcode": 0}')
    _deliver(_wechat(tmp_path, service), times=3)
    assert service.paths() == ["/gettoken", *["/message/send"] * 3]
    said = json.loads(service.seen[-1][2])
    assert (said["toparty"], said["agentid"], said["msgtype"]) == ("2", "7", "text")


def test_a_token_that_wechat_took_back_is_asked_for_anew(tmp_path: Path, service: Service) -> None:
    service.answers["/gettoken"] = (200, b'{"errcode": 0, "access_token": "T", "expires_in": 7200}')
    service.answers["/message/send"] = (200, b'{"errcode": 42001}')
    channel = _wechat(tmp_path, service)

    async def run() -> None:
        async with Notifier() as sender:
            delivery = open_channels(Notifications(channels={"it": channel}), sender)
            for _ in range(2):
                with pytest.raises(NotDelivered, match="errcode=42001"):
                    await delivery.deliver("it", GROUP)

    asyncio.run(run())
    assert service.paths() == ["/gettoken", "/message/send"] * 2


def test_channels_that_alertmanager_sends_by_are_not_ours() -> None:
    async def run() -> bool:
        async with Notifier() as sender:
            return open_channels(Notifications(channels={"s": Slack(url_file="/x")}), sender).has(
                "s"
            )

    assert asyncio.run(run()) is False


def test_a_template_that_is_not_there_is_refused_at_the_start() -> None:
    async def run() -> None:
        async with Notifier() as sender:
            open_channels(
                Notifications(channels={"x": Http(url_file="/x", template="smoke")}), sender
            )

    with pytest.raises(UserError, match="one of dingtalk, feishu"):
        asyncio.run(run())
