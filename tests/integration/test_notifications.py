"""What people receive: real Alertmanagers send to a mail server and HTTP services on loopback, the
remediator sends for those that they cannot, and each message is the one on record.

UPDATE_GOLDEN=1 writes the record anew.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import queue
import re
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.alerting.render import RenderContext, parse_version, render
from fleetmedic.alerting.settings import read
from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries

pytestmark = pytest.mark.integration
GOLDEN = Path(__file__).with_name("golden") / "notifications"
CHANNELS = ("mail", "slack", "teams", "pager", "wecom", "ding", "feishu", "sms", "voice", "robot")
ANSWERS: dict[str, bytes] = {
    "/wecom/gettoken": b'{"errcode": 0, "access_token": "TOKEN", "expires_in": 7200}',
    "/wecom/message/send": b'{"errcode": 0, "errmsg": "ok"}',
    "/slack": b"ok",
    "/ding": b'{"errcode": 0}',
    "/feishu": b'{"code": 0}',
}
NOTIFICATIONS = """
channels:
  mail: {kind: email, to: [night@example.org, "GPU team <gpu@example.org>"], sender: alerts@example.org, smarthost: "127.0.0.1:%(smtp)d", require_tls: false}
  slack: {kind: slack, url_file: "%(dir)s/slack", slack_channel: "#gpus"}
  teams: {kind: teams, url_file: "%(dir)s/teams"}
  pager: {kind: pagerduty, routing_key_file: "%(dir)s/key", url: "http://127.0.0.1:%(http)d/pager"}
  wecom: {kind: wechat, corp_id: corp, agent_id: "7", secret_file: "%(dir)s/key", to_party: "2", url: "http://127.0.0.1:%(http)d/wecom/"}
  ding: {kind: http, url_file: "%(dir)s/ding", template: dingtalk, sign: dingtalk, secret_file: "%(dir)s/key", success: errcode=0}
  feishu: {kind: http, url_file: "%(dir)s/feishu", template: feishu, sign: feishu, secret_file: "%(dir)s/key", success: code=0}
  sms: {kind: http, url_file: "%(dir)s/sms", template: sms, headers_file: "%(dir)s/headers"}
  voice: {kind: http, url_file: "%(dir)s/voice", template: voice}
  robot: {kind: http, url_file: "%(dir)s/robot", template: wechat-robot}
teams:
- {name: ops, critical: [mail, slack, teams, pager, wecom, ding, feishu, sms, voice, robot], warning: [slack], info: [mail]}
"""
LABELS = {
    "severity": "critical", "category": "gpu", "source": "static", "cluster": "main", "node": "node1"
}  # fmt: skip
HOSTILE = (
    '<!channel> @all "q" \\ `x` *b* [a](http://evil) <script>alert(1)</script> {{ .X }}\nBcc: x@y'
)


def lost(gpu: int) -> dict[str, Any]:
    """An alert as the shipped rule GpuLost makes it."""
    return {
        "labels": {"alertname": "GpuLost", "gpu": str(gpu), "uuid": f"GPU-{gpu}", **LABELS},
        "annotations": {
            "summary": f"GPU {gpu} of node1 is lost.",
            "description": f"GPU {gpu} (GPU-{gpu}) of node1 is gone from the driver or the bus, and the node "
            "had it before. Whatever ran on it has failed.",
            "runbook_url": "http://127.0.0.1:9095/runbooks/GpuLost",
            "dashboard_url": "http://127.0.0.1:9095/d/fleetmedic-gpu?var-cluster=main&var-node=node1&"
            f"var-gpu={gpu}",
            "playbook": "gpu-lost",
        },
    }


CASES: dict[str, list[dict[str, Any]]] = {
    "one": [lost(3)],
    "many": [lost(gpu) for gpu in range(12)],
    "hostile": [
        {
            "labels": {**LABELS, "alertname": "Site", "node": HOSTILE, "job_id": HOSTILE},
            "annotations": {
                "summary": HOSTILE, "description": HOSTILE * 3, "runbook_url": "http://x/Site",
                "playbook": "notify-only",
            },
        }
    ],
}  # fmt: skip


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client without TLS and login needs."""

    def handle(self) -> None:
        self.say("220 here")
        text, envelope = b"", []
        while command := self.rfile.readline():
            word = command[:4].upper()
            if word == b"DATA":
                self.say("354 go on")
                while (line := self.rfile.readline()) != b".\r\n":
                    text += line[1:] if line.startswith(b"..") else line
                self.server.posts.put(("mail", {"envelope": envelope, "text": text}))  # type: ignore[attr-defined]
            if word in (b"MAIL", b"RCPT"):
                envelope.append(command.decode().split(":", 1)[1].split()[0])
            self.say("221 bye" if word == b"QUIT" else "250 fine")
            if word == b"QUIT":
                return

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


@dataclass
class Services:
    """Loopback mail server and HTTP services; what they get, by channel."""

    posts: queue.Queue[tuple[str, dict[str, Any]]] = field(default_factory=queue.Queue)
    servers: list[socketserver.BaseServer] = field(default_factory=list)
    http: int = 0
    smtp: int = 0

    def start(self) -> None:
        posts = self.posts

        class Http(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path, _, query = self.path.partition("?")
                if path != "/wecom/gettoken":
                    kept = {k: v for k, v in self.headers.items() if k in ("Content-Type", "X-Key")}
                    seen = {"query": query, "headers": kept, "body": json.loads(body)}
                    posts.put((path.split("/")[1], seen))
                self.answer(path)

            def do_GET(self) -> None:
                self.answer(self.path.partition("?")[0])

            def answer(self, path: str) -> None:
                body = ANSWERS.get(path, b"{}")
                self.send_response(202 if path == "/pager" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
        mail.posts = posts  # type: ignore[attr-defined]
        mail.daemon_threads = True
        web = ThreadingHTTPServer(("127.0.0.1", 0), Http)
        self.servers, self.http, self.smtp = [mail, web], web.server_port, mail.server_address[1]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def gather(self, wanted: set[str], seconds: float) -> dict[str, dict[str, Any]]:
        """The first message of each channel, until all have one or the time is over."""
        found: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + seconds
        while wanted - set(found) and (left := deadline - time.monotonic()) > 0:
            try:
                channel, seen = self.posts.get(timeout=left)
            except queue.Empty:
                break
            found.setdefault(channel, seen)
        return found


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    found = Services()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def folder(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Secrets and addresses as files, and notifications.yml."""
    made = tmp_path_factory.mktemp("notifications")
    for name in ("slack", "teams", "ding", "feishu", "sms", "voice", "robot"):
        (made / name).write_text(f"http://127.0.0.1:{services.http}/{name}?token=SECRET\n")
    (made / "key").write_text("a-secret-key\n")
    (made / "headers").write_text("X-Key: another-secret\n")
    (made / "token").write_text("a-token-of-the-remediator\n")
    (made / "token").chmod(0o600)
    values = {"smtp": services.smtp, "http": services.http, "dir": made}
    (made / "notifications.yml").write_text(NOTIFICATIONS % values)
    return made


def _started(command: list[str], ready: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(ready, timeout=1):
                return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def remediator(folder: Path, new_port: Callable[[], int]) -> Iterator[str]:
    """A real remediator that knows the same channels."""
    address = f"127.0.0.1:{new_port()}"
    (folder / "remediator.yml").write_text(
        json.dumps(
            {
                "webhook_token_file": str(folder / "token"),
                "without_alertmanager": True,
                "cluster": {"name": "main", "adapter": "memory"},
                "notify": {"file": str(folder / "notifications.yml")},
            }
        )
    )
    process = _started(
        [
            sys.executable, "-m", "fleetmedic.cli", "remediator", "serve", f"--config={folder}/remediator.yml",
            f"--data-dir={folder}/data", f"--web.listen-address={address}",
        ],
        f"http://{address}/-/ready", folder / "remediator.log",
    )  # fmt: skip
    yield f"http://{address}"
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module", params=["alertmanager", "alertmanager-0.33"])
def alertmanager(
    request: pytest.FixtureRequest, parts: dict[str, Path], folder: Path, remediator: str,
    new_port: Callable[[], int],
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """An Alertmanager with the rendered configuration, and its version as the record names it."""
    program = parts[request.param]
    version = binaries.version(program).rpartition(" ")[2]
    place = RenderContext(
        remediator, str(folder / "token"), str(share("alertmanager") / "templates"),
        parse_version(version),
    )  # fmt: skip
    text = render(place, read(folder / "notifications.yml"))
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
    text = re.sub(r"group_interval: \w+", "group_interval: 1s", text)
    assert "SECRET" not in text
    assert "a-secret-key" not in text
    config = folder / f"{request.param}.yml"
    config.write_text(text)
    address = f"127.0.0.1:{new_port()}"
    process = _started(
        [
            *binaries.command(request.param), f"--config.file={config}",
            f"--storage.path={folder}/{request.param}-data", f"--web.listen-address={address}",
            "--cluster.listen-address=", "--web.external-url=http://alertmanager.example:9093",
        ],
        f"http://{address}/-/ready", folder / f"{request.param}.log",
    )  # fmt: skip
    yield f"http://{address}", ".".join(version.split(".")[:2])
    process.terminate()
    process.wait(20)


def _post(url: str, alerts: list[dict[str, Any]]) -> None:
    request = urllib.request.Request(
        f"{url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def _mail(seen: dict[str, Any]) -> dict[str, Any]:
    """A mail without what differs each time: its date, its identity, its boundaries."""
    read_mail = email.message_from_bytes(seen["text"], policy=email.policy.default)
    kept = {k: str(v) for k, v in read_mail.items() if k in ("From", "To", "Subject", "Bcc", "Cc")}
    parts = {
        part.get_content_type(): part.get_content().replace("\r\n", "\n").splitlines()
        for part in read_mail.walk()
        if not part.is_multipart()
    }
    return {"envelope": seen["envelope"], "headers": kept, "parts": parts}


def _settled(channel: str, seen: dict[str, Any], port: int) -> str:
    """The message as it is on record: readable, and without what differs each time."""
    plain = _mail(seen) if channel == "mail" else seen
    text = json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"(?<=timestamp=)\d{13}", "NOW", text)
    text = re.sub(r"(?<=&sign=)[^\"&]+", "SIGNATURE", text)
    text = re.sub(r'("timestamp": ")\d{10}"', r'\1NOW"', text)
    text = re.sub(r'("sign": ")[^"]+"', r'\1SIGNATURE"', text)
    text = re.sub(r'("dedup_key": ")[0-9a-f]{64}"', r'\1KEY"', text)
    text = re.sub(r'("ts": )\d+', r"\1NOW", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", text)
    return text.replace(f"127.0.0.1:{port}", "SERVICES") + "\n"


@pytest.mark.parametrize("case", CASES)
def test_each_channel_gets_the_message_on_record_when_it_begins_and_when_it_ends(
    alertmanager: tuple[str, str], services: Services, case: str
) -> None:
    url, version = alertmanager
    wanted = set(CHANNELS)
    # an alert that began long ago is not waited for: a group would be told before it is whole
    began = datetime.now(UTC).isoformat()
    for status in ("firing", "resolved"):
        times = {"startsAt": began}
        if status == "resolved":
            times["endsAt"] = datetime.now(UTC).isoformat()
        _post(url, [alert | times for alert in CASES[case]])
        seen = services.gather(wanted, 15)
        assert set(seen) == wanted, f"{status}: nothing came by {wanted - set(seen)}"
        for channel in CHANNELS:
            text = _settled(channel, seen[channel], services.http)
            _compare(GOLDEN / f"{channel}-{case}-{status}.json", version, text)


def _compare(path: Path, version: str, text: str) -> None:
    """With the record of this version where it differs from the others'."""
    own = path.with_name(f"{path.stem}@{version}.json")
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        if version == "0.25" or not path.is_file():
            path.write_text(text)
        elif path.read_text() != text:
            own.write_text(text)
    assert text == (own if own.is_file() else path).read_text(), path.name


def test_no_message_lets_a_label_call_everybody_or_make_a_header(folder: Path) -> None:
    """The record of hostile labels, looked at for what each channel would act upon."""
    hostile = {path.name: path.read_text() for path in GOLDEN.glob("*-hostile-*.json")}
    assert len(hostile) >= 2 * len(CHANNELS)
    for name, text in hostile.items():
        if name.startswith("slack"):
            assert "<!channel>" not in text, name
        if name.startswith(("ding", "robot")):
            assert "@all" not in text, name
            assert "](http://evil)" not in text, name
        if name.startswith("mail"):
            kept = json.loads(text)
            assert "Bcc" not in kept["headers"], name
            assert "<script>" not in "\n".join(kept["parts"]["text/html"]), name
