"""The real exporter behind --web.config.file: TLS, client certificates, users, all without a restart."""

import base64
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from fleetmedic.hardware.state import Hardware

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("openssl") is None and not os.environ.get("FLEETMEDIC_REQUIRE_PARTS"),
        reason="there is no openssl to make certificates with",
    ),
]
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


def certificate(folder: Path, name: str, *more: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", f"{name}.key", "-out", f"{name}.crt", *more],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


class Running:
    def __init__(self, folder: Path, port: int, config: str) -> None:
        self.folder, self.port = folder, port
        self.web = folder / "web.yml"
        self.web.write_text(config)
        hardware = Hardware(folder / "hardware")
        hardware.create(1, 1)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fleetmedic.cli", "exporter", "--source=simulated",
             f"--hardware.dir={hardware.root}", "--hardware.node=node1", f"--state.dir={folder}/state",
             f"--web.listen-address=127.0.0.1:{port}", f"--web.config.file={self.web}"],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip

    def get(self, context: ssl.SSLContext | None = None, user: str = "") -> int:
        headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        )
        try:
            connection.request("GET", "/-/healthy", headers=headers if user else {})
            return connection.getresponse().status
        finally:
            connection.close()

    def up(self) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            assert self.process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("it does not listen")


Starter = Callable[[str], Running]


@pytest.fixture
def start(tmp_path: Path, new_port: Callable[[], int]) -> Iterator[Starter]:
    started: list[Running] = []

    def begin(config: str) -> Running:
        running = Running(tmp_path, new_port(), config)
        started.append(running)
        running.up()
        return running

    yield begin
    for running in started:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert running.process.stderr is not None
        running.process.stderr.close()


def trusting(folder: Path, name: str, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / f"{name}.crt")
    context.check_hostname = False
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def test_users_are_let_in_by_their_password_and_changed_without_a_restart(start: Starter) -> None:
    running = start(f"basic_auth_users: {{prometheus: '{HASH}'}}\n")
    assert running.get() == 401
    assert running.get(user="prometheus:wrong") == 401
    assert running.get(user="nobody:right") == 401
    assert running.get(user="prometheus:" + "r" * 100) == 401
    assert running.get(user="prometheus:right") == 200
    running.web.write_text(f"basic_auth_users: {{other: '{HASH}'}}\n")
    assert running.get(user="prometheus:right") == 401
    assert running.get(user="other:right") == 200
    running.web.write_text("basic_auth_users: {other: plain}\n")
    assert running.get(user="other:right") == 200


def test_tls_keeps_to_its_versions_and_takes_a_new_certificate(
    start: Starter, tmp_path: Path
) -> None:
    certificate(tmp_path, "server")
    running = start(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS13}\n"
    )
    assert running.get(trusting(tmp_path, "server")) == 200
    old = trusting(tmp_path, "server")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, OSError)):
        running.get(old)
    with pytest.raises((http.client.HTTPException, OSError)):
        running.get()
    before = trusting(tmp_path, "server")
    certificate(tmp_path, "server")
    assert running.get(trusting(tmp_path, "server")) == 200
    with pytest.raises(ssl.SSLError):
        running.get(before)


def test_a_client_needs_its_certificate_and_its_name(start: Starter, tmp_path: Path) -> None:
    for name in ("server", "prometheus.example", "other.example"):
        certificate(tmp_path, name)
    both = "".join((tmp_path / f"{n}.example.crt").read_text() for n in ("prometheus", "other"))
    (tmp_path / "clients.crt").write_text(both)
    running = start(
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: clients.crt, "
        "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.example]}\n"
    )
    assert running.get(trusting(tmp_path, "server", "prometheus.example")) == 200
    for client in ("", "other.example", "server"):
        with pytest.raises((ssl.SSLError, http.client.HTTPException, OSError)):
            running.get(trusting(tmp_path, "server", client))


def test_what_is_no_http_and_no_tls_costs_nobody_else(start: Starter, tmp_path: Path) -> None:
    certificate(tmp_path, "server")
    running = start("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(10)]
    for junk in (
        b"\x16\x03\x01\xff\xff" + b"\0" * 300,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 5000,
        b"",
    ):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(junk)
    assert running.get(trusting(tmp_path, "server")) == 200
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("text", ["basic_auth_users: {a: plain}", "nonsense: 1", "{"])
def test_a_wrong_file_ends_the_start_with_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(text + "\n")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "fleetmedic.cli", "exporter", f"--state.dir={tmp_path}/state",
         f"--web.config.file={tmp_path}/web.yml", "--web.listen-address=127.0.0.1:0"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "web.yml" in ended.stderr
    assert "Traceback" not in ended.stderr
