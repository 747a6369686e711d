"""A real Alertmanager with the shipped configuration: who hears of what, and how soon."""

from __future__ import annotations

import json
import queue
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

from fleetmedic.stack import binaries
from fleetmedic.stack.render import alertmanager

pytestmark = pytest.mark.integration
GPU = {"cluster": "local", "node": "node1", "gpu": "3", "uuid": "GPU-3", "source": "static"}


@dataclass
class Receiver:
    """What stands in the remediator's place: it keeps what is posted and who posted it."""

    server: ThreadingHTTPServer
    posts: queue.Queue[tuple[str, str, dict[str, Any]]] = field(default_factory=queue.Queue)

    def names_within(self, seconds: float, wanted: int) -> list[str]:
        """Alert names as they come, until there are that many or the time is over."""
        deadline, names = time.monotonic() + seconds, []
        while len(names) < wanted and (left := deadline - time.monotonic()) > 0:
            try:
                _, _, body = self.posts.get(timeout=left)
            except queue.Empty:
                break
            names += [alert["labels"]["alertname"] for alert in body["alerts"]]
        return names


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.posts.put((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["alertmanager", "alertmanager-0.33"])
def running(
    request: pytest.FixtureRequest,
    parts: dict[str, Path],
    receiver: Receiver,
    tmp_path: Path,
    new_port: Callable[[], int],
) -> Iterator[str]:
    assert parts[request.param]
    token = tmp_path / "token"
    token.write_text("a-secret\n")
    config = tmp_path / "alertmanager.yml"
    config.write_text(alertmanager(f"http://127.0.0.1:{receiver.server.server_port}", token))
    url = f"http://127.0.0.1:{new_port()}"
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [
            *binaries.command(request.param), f"--config.file={config}",
            f"--storage.path={tmp_path}/data", f"--web.listen-address={url[7:]}",
            "--cluster.listen-address=",
        ],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        _until_ready(url, process, tmp_path / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"Alertmanager did not come up: {log.read_text()}")


def _post(url: str, *alerts: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels, "annotations": {}} for labels in alerts]).encode()
    request = urllib.request.Request(
        f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def test_a_lost_gpu_is_told_at_once_with_the_credential_and_each_alert_by_itself(
    running: str, receiver: Receiver
) -> None:
    at = time.monotonic()
    one = {"alertname": "GpuLost", "severity": "critical", "category": "gpu", **GPU}
    _post(running, one, one | {"gpu": "4", "uuid": "GPU-4"})
    path, credential, body = receiver.posts.get(timeout=5)
    assert time.monotonic() - at < 2
    assert path == "/api/v1/alerts"
    assert credential == "Bearer a-secret"
    assert body["version"] == "4"
    assert body["truncatedAlerts"] == 0
    assert len(body["alerts"]) == 1
    assert receiver.names_within(5, 1) == ["GpuLost"]


def test_a_node_that_is_down_speaks_for_its_gpus_and_for_no_others(
    running: str, receiver: Receiver
) -> None:
    node = {"alertname": "NodeDown", "severity": "critical", "category": "node", "source": "static"}
    _post(running, node | {"cluster": "local", "node": "node1"})
    assert receiver.names_within(5, 1) == ["NodeDown"]
    hidden = {"alertname": "GpuPeerOutlier", "severity": "warning", "category": "gpu"}
    seen = {"alertname": "GpuLost", "severity": "critical", "category": "gpu"}
    _post(running, hidden | GPU, seen | GPU | {"node": "node2"})
    assert receiver.names_within(2, 2) == ["GpuLost"]


def test_a_mass_outage_speaks_for_its_nodes_and_hides_no_sick_gpu(
    running: str, receiver: Receiver
) -> None:
    node = {"severity": "critical", "category": "node", "source": "static", "cluster": "local"}
    _post(running, node | {"alertname": "NodeMassOutage"})
    assert receiver.names_within(5, 1) == ["NodeMassOutage"]
    lost = {"alertname": "GpuLost", "severity": "critical", "category": "gpu"}
    _post(running, node | {"alertname": "NodeDown", "node": "node2"}, lost | GPU)
    assert receiver.names_within(2, 2) == ["GpuLost"]


def test_a_lost_gpu_hides_its_own_warnings_and_an_xid_does_not(
    running: str, receiver: Receiver
) -> None:
    critical = {"severity": "critical", "category": "gpu"}
    _post(running, {"alertname": "GpuXidFatalHardware"} | critical | GPU)
    assert receiver.names_within(5, 1) == ["GpuXidFatalHardware"]
    warning = {"alertname": "GpuRowRemapPending", "severity": "warning", "category": "gpu"}
    _post(running, warning | GPU)
    assert receiver.names_within(5, 1) == ["GpuRowRemapPending"]
    four = GPU | {"gpu": "4", "uuid": "GPU-4"}
    _post(running, {"alertname": "GpuLost"} | critical | four)
    assert receiver.names_within(5, 1) == ["GpuLost"]
    _post(running, warning | four)
    assert receiver.names_within(2, 1) == []


def test_a_file_system_that_does_not_respond_speaks_for_blocked_processes_and_for_no_job(
    running: str, receiver: Receiver
) -> None:
    node = {"category": "node", "source": "static", "cluster": "local"}
    stalled = node | {"severity": "critical", "mountpoint": "/data", "device": "nas:/data"}
    blocked = node | {"alertname": "NodeLoadHighBlocked", "severity": "warning"}
    _post(running, stalled | {"alertname": "NodeNfsStalled", "node": "node1"})
    assert receiver.names_within(5, 1) == ["NodeNfsStalled"]
    job = {"alertname": "TrainingStalled", "severity": "critical", "category": "job"}
    _post(
        running,
        blocked | {"node": "node1"},
        job | {"source": "static", "cluster": "local", "job_id": "train-a"},
    )
    assert receiver.names_within(2, 2) == ["TrainingStalled"]
    _post(running, blocked | {"node": "node2"})
    assert receiver.names_within(5, 1) == ["NodeLoadHighBlocked"]
    _post(running, stalled | {"alertname": "NfsServerStalled"})
    assert receiver.names_within(5, 1) == ["NfsServerStalled"]
    _post(running, blocked | {"node": "node3"})
    assert receiver.names_within(2, 1) == []


def test_the_dead_mans_switch_reaches_the_remediator_and_a_watchers_trouble_does_not(
    running: str, receiver: Receiver
) -> None:
    meta = {"category": "meta", "source": "static"}
    _post(
        running,
        {"alertname": "Watchdog", "severity": "none"} | meta,
        {"alertname": "TargetDown", "severity": "warning"} | meta,
    )
    assert receiver.names_within(2, 2) == ["Watchdog"]
