"""Each fault looks as the driver and the kernel log would show it, and nothing else changes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import FAULTS, NAMES, inject
from fleetmedic.hardware.state import GpuState, Hardware
from fleetmedic.kernel.errors import UserError


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(nodes=1, gpus=2)
    return made


def _changed(before: GpuState, after: GpuState) -> dict[str, object]:
    old = asdict(before)
    marks = ("fault", "fault_at", "heals_by")
    return {key: v for key, v in asdict(after).items() if v != old[key] and key not in marks}


def _messages(hardware: Hardware) -> list[str]:
    return [line.split(";", 1)[1] for line in hardware.kmsg_path("node1").read_text().splitlines()]


@pytest.mark.parametrize(
    ("fault", "changes", "log"),
    [
        (
            "lost",
            {"lost": True},
            [
                "NVRM: Xid (PCI:0000:20:00): 79, pid='<unknown>', name=<unknown>, "
                "GPU has fallen off the bus.",
                "NVRM: GPU 0000:20:00.0: GPU has fallen off the bus.",
            ],
        ),
        ("hang", {"hung": True}, []),
        ("slow", {"speed": 0.75}, []),
        ("hot", {"heat": 40.0}, []),
        (
            "ecc",
            {"ecc_uncorrected": 1, "remap_pending": True},
            [
                "NVRM: Xid (PCI:0000:20:00): 48, pid='<unknown>', name=<unknown>, "
                "DBE (double bit error)."
            ],
        ),
        ("xid", {}, ["NVRM: Xid (PCI:0000:20:00): 31, pid=4242, name=python, Ch 00000008"]),
    ],
)
def test_a_fault_shows_in_the_state_and_in_the_kernel_log(
    hardware: Hardware, fault: str, changes: dict[str, object], log: list[str]
) -> None:
    before, neighbour = hardware.gpu("node1", 1), hardware.gpu("node1", 0)
    at = inject(hardware, "node1", 1, fault)
    assert _changed(before, hardware.gpu("node1", 1)) == changes
    assert _messages(hardware) == log
    assert hardware.gpu("node1", 0) == neighbour
    assert at == pytest.approx(time.time(), abs=5)


def test_every_fault_is_tried_here_and_described() -> None:
    assert NAMES == ("lost", "hang", "slow", "xid", "ecc", "hot", "heal")
    assert all(fault.summary for fault in FAULTS)


def test_a_slow_gpu_says_nothing_but_fails_a_burn_in(hardware: Hardware) -> None:
    inject(hardware, "node1", 1, "slow", speed=0.8)
    assert not hardware.gpu("node1", 1).healthy
    assert _messages(hardware) == []


def test_an_application_xid_leaves_the_gpu_healthy(hardware: Hardware) -> None:
    inject(hardware, "node1", 1, "xid", xid=13, count=3)
    assert len(_messages(hardware)) == 3
    assert hardware.gpu("node1", 1).healthy
    assert hardware.gpu("node1", 1).fault == ""


@pytest.mark.parametrize("fault", ["lost", "hang", "slow", "hot", "ecc"])
def test_heal_takes_every_fault_away(hardware: Hardware, fault: str) -> None:
    inject(hardware, "node1", 1, fault, heals_by="none")
    inject(hardware, "node1", 1, "heal")
    state = hardware.gpu("node1", 1)
    assert state.healthy
    assert (state.fault, state.heals_by, state.remap_pending) == ("", "reset", False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fault": "explode"}, "FAULT: expected one of lost"),
        ({"fault": "slow", "speed": 1.0}, "--speed: expected a fraction"),
        ({"fault": "slow", "speed": float("nan")}, "--speed: expected a fraction"),
        ({"fault": "xid", "xid": 0}, "expected --xid from 1 to 999"),
        ({"fault": "xid", "count": 1001}, "--count from 1 to 1000"),
        ({"fault": "lost", "index": 7}, "no GPU 7"),
        ({"fault": "lost", "node": "nodeX"}, "nodeX"),
        ({"fault": "lost", "heals_by": "prayer"}, "reset, reboot or none"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    hardware: Hardware, arguments: dict[str, object], sentence: str
) -> None:
    before = hardware.gpu("node1", 1)
    given = {"node": "node1", "index": 1, **arguments}
    with pytest.raises(UserError, match=sentence):
        inject(hardware, **given)  # type: ignore[arg-type]
    assert hardware.gpu("node1", 1) == before
    assert _messages(hardware) == []
