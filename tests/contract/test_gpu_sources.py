"""Both sources of GPU values, on the same hardware folder, give the same readings.

NVML is the real source on the stand-in of its library (tests/fake_nvml).
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import firmware
from fake_nvml.build import build

from exporter.catalogue import catalogue
from exporter.sources.base import READ_GROUPS, Group
from exporter.sources.nvml_symbols import SYMBOLS
from exporter.sources.simulated import SimulatedSource
from fleetmedic.hardware.state import Hardware
from fleetmedic.progress.process import pid_namespace

FAKE = Path(__file__).parent.parent / "fake_nvml"
NOW = 1_800_000_000.0
# Counted from the start of the NVML source, so that wraps of 32 bits are no jumps.
SINCE_START = {"gpu_pcie_receive_bytes_total", "gpu_pcie_transmit_bytes_total"}
# Cards of this shape do not have them, or they are off unless asked for.
NOT_GIVEN = {
    "gpu_fan_speed_ratio": "no fan on the module",
    "gpu_retired_pages_total": "before Ampere",
    "gpu_retired_pages_pending": "before Ampere",
    "gpu_mig_info": "not partitioned",
    "gpu_mig_memory_total_bytes": "not partitioned",
    "gpu_mig_memory_used_bytes": "not partitioned",
    "gpu_mig_sm_active_ratio": "not partitioned",
    "gpu_process_memory_bytes": "no process on an idle GPU",
    "gpu_process_sm_ratio": "the stand-in does not tell it",
}
SCENARIOS: dict[str, dict[str, Any]] = {
    "healthy": {},
    "hot": {"heat": 40.0},
    "slow": {"speed": 0.7},
    "ecc": {"ecc_uncorrected": 3, "ecc_corrected": 70, "remap_pending": True},
    "sram": {"sram_uncorrected": 2, "sram_exceeded": True},
    "remap failed": {"remap_failure": True, "banks_exhausted": 2},
    "links down": {"links_down": 5, "link_errors": 12, "pcie_width": 8, "pcie_replays": 4},
    "fabric": {"fabric_unhealthy": True, "recovery": 1},
    "brake": {"power_brake": True},
    "held down by the driver for its heat": {"software_slowdown": True},
    "an older card, whose pages wait": {"retired_pages": 3, "pages_pending": True},
    "stray process": {"stray_pid": 4711},
}
Values = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS"):
            pytest.fail("there is no C compiler for the stand-in of NVML: install gcc")
        pytest.skip("there is no C compiler for the stand-in of NVML")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path / "hardware")
    made.create(1, 2)
    load = f"utilization=0.93\nmemory=0.7\npid=4242\nat={NOW}\n"
    (made.root / "node1" / "gpu0.load").write_text(load)
    return made


@pytest.fixture
def nvml(library: Path, hardware: Hardware) -> Iterator[Any]:
    """Reads everything through the real source, in a process that finds the stand-in."""

    def read() -> Any:
        firmware.write(hardware, "node1", NOW)
        environment = {
            **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_DIR": str(hardware.root / "node1"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-P", str(FAKE / "dump.py")],
            env=environment, capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        return json.loads(done.stdout)

    return read


def simulated(hardware: Hardware, slot: int, group: Group) -> Values:
    source = SimulatedSource(hardware.root, "node1", lambda: None)
    return {(name, labels): value for name, labels, value in source.read(slot, group, NOW)}


def given(found: Any, slot: int, group: Group) -> Values:
    rows = found["gpus"][str(slot)][group]
    return {(name, tuple(labels)): value for name, labels, value in rows}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_sources_say_the_same(scenario: str, hardware: Hardware, nvml: Any) -> None:
    hardware.change("node1", 0, **SCENARIOS[scenario])
    found = nvml()
    for slot in (0, 1):
        for group in READ_GROUPS:
            here = simulated(hardware, slot, group)
            there = given(found, slot, group)
            assert {key for key in here if key[0] not in SINCE_START} == {
                key for key in there if key[0] not in SINCE_START
            }, group
            for key, value in here.items():
                if key[0] not in SINCE_START:
                    assert there[key] == pytest.approx(value, rel=1e-12), key
    assert found["errors"] == {}


@pytest.mark.parametrize(("space", "named"), [(0, True), (pid_namespace(), True), (1, False)])
def test_a_process_of_another_container_is_counted_and_not_named(
    hardware: Hardware, space: int, named: bool
) -> None:
    with (hardware.root / "node1" / "gpu0.load").open("a") as load:
        load.write(f"namespace={space}\n")
    found = simulated(hardware, 0, "processes")
    assert found["gpu_processes", ("compute",)] == 1
    assert (("gpu_process_memory_bytes", ("4242", "")) in found) is named


def test_a_partitioned_gpu_shows_its_parts_in_both(hardware: Hardware, nvml: Any) -> None:
    hardware.change("node1", 1, mig=True)
    here, there = simulated(hardware, 1, "mig"), given(nvml(), 1, "mig")
    assert here.keys() == {key for key in there if key[0] != "gpu_mig_sm_active_ratio"}
    assert ("gpu_mig_memory_total_bytes", ("1", "0")) in here


@pytest.mark.parametrize("group", READ_GROUPS)
def test_every_reading_is_a_row_of_the_catalogue(group: Group, hardware: Hardware) -> None:
    for name, labels in simulated(hardware, 0, group):
        metric = catalogue().get(name)
        assert metric.collector == f"gpu_{group}"
        assert len(metric.labels) == 2 + len(labels), name


def test_the_simulated_source_gives_every_family(hardware: Hardware) -> None:
    names = {name for group in READ_GROUPS for name, _ in simulated(hardware, 1, group)}
    families = {
        metric.name for group in READ_GROUPS for metric in catalogue().of_collector(f"gpu_{group}")
    }
    assert families - names == NOT_GIVEN.keys()


def test_a_lost_gpu_is_lost_and_the_others_are_read(hardware: Hardware, nvml: Any) -> None:
    hardware.change("node1", 0, lost=True)
    found = nvml()
    assert list(found["gpus"]) == ["0"]  # a new connection does not see the lost one
    assert given(found, 0, "load")


@pytest.mark.parametrize(
    ("line", "sentence"), [("mismatch=1", "different versions"), ("loaded=0", "not loaded")]
)
def test_a_library_that_does_not_start_says_what_to_do(
    line: str, sentence: str, hardware: Hardware, nvml: Any
) -> None:
    (hardware.root / "node1" / "driver").write_text(line + "\n")
    assert sentence in nvml()["failed"]


def test_a_call_that_fails_is_counted_by_its_code_and_costs_one_family(
    hardware: Hardware, nvml: Any
) -> None:
    (hardware.root / "node1" / "driver").write_text("error=nvmlDeviceGetRemappedRows:999\n")
    found = nvml()
    assert found["errors"]["999"] >= 1
    names = {name for name, _ in given(found, 0, "health")}
    assert "gpu_row_remap_pending" not in names
    assert "gpu_ecc_errors_total" in names


def test_an_older_driver_lacks_families_and_is_no_error(
    hardware: Hardware, tmp_path: Path, library: Path
) -> None:
    old = build(tmp_path / "old", old=True)
    firmware.write(hardware, "node1", NOW)
    done = subprocess.run(
        [sys.executable, "-P", str(FAKE / "dump.py")], capture_output=True, text=True, check=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(old), "FAKE_NVML_DIR": str(hardware.root / "node1")},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["errors"] == {}
    assert given(found, 0, "gpm") == {}
    names = {name for name, _ in given(found, 0, "load")}
    assert {"gpu_memory_used_bytes", "gpu_clock_event_active"} <= names
    assert "gpu_memory_reserved_bytes" not in names


def test_the_stand_in_has_every_symbol_that_is_called(library: Path) -> None:
    loaded = ctypes.CDLL(str(library / "libnvidia-ml.so.1"))
    assert [symbol for symbol in SYMBOLS.values() if not hasattr(loaded, symbol)] == []
