"""The exporter's TLS and logins, used by the client that they are for: a real Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
import trustme
import yaml

from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration

WEB = {
    "tls_server_config": {
        "cert_file": "server.crt",
        "key_file": "server.key",
        "client_ca_file": "clients.crt",
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_allowed_sans": ["prometheus.example"],
    },
}


@dataclass(frozen=True)
class Scraped:
    """An exporter, and a Prometheus that scrapes it each half second with the files in `folder`."""

    folder: Path
    port: int

    def value(self, expression: str) -> float | None:
        """What an expression of one series is now; None where there is none."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10
        ) as answer:
            found = json.loads(answer.read())["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except OSError:
                pass
            time.sleep(0.1)
        pytest.fail(f"it did not come to that in time: {what}")

    def is_up(self, scrapes: int = 3) -> None:
        """Wait for that many more scrapes; each of them must succeed."""
        began = time.time()
        self.until(
            "the next scrapes",
            lambda: (self.value("timestamp(up)") or 0) > began + scrapes * 0.5,
        )
        assert self.value(f"min_over_time(up[{int((time.time() - began) * 1000)}ms])") == 1

    def begin_with(self, authority: trustme.CA) -> None:
        """Certificates of one authority for both sides, and the right password."""
        self.trust("servers.crt", authority)
        self.trust("clients.crt", authority)
        self.serve(authority)
        self.identify(authority)
        self.let_in("right")

    def let_in(self, password: str) -> None:
        """Make this the password of the user as whom Prometheus comes."""
        users = {"prometheus": bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}
        (self.folder / "web.yml").write_text(yaml.safe_dump(WEB | {"basic_auth_users": users}))

    def serve(self, authority: trustme.CA) -> None:
        """A new certificate for the exporter, and then its key, as two files."""
        leaf = authority.issue_cert("localhost")
        leaf.cert_chain_pems[0].write_to_path(self.folder / "server.crt")
        leaf.private_key_pem.write_to_path(self.folder / "server.key")

    def identify(self, authority: trustme.CA, name: str = "prometheus.example") -> None:
        """A certificate for Prometheus with this alternative name."""
        leaf = authority.issue_cert(name)
        whole = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
        (self.folder / "client.pem").write_bytes(whole)

    def trust(self, file: str, *authorities: trustme.CA) -> None:
        (self.folder / file).write_bytes(b"".join(each.cert_pem.bytes() for each in authorities))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=["prometheus", "prometheus-3"])
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    parts: dict[str, Path],
    new_port: Callable[[], int],
    authority: trustme.CA,
) -> Iterator[Scraped]:
    program, at, tmp_path = parts[request.param], new_port(), tmp_path_factory.mktemp("scraped")
    found = Scraped(tmp_path, new_port())
    found.begin_with(authority)
    (tmp_path / "password").write_text("right")
    job = {
        "job_name": "node",
        "scheme": "https",
        "tls_config": {
            "ca_file": "servers.crt",
            "cert_file": "client.pem",
            "key_file": "client.pem",
            "server_name": "localhost",
        },
        "basic_auth": {"username": "prometheus", "password_file": "password"},
        "static_configs": [{"targets": [f"127.0.0.1:{at}"]}],
    }
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config | {"scrape_configs": [job]}))
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(1, 2)
    commands = [
        [sys.executable, "-m", "fleetmedic.cli", "exporter", "--source=simulated",
         f"--web.listen-address=127.0.0.1:{at}", f"--web.config.file={tmp_path}/web.yml",
         f"--state.dir={tmp_path}/state", f"--hardware.dir={hardware.root}",
         "--hardware.node=node1"],
        [str(program), f"--config.file={tmp_path}/prometheus.yml",
         f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{found.port}"],
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        processes = [subprocess.Popen(each, stdout=log, stderr=log) for each in commands]
    try:
        found.until("a GPU in Prometheus", lambda: found.value("count(gpu_up == 1)") == 2)
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)
        assert b"Traceback" not in (tmp_path / "log").read_bytes()


@pytest.fixture
def scraped(running: Scraped, authority: trustme.CA) -> Scraped:
    """With every file as it was at the start, and scraped since."""
    running.begin_with(authority)
    running.until("up at the start", lambda: running.value("up") == 1)
    running.is_up()
    return running


def test_certificates_of_both_sides_change_while_every_scrape_succeeds(
    scraped: Scraped, authority: trustme.CA
) -> None:
    new = trustme.CA()
    scraped.trust("servers.crt", authority, new)
    scraped.trust("clients.crt", authority, new)
    scraped.is_up()
    scraped.serve(new)
    scraped.trust("servers.crt", new)  # from here on only the new certificate is good
    scraped.is_up()
    scraped.identify(new)
    scraped.is_up()
    scraped.trust("clients.crt", new)
    scraped.is_up()
    scraped.until(
        "the reload is told",
        lambda: scraped.value("gpu_exporter_web_config_reload_success") == 1,
    )
    # a certificate without its key changes nothing, and that is told
    scraped.serve(new)
    (scraped.folder / "server.crt").write_bytes(new.issue_cert("x").cert_chain_pems[0].bytes())
    scraped.until(
        "the failed reload is told",
        lambda: scraped.value("gpu_exporter_web_config_reload_success") == 0,
    )
    scraped.is_up()


def test_a_wrong_password_is_a_target_that_is_down_and_a_counted_failure(
    scraped: Scraped,
) -> None:
    failures = scraped.value("gpu_exporter_auth_failures_total")
    assert failures is not None
    scraped.let_in("another")
    scraped.until("down by the password", lambda: scraped.value("up") == 0)
    scraped.let_in("right")
    scraped.until("up again", lambda: scraped.value("up") == 1)
    scraped.until(
        "failures were counted",
        lambda: (scraped.value("gpu_exporter_auth_failures_total") or 0) > failures,
    )


def test_a_certificate_with_another_name_is_a_target_that_is_down_and_counted(
    scraped: Scraped, authority: trustme.CA
) -> None:
    refused = 'gpu_exporter_http_connections_failed_total{reason="client_name"}'
    failures = scraped.value(refused)
    assert failures is not None
    scraped.identify(authority, "someone-else.example")
    # connections that are open were made under the former name: a new certificate ends them
    scraped.serve(authority)
    scraped.until("down by the name", lambda: scraped.value("up") == 0)
    scraped.identify(authority)
    scraped.until("up again", lambda: scraped.value("up") == 1)
    scraped.until("the refused name was counted", lambda: (scraped.value(refused) or 0) > failures)
