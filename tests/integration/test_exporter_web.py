"""The exporter's HTTP side as users run it: a real process with its files, flags and exit codes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import psutil
import pytest
import trustme

from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: localhost.crt, key_file: localhost.key"
TOKEN = "0123456789abcdef"


@dataclass
class Running:
    """One exporter on a simulated node of two GPUs."""

    folder: Path
    ports: tuple[int, ...]
    process: subprocess.Popen[str]

    @property
    def web(self) -> Path:
        return self.folder / "web.yml"

    def ask(
        self,
        path: str = "/-/healthy",
        *,
        method: str = "GET",
        context: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
    ) -> tuple[int, bytes]:
        host = ("localhost", port or self.ports[0])
        connection = (
            http.client.HTTPConnection(*host, timeout=10)
            if context is None
            else http.client.HTTPSConnection(*host, timeout=10, context=context)
        )
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self, user: str = "", context: ssl.SSLContext | None = None) -> int:
        login = "Basic " + base64.b64encode(user.encode()).decode()
        return self.ask(headers={"Authorization": login} if user else {}, context=context)[0]

    def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None
            try:
                if holds():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("it did not come to that in time")

    def listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.ports[-1]), timeout=1).close()
        return True

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and what was logged."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=10)
        assert "Traceback" not in said
        return self.process.returncode, [json.loads(line) for line in said.splitlines()]


Starter = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, new_port: Callable[[], int]) -> Iterator[Starter]:
    started: list[Running] = []
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(1, 2)

    def begin(
        config: str | None, *flags: str, addresses: int = 1, log: int = subprocess.PIPE
    ) -> Running:
        ports = tuple(new_port() for _ in range(addresses))
        given = [f"--web.listen-address=127.0.0.1:{port}" for port in ports]
        if config is not None:
            (tmp_path / "web.yml").write_text(config)
            given.append(f"--web.config.file={tmp_path}/web.yml")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fleetmedic.cli", "exporter", "--source=simulated",
             f"--hardware.dir={hardware.root}", "--hardware.node=node1",
             f"--state.dir={tmp_path}/state", *given, *flags],
            stderr=log, text=True, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        running = Running(tmp_path, ports, process)
        started.append(running)
        running.until(running.listens)
        return running

    yield begin
    for running in started:
        if running.process.returncode is None:
            running.process.kill()
            running.process.communicate(timeout=10)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    renew(authority, tmp_path)
    return authority


def renew(authority: trustme.CA, folder: Path) -> None:
    leaf = authority.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(folder / "localhost.crt")
    leaf.private_key_pem.write_to_path(folder / "localhost.key")


def trusting(authority: trustme.CA, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client:
        authority.issue_cert(client).configure_cert(context)
    return context


def test_users_are_let_in_by_their_password_and_changed_without_a_restart(start: Starter) -> None:
    running = start(f"basic_auth_users: {{prometheus: '{HASH}'}}\n")
    assert running.status() == 401
    assert running.status("prometheus:wrong") == 401
    assert running.status("nobody:right") == 401
    assert running.status("prometheus:" + "r" * 100) == 401
    assert running.status("prometheus:right") == 200
    running.web.write_text(f"basic_auth_users: {{other: '{HASH}'}}\n")
    assert running.status("prometheus:right") == 401
    assert running.status("other:right") == 200
    running.web.write_text("basic_auth_users: {other: plain}\n")
    assert running.status("other:right") == 200
    running.web.write_text("")
    assert running.status() == 401

    def shown() -> bool:
        login = {"Authorization": "Basic " + base64.b64encode(b"other:right").decode()}
        lines = running.ask("/metrics", headers=login)[1].decode().splitlines()
        return {
            "gpu_exporter_web_config_reload_success 0",
            "gpu_exporter_auth_failures_total 6",
        } <= {*lines}

    running.until(shown)
    code, told = running.end()
    assert code == 0
    kept = [each for each in told if each["event"] == "web_config_kept"]
    assert len(kept) == 2
    assert "basic_auth_users.other" in kept[0]["why"]
    assert "a reload cannot remove all users" in kept[1]["why"]
    assert "right" not in str(told)


def test_tls_with_client_names_takes_a_new_certificate_while_it_runs(
    start: Starter, authority: trustme.CA
) -> None:
    running = start(
        f"{TLS}, min_version: TLS13, client_ca_file: ca.crt, "
        "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.example]}\n"
    )
    known = trusting(authority, "prometheus.example")
    assert running.status(context=known) == 200
    for client in ("", "other.example"):
        with pytest.raises((OSError, http.client.HTTPException)):
            running.status(context=trusting(authority, client))
    with pytest.raises((OSError, http.client.HTTPException)):
        running.status()
    new = trustme.CA()
    renew(new, running.folder)
    with pytest.raises(ssl.SSLError):
        running.status(context=known)
    new.configure_trust(known)
    assert running.status(context=known) == 200
    assert running.end()[0] == 0


def test_what_is_no_http_costs_nobody_else(start: Starter, authority: trustme.CA) -> None:
    plain, chance = start(None, "--web.max-requests=8"), random.Random(11)
    whole = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"
    opened = [socket.create_connection(("127.0.0.1", plain.ports[0])) for _ in range(300)]
    for number, connection in enumerate(opened):
        junk = chance.randbytes(chance.randrange(3000))
        try:
            connection.sendall((junk, whole[:9], b"\0" * 40_000, whole * 50, b"")[number % 5])
        except OSError:
            pass  # it has been turned away already
    plain.until(lambda: plain.status() == 200)
    for connection in opened:
        connection.close()
    plain.until(lambda: plain.ask("/metrics")[0] == 200)
    code, told = plain.end()
    assert code == 0
    assert {each["event"] for each in told} <= {"listening", "too_many_connections"}


def test_gpus_are_let_go_for_the_token_and_taken_back(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    running = start(None, f"--web.release-token-file={tmp_path}/token", addresses=2)

    def gpus() -> set[str]:
        health = json.loads(running.ask("/api/v1/health", port=running.ports[1])[1])
        return {part["state"] for part in health["components"] if part["kind"] == "gpu"}

    def post(query: str, token: str = TOKEN) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return running.ask(f"/-/release?{query}", method="POST", headers=headers)[0]

    def readers() -> list[int]:
        """The processes that read GPUs: they are forked from one that never asks the driver."""
        started = psutil.Process(running.process.pid).children(recursive=True)
        return [each.pid for each in started if each.ppid() != running.process.pid]

    running.until(lambda: gpus() == {"healthy"})
    assert readers()
    assert post("ttl=30s", "wrong") == 401
    assert gpus() == {"healthy"}
    assert post("ttl=30s") == 200
    assert readers() == [], "no process holds a GPU"
    running.until(lambda: b"gpu_exporter_released 1\n" in running.ask("/metrics")[1])
    assert gpus() == {"unknown"}
    assert post("ttl=0") == 200
    running.until(lambda: gpus() == {"healthy"})
    assert running.end()[0] == 0


def test_it_ends_at_once_also_with_connections_open(start: Starter) -> None:
    running = start(None)
    idle = [socket.create_connection(("127.0.0.1", running.ports[0])) for _ in range(5)]
    idle[0].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")
    assert idle[0].recv(100).startswith(b"HTTP/1.1 200 ")
    began = time.monotonic()
    code, told = running.end()
    assert code == 0
    assert time.monotonic() - began < 3
    assert [each["event"] for each in told] == ["listening"]
    for connection in idle:
        connection.close()


def test_a_log_that_cannot_be_written_costs_the_log_alone(start: Starter) -> None:
    with Path("/dev/full").open("w") as full:
        running = start(None, "--path.kmsg=/nonexistent", log=full.fileno())

    def failing() -> bool:
        page = running.ask("/metrics")[1].decode()
        return 'collector_success{collector="xid"} 0\n' in page and "\nnode_load1 " in page

    running.until(failing)
    assert running.status() == 200


def test_a_state_folder_that_cannot_be_written_is_told_once_and_costs_no_metric(
    start: Starter,
) -> None:
    running = start(None)
    running.until(lambda: b"gpu_expected 2\n" in running.ask("/metrics")[1])
    inventory = running.folder / "state/inventory.json"
    inventory.unlink()
    (inventory / "in_the_way").mkdir(parents=True)
    Hardware(running.folder / "hardware").create(1, 3)
    running.until(lambda: b"gpu_expected 3\n" in running.ask("/metrics")[1], 30)
    time.sleep(1.5)  # a round more, in which it is tried again
    told = running.end()[1]
    failed = [each for each in told if each["event"] == "inventory_not_saved"]
    assert len(failed) == 1
    assert "inventory.json" in failed[0]["why"]


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "fleetmedic.cli", "exporter", f"--state.dir={folder}/state", *flags],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["basic_auth_users: {a: plain}", "nonsense: 1", "{", f"{TLS}}}"])
@pytest.mark.parametrize("mode", ["--web.listen-address=127.0.0.1:0", "--check-config"])
def test_a_wrong_file_is_exit_code_2_and_a_sentence(text: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(text + "\n")
    ended = run(tmp_path, f"--web.config.file={tmp_path}/web.yml", mode)
    assert ended.returncode == 2
    assert ended.stderr.count("web.yml") >= 1
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "state").exists(), "nothing was touched"


def test_a_good_file_is_exit_code_0_and_nothing_is_started(
    tmp_path: Path, authority: trustme.CA
) -> None:
    (tmp_path / "web.yml").write_text(f"{TLS}}}\nbasic_auth_users: {{a: '{HASH}'}}\n")
    ended = run(tmp_path, f"--web.config.file={tmp_path}/web.yml", "--check-config")
    assert (ended.returncode, ended.stdout) == (
        0,
        "The flags and the files that they name are valid.\n",
    )
    assert not (tmp_path / "state").exists()
    assert authority is not None
