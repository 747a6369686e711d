"""A group of readings is exported for the GPUs that are up; series of each process only if enabled."""

from pathlib import Path

import pytest

from exporter.boot import ProcBoot
from exporter.collector import CollectorError
from exporter.collector_spec import CollectorContext
from exporter.collectors.gpu import GpuReadings
from exporter.gpu_states import INTERVALS, GpuStates
from exporter.reading.protocol import Devices, GroupReadings, Hello, Lost, Present, Round, Slots
from exporter.registry import COLLECTORS
from exporter.sources.base import Device, Reading

READINGS = (
    Reading("gpu_processes", ("compute",), 1),
    Reading("gpu_process_memory_bytes", ("4242", ""), 5.0),
    Reading("gpu_process_sm_ratio", ("4242", ""), 0.5),
)


@pytest.fixture
def gpu_states(tmp_path: Path) -> GpuStates:
    made = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    found = tuple(Device(slot, f"GPU-{slot}", f"0000:{slot + 1}0:00.0") for slot in range(2))
    for message in (
        Hello("nvml"), Slots((0, 1)), Devices(found, ()), Present(0),
        GroupReadings(0, "processes", 10.0, READINGS), Lost(1), Round(10.0),
    ):  # fmt: skip
        made.apply(message, 10.0)
    return made


def shown(gpu_states: GpuStates, tmp_path: Path, **flags: bool) -> list[str]:
    parts = CollectorContext(
        gpu_states=gpu_states, intervals=INTERVALS, boot=ProcBoot(Path("/proc")), procfs=Path("/proc"),
        kmsg=tmp_path / "kmsg", state_dir=tmp_path, node="node1", cluster_dir=None, progress_dir=None,
        has_gpus=True, log=lambda event, **fields: None,
        flags={name.replace("_", "."): value for name, value in flags.items()},
    )  # fmt: skip
    collector = COLLECTORS.get("gpu_processes").make(parts)
    assert collector is not None
    return [sample.name for sample in collector.collect(10.0)]


def test_a_series_for_each_process_is_shown_only_when_asked_for(
    gpu_states: GpuStates, tmp_path: Path
) -> None:
    assert shown(gpu_states, tmp_path) == ["gpu_processes"]
    assert shown(gpu_states, tmp_path, gpu_processes=True) == [reading.name for reading in READINGS]


def test_of_a_lost_gpu_nothing_is_shown(gpu_states: GpuStates) -> None:
    samples = list(GpuReadings(gpu_states, "processes", 10.0).collect(10.0))
    assert {sample.labels[:2] for sample in samples} == {("0", "GPU-0")}


def test_a_group_that_no_gpu_gives_any_more_has_failed(gpu_states: GpuStates) -> None:
    gpu_states.apply(Present(0), 45.0)
    with pytest.raises(CollectorError, match="no GPU has current values of processes"):
        list(GpuReadings(gpu_states, "processes", 10.0).collect(45.0))
