"""How often people are called: one page for a node with all of its GPUs lost, one for a mass outage, on
real Alertmanagers at the shipped settings."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.alerting.render import RenderContext, parse_version, render
from fleetmedic.alerting.settings import Http, Notifications, Team
from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries

pytestmark = pytest.mark.integration
STATIC = {"severity": "critical", "source": "static", "cluster": "main"}


@dataclass
class Remediator:
    """What stands in the remediator's place: alerts come to one path, messages for people to another."""

    acted: list[str] = field(default_factory=list)
    pages: list[list[str]] = field(default_factory=list)
    port: int = 0

    def serve(self) -> ThreadingHTTPServer:
        seen = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                names = [alert["labels"]["alertname"] for alert in body["alerts"]]
                if "/notify/" in self.path:
                    seen.pages.append(names)
                else:
                    seen.acted.extend(names)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@pytest.fixture(params=["alertmanager", "alertmanager-0.33"])
def running(
    request: pytest.FixtureRequest,
    parts: dict[str, Path],
    tmp_path: Path,
    new_port: Callable[[], int],
) -> Iterator[tuple[str, Remediator]]:
    program, remediator = parts[request.param], Remediator()
    server = remediator.serve()
    (tmp_path / "token").write_text("a-token-of-the-remediator")
    given = Notifications(
        channels={"pager": Http(url_file="/nowhere", template="sms")},
        teams=(Team("ops", critical=("pager",), warning=("pager",), info=("pager",)),),
    )
    place = RenderContext(
        f"http://127.0.0.1:{remediator.port}", str(tmp_path / "token"),
        str(share("alertmanager") / "templates"),
        parse_version(binaries.version(program).rpartition(" ")[2]),
    )  # fmt: skip
    (tmp_path / "alertmanager.yml").write_text(render(place, given))
    url = f"http://127.0.0.1:{new_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *binaries.command(request.param), f"--config.file={tmp_path}/alertmanager.yml",
                f"--storage.path={tmp_path}/data", f"--web.listen-address={url[7:]}",
                "--cluster.listen-address=",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
        yield url, remediator
    finally:
        process.terminate()
        process.wait(10)
        server.shutdown()
        server.server_close()


def _post(url: str, *alerts: dict[str, str]) -> None:
    body: list[dict[str, Any]] = [{"labels": labels, "annotations": {}} for labels in alerts]
    request = urllib.request.Request(
        f"{url}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def _until(holds: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_node_that_lost_all_of_its_gpus_is_one_page_and_eight_alerts_to_act_upon(
    running: tuple[str, Remediator],
) -> None:
    url, remediator = running
    node = STATIC | {"category": "gpu", "node": "node1"}
    for gpu in range(8):  # they come one after the other, as scrapes and rules have it
        _post(url, node | {"alertname": "GpuLost", "gpu": str(gpu), "uuid": f"GPU-{gpu}"})
    _post(url, node | {"alertname": "GpuCountMismatch"})
    _until(lambda: remediator.acted.count("GpuLost") == 8, 5)
    _until(lambda: remediator.pages, 15)
    time.sleep(3)  # a second page for the same node would come with the first
    (page,) = remediator.pages
    assert sorted(page) == ["GpuCountMismatch", *["GpuLost"] * 8]


def test_a_mass_outage_is_one_page_whatever_its_nodes_say(running: tuple[str, Remediator]) -> None:
    url, remediator = running
    outage = STATIC | {"category": "node", "alertname": "NodeMassOutage"}
    _post(url, outage)
    _until(lambda: "NodeMassOutage" in remediator.acted, 5)
    nodes = [
        STATIC | {"category": "node", "alertname": "NodeDown", "node": f"node{number}"}
        for number in range(20)
    ]
    _post(url, outage, *nodes)
    _until(lambda: remediator.pages, 15)
    time.sleep(12)  # longer than group_wait: the nodes' own pages would have come
    assert remediator.pages == [["NodeMassOutage"]]
    assert "NodeDown" not in remediator.acted
