"""A job fails or slows only because of what the hardware folder says."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.hardware.workload import GpuGroup, GpuLostError


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(nodes=1, gpus=4)
    return made


def _group(hardware: Hardware) -> GpuGroup:
    return GpuGroup(hardware.root, "node1", [0, 1, 2, 3])


def test_a_healthy_step_takes_its_time_and_tells_the_load(hardware: Hardware) -> None:
    assert 0.01 <= _group(hardware).step(0.01) < 1
    loads = [hardware.load("node1", index, time.time()) for index in range(4)]
    assert all(load.utilization == 0.96 and load.memory == 0.72 for load in loads)


def test_the_slowest_gpu_sets_the_pace_and_the_others_wait(hardware: Hardware) -> None:
    inject(hardware, "node1", 2, "slow", speed=0.5)
    assert _group(hardware).step(0.05) >= 0.1
    loads = [hardware.load("node1", index, time.time()).utilization for index in range(4)]
    assert loads == [0.48, 0.48, 0.96, 0.48]


def test_a_lost_gpu_ends_the_step_and_is_named(hardware: Hardware) -> None:
    group = _group(hardware)
    group.step(0.001)
    inject(hardware, "node1", 3, "lost")
    with pytest.raises(GpuLostError, match="device 3 of node1 is lost"):
        group.step(0.001)


def test_a_hung_gpu_blocks_the_step_until_it_answers(hardware: Hardware) -> None:
    inject(hardware, "node1", 1, "hang")
    done = threading.Event()

    def step() -> None:
        _group(hardware).step(0.001)
        done.set()

    worker = threading.Thread(target=step)
    worker.start()
    assert not done.wait(0.1)
    inject(hardware, "node1", 1, "heal")
    assert done.wait(5)
    worker.join()


def test_a_fault_of_another_gpu_does_not_matter(hardware: Hardware) -> None:
    inject(hardware, "node1", 3, "lost")
    assert GpuGroup(hardware.root, "node1", [0, 1]).step(0.001) < 1
