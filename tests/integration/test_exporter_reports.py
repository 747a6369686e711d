"""Jobs that really run report to an exporter that really runs: over its socket, into files, as another
user."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPORTS = """
import sys, time
from fleetmedic.progress import Pipeline, Progress, Serving
progress = Progress("train-a", rank=int(sys.argv[1]), checkpoint_interval=60)
pipeline = Pipeline("etl", expected_interval=3600)
serving = Serving("chat", "a")
pipeline.success(500, backlog=7)
serving.load(waiting=1, running=2)
serving.answered(200, seconds=0.2, tokens=30)
for step in range(1, 10_000):
    progress.step(step, loss=0.5, seconds=0.1, samples=32, data_wait=0.01, compute=0.08)
    time.sleep(0.1)
"""
NOBODY = 65_534


@dataclass
class Node:
    """An exporter without GPUs, with a folder and a socket for reports."""

    folder: Path
    socket: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def progress(self) -> Path:
        return self.folder / "progress"

    def arguments(self) -> list[str]:
        return [
            sys.executable, "-m", "fleetmedic.cli", "exporter", "--collector.disable-defaults",
            f"--web.listen-address=127.0.0.1:{self.port}", f"--state.dir={self.folder}/state",
            "--collector.progress", f"--progress.dir={self.progress}",
            f"--progress.socket={self.socket}",
        ]  # fmt: skip

    def start(self) -> None:
        self.process = subprocess.Popen(self.arguments(), stderr=subprocess.DEVNULL)
        self.until(lambda page: "gpu_exporter_progress_rejected_total" in page)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def page(self) -> str:
        try:
            url = f"http://127.0.0.1:{self.port}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def until(self, holds: Callable[[str], bool], seconds: float = 15) -> str:
        end = time.monotonic() + seconds
        while not holds(page := self.page()):
            assert time.monotonic() < end, f"not within {seconds} s:\n{page[:3000]}"
            time.sleep(0.05)
        return page


@pytest.fixture
def node(tmp_path: Path, new_port: Callable[[], int]) -> Iterator[Node]:
    (tmp_path / "progress").mkdir()
    # not below tmp_path, to which no other user comes
    with tempfile.TemporaryDirectory(prefix="fleetmedic-") as run:
        Path(run).chmod(0o755)
        node = Node(tmp_path, Path(run) / "progress.sock", new_port())
        node.start()
        yield node
        node.kill()


@pytest.fixture
def job() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(rank: int, **environment: Path) -> subprocess.Popen[bytes]:
        env = os.environ | {f"FLEETMEDIC_{name}": str(path) for name, path in environment.items()}
        running.append(subprocess.Popen([sys.executable, "-c", REPORTS, str(rank)], env=env))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(10)


def value(page: str, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else None


def test_a_job_is_shown_over_the_socket_and_by_its_file(
    node: Node, job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    over_socket = job(0, PROGRESS_SOCKET=node.socket)
    job(1, PROGRESS_DIR=node.progress)
    ranks = [f'training_step_compute_seconds{{job_id="train-a",rank="{n}"}}' for n in (0, 1)]
    page = node.until(lambda page: all(rank in page for rank in ranks))
    assert value(page, 'training_running{job_id="train-a"}') == 1
    assert value(page, 'training_data_wait_seconds{job_id="train-a"}') == 0.01
    assert value(page, 'pipeline_records_processed_total{pipeline="etl"}') == 500
    assert value(page, 'inference_requests_running{service="chat",replica="a"}') == 2
    assert value(page, 'inference_tokens_generated_total{service="chat",replica="a"}') == 30
    for reason in ("owner", "format", "value", "name"):
        series = f'gpu_exporter_progress_rejected_total{{reason="{reason}"}}'
        assert value(page, series) == 0

    node.kill()
    node.start()  # the file is still there, and who uses the socket reports again
    page = node.until(lambda page: all(rank in page for rank in ranks))
    assert (value(page, 'training_samples_total{job_id="train-a",rank="1"}') or 0) >= 32

    over_socket.kill()
    over_socket.wait(10)
    node.until(lambda page: 'training_running{job_id="train-a"} 1' in page)  # of rank 1


def test_a_job_that_was_killed_does_not_run_any_more(
    node: Node, job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = job(0, PROGRESS_SOCKET=node.socket)
    node.until(lambda page: value(page, 'training_running{job_id="train-a"}') == 1)
    process.kill()
    process.wait(10)
    page = node.until(lambda page: value(page, 'training_running{job_id="train-a"}') == 0)
    assert value(page, 'training_step{job_id="train-a"}') is not None
    assert "inference_requests_running" not in page
    assert value(page, 'pipeline_input_backlog{pipeline="etl"}') == 7


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused_and_counted(node: Node) -> None:
    def send(uid: int, text: bytes) -> None:
        child = os.fork()
        if child == 0:
            try:
                os.setgid(uid)
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.sendto(text, str(node.socket))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    send(NOBODY, b'{"job_id": "theirs", "step": 5}')
    node.until(lambda page: value(page, 'training_step{job_id="theirs"}') == 5)
    send(NOBODY - 1, b'{"job_id": "theirs", "step": 6, "running": false}')
    send(NOBODY, b"junk")
    refused = 'gpu_exporter_progress_rejected_total{reason="%s"}'
    page = node.until(lambda page: value(page, refused % "format") == 1)
    assert value(page, refused % "owner") == 1
    assert value(page, 'training_step{job_id="theirs"}') == 5


def test_a_flood_neither_stops_the_exporter_nor_hides_it(node: Node) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(node.socket))
        sender.settimeout(1)
        for number in range(1500):
            sender.send(b"{" if number % 2 else b"x" * 60_000)
    page = node.until(
        lambda page: (value(page, 'gpu_exporter_progress_rejected_total{reason="rate"}') or 0) > 500
    )
    assert value(page, 'gpu_exporter_collector_success{collector="progress"}') == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        time.sleep(0.1)  # ten of this user's reports have room again
        sender.sendto(b'{"job_id": "late", "step": 1}', str(node.socket))
    node.until(lambda page: 'training_step{job_id="late"}' in page)


def test_beside_a_running_exporter_the_page_can_be_printed_and_checked(node: Node) -> None:
    for mode in ("--once", "--check-config"):
        done = subprocess.run(
            [*node.arguments(), mode], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    other = Node(node.folder / "other", node.socket, 0)
    done = subprocess.run(
        other.arguments(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "another process listens on this path" in done.stderr
    assert "Traceback" not in done.stderr
