"""The NVML source against a C library that stands in for the driver's, through the real binding."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.board import Board, BoardView, Intervals, Status
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
        self.board = Board(inventory, expected=None, intervals=Intervals())
        self.supervisor = Supervisor(
            self.board, ["nvml", str(folder / "sys")], 2.0, lambda event, **fields: None
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
    load, health, limits = first.load, first.health, first.limits
    assert load is not None
    assert health is not None
    assert limits is not None
    assert (load.utilization, load.memory_activity) == (0.97, 0.5)
    assert (load.memory_total, load.memory_free, load.memory_used) == (100, 60, 40)
    assert (load.temperature, load.memory_temperature, load.power) == (40.0, 55.0, 250.5)
    assert load.energy == pytest.approx(123456.789)
    assert (load.sm_clock, limits.sm_clock, limits.power) == (1.755e9, 1.98e9, 700.0)
    assert (limits.slowdown, limits.shutdown) == (87, 92)
    active = {reason for reason, on in (load.clock_events or {}).items() if on}
    assert active == {"hw_slowdown", "hw_thermal_slowdown"}
    assert (load.clock_event_seconds or {})["hw_thermal_slowdown"] == pytest.approx(1.5)
    assert "sync_boost" not in (load.clock_event_seconds or {})
    assert {e.location for e in health.ecc} == {"l2", "dram", "reg", "tex", "cbu", "sram"}
    [dbe] = [e.count for e in health.ecc if (e.error, e.scope, e.location) == ("uncorrected", "volatile", "dram")]  # fmt: skip
    assert dbe == 3
    assert health.remap_pending is None
    assert second.health is not None
    assert second.health.remap_pending is True
    assert first.device.pci_bus_id == "00000000:10:00.0"


def test_one_lost_gpu_costs_itself_alone_and_keeps_its_place_when_the_driver_counts_anew(
    node: Node,
) -> None:
    node.until(UP, UP, UP, UP)
    uuids = [gpu.uuid for gpu in node.view().gpus]
    node.hardware.change("node1", 1, lost=True)
    assert node.until(UP, LOST, UP, UP) < 2
    # A connection opened now sees three GPUs, numbered 0 to 2.
    again = Board(node.board._path, expected=None, intervals=Intervals())
    node.supervisor.stop()
    node.board = again
    node.supervisor = Supervisor(again, ["nvml", "/nowhere"], 2.0, lambda event, **fields: None)
    node.supervisor.start()
    node.until(UP, LOST, UP, UP)
    assert [gpu.uuid for gpu in node.view().gpus] == uuids
    assert [gpu.load.temperature for gpu in node.view().gpus if gpu.load] == [40.0, 42.0, 43.0]


def test_a_call_that_never_comes_back_costs_its_gpu_alone(node: Node) -> None:
    node.until(UP, UP, UP, UP)
    node.hardware.change("node1", 2, hung=True)
    assert node.until(UP, UP, HUNG, UP) < 2.5
    time.sleep(1.5)
    assert [gpu.load is not None for gpu in node.view().gpus] == [True, True, False, True]
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
