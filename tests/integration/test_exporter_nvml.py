"""The NVML source against a C library that stands in for the driver's, through the real binding."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.board import INTERVALS, Board, BoardView, Status
from exporter.supervisor import Supervisor
from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration
SOURCE = Path(__file__).parent / "exporter_nvml" / "nvml.c"
GPUS = 4


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the library that stands in for NVML")
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, SOURCE], check=True)
    return folder


class Node:
    """A board kept by a supervisor whose worker reads the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.hardware = Hardware(folder / "hardware")
        self.hardware.create(1, GPUS)
        inventory = folder / "inventory.json"
        self.board = Board(inventory, expected=None, intervals=INTERVALS)
        self.supervisor = Supervisor(
            self.board, ["nvml", str(folder / "sys")], INTERVALS, lambda event, **fields: None
        )

    def view(self) -> BoardView:
        return self.board.view(time.time())

    def until(self, *statuses: Status, seconds: float = 5.0) -> float:
        began = time.monotonic()
        while [gpu.status for gpu in self.view().gpus] != list(statuses):
            assert time.monotonic() - began < seconds, self.view()
            time.sleep(0.02)
        return time.monotonic() - began


@pytest.fixture
def node(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("FAKE_NVML_DIR", str(tmp_path / "hardware" / "node1"))
    made = Node(tmp_path)
    made.supervisor.start()
    yield made
    made.supervisor.stop()


UP, LOST, HUNG = Status.UP, Status.LOST, Status.HUNG


def test_values_come_in_base_units_and_what_is_not_supported_is_unknown(node: Node) -> None:
    node.until(UP, UP, UP, UP)
    first, second = node.view().gpus[:2]
    deadline = time.monotonic() + 3
    while "limits" not in first.groups and time.monotonic() < deadline:
        first, second = node.view().gpus[:2]
    given = {(r.name, *r.labels): r.value for group in first.groups for r in first.readings(group)}
    assert given["gpu_utilization_ratio",] == 0.97
    assert given["gpu_memory_used_bytes",] == 40
    assert given["gpu_temperature_celsius", "memory"] == 55.0
    assert given["gpu_power_watts", "gpu"] == 250.5
    assert given["gpu_clock_max_hertz", "sm"] == 1.98e9
    assert given["gpu_ecc_errors_total", "uncorrected", "volatile", "dram"] == 3
    assert ("gpu_row_remap_pending",) not in given
    assert second.value("health", "gpu_row_remap_pending") == 1
    assert first.device.pci_bus_id == "00000000:10:00.0"


def test_one_lost_gpu_costs_itself_alone_and_keeps_its_place_when_the_driver_counts_anew(
    node: Node,
) -> None:
    node.until(UP, UP, UP, UP)
    uuids = [gpu.uuid for gpu in node.view().gpus]
    node.hardware.change("node1", 1, lost=True)
    assert node.until(UP, LOST, UP, UP) < 2
    # A connection opened now sees three GPUs, numbered 0 to 2.
    again = Board(node.board._path, expected=None, intervals=INTERVALS)
    node.supervisor.stop()
    node.board = again
    node.supervisor = Supervisor(
        again, ["nvml", "/nowhere"], INTERVALS, lambda event, **fields: None
    )
    node.supervisor.start()
    node.until(UP, LOST, UP, UP)
    assert [gpu.uuid for gpu in node.view().gpus] == uuids
    assert [gpu.value("load", "gpu_temperature_celsius", "gpu") for gpu in node.view().gpus] == [
        40.0,
        None,
        42.0,
        43.0,
    ]


def test_a_call_that_never_comes_back_costs_its_gpu_alone(node: Node) -> None:
    node.until(UP, UP, UP, UP)
    node.hardware.change("node1", 2, hung=True)
    assert node.until(UP, UP, HUNG, UP) < 2.5
    time.sleep(1.5)
    assert ["load" in gpu.groups for gpu in node.view().gpus] == [True, True, False, True]
    node.hardware.change("node1", 2, hung=False)
    node.until(UP, UP, UP, UP, seconds=10)


def test_auto_takes_nvml_when_its_library_loads(library: Path, tmp_path: Path) -> None:
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(1, GPUS)
    environment = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_DIR": str(hardware.root / "node1"),
    }  # fmt: skip
    printed = subprocess.run(
        [sys.executable, "-m", "fleetmedic.cli", "exporter", "--once", f"--state.dir={tmp_path}/state",
         f"--path.kmsg={hardware.kmsg_path('node1')}"],
        capture_output=True, text=True, check=True, env=environment, timeout=10,
    )  # fmt: skip
    assert 'source="nvml"' in printed.stdout
    assert 'gpu_info{gpu="3"' in printed.stdout
    assert 'driver="575.1"' in printed.stdout
    assert "gpu_exporter_simulated 0" in printed.stdout
