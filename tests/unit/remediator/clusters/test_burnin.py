"""What the active test says of a GPU in each state."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from remediator.clusters.burnin import burn_in


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(nodes=1, gpus=2)
    return made


def test_a_healthy_gpu_passes_with_its_figures(hardware: Hardware) -> None:
    result = asyncio.run(burn_in(hardware, "node1", 0, 0.05))
    assert result.passed
    assert "MHz" in result.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("lost", "lost from the bus"),
        ("hang", "does not respond"),
        ("slow", "75% of its clock"),
        ("hot", "40 °C too hot"),
    ],
)
def test_a_sick_gpu_fails_with_the_words_for_it(hardware: Hardware, fault: str, words: str) -> None:
    inject(hardware, "node1", 0, fault)
    result = asyncio.run(burn_in(hardware, "node1", 0, 0.05))
    assert not result.passed
    assert words in result.text


def test_a_row_that_cannot_be_remapped_fails(hardware: Hardware) -> None:
    hardware.change("node1", 0, remap_failure=True)
    assert "remap" in asyncio.run(burn_in(hardware, "node1", 0, 0.05)).text


def test_a_fault_in_the_middle_is_noticed(hardware: Hardware) -> None:
    async def story() -> bool:
        test = asyncio.create_task(burn_in(hardware, "node1", 0, 30.0))
        while not hardware.load("node1", 0, time.time()).utilization:
            await asyncio.sleep(0.005)
        inject(hardware, "node1", 0, "lost")
        return (await test).passed

    assert asyncio.run(story()) is False


def test_a_gpu_that_is_not_there_has_not_passed(hardware: Hardware) -> None:
    result = asyncio.run(burn_in(hardware, "node1", 7, 0.05))
    assert not result.passed
    assert "could not be tested" in result.text


def test_the_load_is_gone_afterwards(hardware: Hardware) -> None:
    asyncio.run(burn_in(hardware, "node1", 0, 0.05))
    assert hardware.load("node1", 0, time.time()).utilization == 0.0
