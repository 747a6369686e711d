"""The exporter as users run it: a real process, a worker that really hangs, real signals."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration
PATIENCE = 20.0  # seconds: a busy machine is slow, not wrong


def offspring(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return found


class Running:
    """One exporter process on a simulated node of eight GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hardware = Hardware(folder / "hardware")
        self.hardware.create(1, 8)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        return [
            sys.executable, "-m", "fleetmedic.cli", "exporter", "--source=simulated",
            f"--web.listen-address=127.0.0.1:{self.port}", f"--state.dir={self.folder}/state",
            f"--hardware.dir={self.hardware.root}", "--hardware.node=node1",
            f"--progress.dir={self.folder}/progress", f"--cluster.dir={self.folder}/cluster",
        ]  # fmt: skip

    def start(self) -> None:
        self.process = subprocess.Popen(self.arguments(), stderr=subprocess.DEVNULL)
        self.until(lambda page: 'gpu_up{gpu="7"' in page)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def page(self) -> str:
        try:
            url = f"http://127.0.0.1:{self.port}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def until(self, holds: Callable[[str], bool], seconds: float = PATIENCE) -> float:
        """Poll the page until it holds; the seconds that took (bench/exporter says what it ought to)."""
        began = time.monotonic()
        while not holds(self.page()):
            assert time.monotonic() - began < seconds, (
                f"not within {seconds} s:\n{self.page()[:2000]}"
            )
            time.sleep(0.05)
        return time.monotonic() - began

    def workers(self) -> list[int]:
        """The processes that read GPUs: they are forked from one that does not."""
        return [worker for fork_client in offspring(self.pid) for worker in offspring(fork_client)]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def value(page: str, name: str, **labels: str) -> float | None:
    for line in page.splitlines():
        named = line.startswith((name + "{", name + " "))
        if named and all(f'{key}="{text}"' in line for key, text in labels.items()):
            return float(line.rpartition(" ")[2])
    return None


def gone(pid: int, seconds: float = PATIENCE) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def run(folder: Path) -> Iterator[Running]:
    running = Running(folder)
    running.start()
    yield running
    if running.process and running.process.poll() is None:
        running.process.kill()
        running.process.wait(5)


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Running]:
    """One that the test may harm."""
    yield from run(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for tests that leave its GPUs as they are."""
    yield from run(tmp_path_factory.mktemp("shared"))


def test_a_lost_gpu_is_said_and_keeps_its_name(exporter: Running) -> None:
    uuid = exporter.hardware.gpu("node1", 3).uuid
    inject(exporter.hardware, "node1", 3, "lost")
    exporter.until(lambda page: value(page, "gpu_lost", gpu="3") == 1)
    page = exporter.page()
    assert value(page, "gpu_present", gpu="3", uuid=uuid) == 0
    assert value(page, "gpu_up", gpu="3", uuid=uuid) == 0
    assert value(page, "gpu_temperature_celsius", gpu="3") is None
    assert value(page, "gpu_utilization_ratio", gpu="3") is None
    for gpu in "0124567":
        assert value(page, "gpu_up", gpu=gpu) == 1
        assert value(page, "gpu_temperature_celsius", gpu=gpu, sensor="gpu") is not None
    exporter.until(lambda p: value(p, "gpu_xid_errors_total", gpu="3", xid="79") == 1)

    assert exporter.stop() == 0
    exporter.start()
    page = exporter.page()
    assert value(page, "gpu_lost", gpu="3", uuid=uuid) == 1, "the uuid outlives a restart"
    assert value(page, "gpu_expected") == 8
    exporter.until(lambda p: value(p, "gpu_xid_errors_total", gpu="3", xid="79") == 1)

    exporter.hardware.reset("node1", 3)
    exporter.until(lambda p: value(p, "gpu_up", gpu="3", uuid=uuid) == 1)


def test_a_hung_gpu_is_flagged_and_the_others_stay_fresh(exporter: Running) -> None:
    exporter.hardware.change("node1", 5, hung=True)
    exporter.until(lambda page: value(page, "gpu_responding", gpu="5") == 0)
    exporter.until(lambda page: value(page, "gpu_worker_stuck") == 1)
    page = exporter.page()
    assert value(page, "gpu_up", gpu="5") == 0
    assert value(page, "gpu_lost", gpu="5") == 0
    assert value(page, "gpu_temperature_celsius", gpu="5") is None
    before = {g: value(page, "gpu_energy_joules_total", gpu=g) for g in "0123467"}

    def fresh(page: str) -> bool:
        now = {g: value(page, "gpu_energy_joules_total", gpu=g) for g in "0123467"}
        return all(now[g] is not None and now[g] != before[g] for g in now)

    exporter.until(fresh)
    assert all(value(exporter.page(), "gpu_responding", gpu=g) == 1 for g in "0123467")
    assert value(exporter.page(), "gpu_exporter_collector_success", collector="gpu_load") == 1

    exporter.hardware.change("node1", 5, hung=False)
    exporter.until(lambda p: value(p, "gpu_responding", gpu="5") == 1)
    exporter.until(lambda p: value(p, "gpu_worker_stuck") == 0)
    # the process that hung ends, and no other stays behind
    exporter.until(lambda _: len(exporter.workers()) == 1)


def test_a_worker_does_not_outlive_its_parent_even_when_it_hangs(exporter: Running) -> None:
    [worker] = exporter.workers()
    exporter.hardware.change("node1", 0, hung=True)
    time.sleep(0.5)
    workers = {worker, *exporter.workers()}
    os.kill(exporter.pid, signal.SIGKILL)
    assert exporter.process is not None
    exporter.process.wait(5)
    assert all(gone(pid) for pid in workers)


def test_sigterm_ends_it_also_while_a_gpu_hangs(exporter: Running) -> None:
    exporter.hardware.change("node1", 0, hung=True)
    exporter.until(lambda page: value(page, "gpu_worker_stuck") == 1)
    workers = exporter.workers()
    assert exporter.stop() == 0
    assert all(gone(pid) for pid in workers)


def test_a_worker_that_is_killed_is_replaced(exporter: Running) -> None:
    [worker] = exporter.workers()
    os.kill(worker, signal.SIGKILL)
    exporter.until(lambda page: value(page, "gpu_exporter_worker_restarts_total") == 1)
    exporter.until(lambda page: value(page, "gpu_up", gpu="0") == 1)
    # the restart is told a moment before the kernel has reaped the dead one
    exporter.until(lambda _: worker not in exporter.workers())


def test_promtool_finds_nothing_but_node_exporters_own_names(
    shared: Running, parts: dict[str, Path]
) -> None:
    promtool = str(parts["promtool"])
    inject(shared.hardware, "node1", 1, "ecc")
    shared.until(lambda p: value(p, "gpu_xid_errors_total", gpu="1", xid="48") == 1)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=shared.page(), capture_output=True, text=True, check=False
    )  # fmt: skip
    findings = (checked.stdout + checked.stderr).splitlines()
    assert [
        line for line in findings if not line.startswith(("node_memory_", "node_netstat_"))
    ] == []


def test_the_embedded_clusters_allocations_are_shown(shared: Running) -> None:
    success = "gpu_exporter_allocation_source_success"
    assert value(shared.page(), success, source="local") == 0, "no store yet"
    client = pytest.importorskip("fleetmedic.localcluster.client")
    client.LocalCluster(shared.folder / "cluster", shared.hardware.root)
    shared.until(lambda page: value(page, success, source="local") == 1)


def test_a_taken_port_is_one_sentence_and_exit_code_2(shared: Running, tmp_path: Path) -> None:
    other = [*shared.arguments(), f"--state.dir={tmp_path}/other"]
    tried = subprocess.run(other, capture_output=True, text=True, check=False, timeout=10)
    assert tried.returncode == 2
    assert re.fullmatch(
        rf"fleetmedic: port {shared.port} is already in use by \S+ \(pid {shared.pid}\); "
        r"stop that process, or specify another --web\.listen-address\.\n",
        tried.stderr,
    )


def test_once_prints_the_page_beside_a_running_exporter(shared: Running) -> None:
    printed = subprocess.run(
        [*shared.arguments(), "--once"], capture_output=True, text=True, check=True, timeout=10
    )
    assert value(printed.stdout, "gpu_up", gpu="7") == 1
    assert value(printed.stdout, "gpu_expected") == 8


def test_without_gpus_it_serves_the_host_and_says_so(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "fleetmedic.cli",
        "exporter",
        "--once",
        f"--state.dir={tmp_path}",
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": ""}
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    if 'source="nvml"' in printed.stdout:
        pytest.skip("this machine has NVML")
    assert value(printed.stdout, "gpu_expected") == 0
    assert value(printed.stdout, "node_load1") is not None
    assert "only host metrics are served" in printed.stderr
