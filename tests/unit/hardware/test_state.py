"""The hardware folder is the one truth of simulated machines: made once, read by all, healed there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import LOAD_TTL, Boot, Hardware
from fleetmedic.kernel.errors import UserError


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(nodes=2, gpus=4)
    return made


def _content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_node_that_is_not_there_is_named_with_those_that_are(hardware: Hardware) -> None:
    with pytest.raises(UserError, match=r"unknown node 'node9'\. Expected one of: node1, node2"):
        hardware.gpu("node9", 3)
    with pytest.raises(UserError, match=r"node 'node1' has no GPU 9\. Expected one of: 0, 1, 2, 3"):
        hardware.gpu("node1", 9)


def test_bytes_that_are_no_text_are_damage_and_no_traceback(hardware: Hardware) -> None:
    (hardware.root / "node1" / "gpu3.state").write_bytes(b"garbage\0\xff")
    (hardware.root / "node1" / "gpu2.load").write_bytes(b"\xff")
    (hardware.root / "node1" / "boot").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"gpu3\.state: damaged"):
        hardware.gpu("node1", 3)
    with pytest.raises(UserError, match="boot: damaged"):
        hardware.boot("node1")
    assert hardware.load("node1", 2, time.time()).utilization == 0


def test_machines_start_healthy_with_an_identity_each(hardware: Hardware) -> None:
    assert hardware.nodes() == ["node1", "node2"]
    assert hardware.gpus("node1") == [0, 1, 2, 3]
    states = [hardware.gpu(node, gpu) for node in hardware.nodes() for gpu in hardware.gpus(node)]
    assert all(state.healthy for state in states)
    assert len({state.uuid for state in states}) == len({state.serial for state in states}) == 8


def test_create_a_second_time_changes_nothing(hardware: Hardware) -> None:
    inject(hardware, "node1", 2, "lost")
    before = _content(hardware.root)
    hardware.create(nodes=2, gpus=4)
    assert _content(hardware.root) == before


def test_create_adds_what_is_missing(hardware: Hardware) -> None:
    hardware.kmsg_path("node2").unlink()
    hardware.create(nodes=3, gpus=5)
    assert hardware.nodes() == ["node1", "node2", "node3"]
    assert hardware.gpus("node1") == [0, 1, 2, 3, 4]
    assert hardware.kmsg_path("node2").read_text() == ""


def test_identity_is_the_same_on_every_machine(hardware: Hardware, tmp_path: Path) -> None:
    other = Hardware(tmp_path / "other")
    other.create(nodes=1, gpus=1)
    assert other.gpu("node1", 0).uuid == hardware.gpu("node1", 0).uuid


def test_what_is_not_there_is_one_sentence(hardware: Hardware) -> None:
    with pytest.raises(UserError, match=r"no GPU 9\. Expected one of: 0, 1, 2, 3"):
        hardware.gpu("node1", 9)
    with pytest.raises(UserError, match=r"unknown node 'nodeX'\. Expected one of: node1, node2"):
        hardware.boot("nodeX")
    for act in (hardware.reset, hardware.change):
        with pytest.raises(UserError, match="nodeX"):
            act("nodeX", 0)
    with pytest.raises(UserError, match="nodeX"):
        hardware.reboot("nodeX")


def test_a_damaged_state_file_is_named(hardware: Hardware) -> None:
    path = hardware.root / "node1" / "gpu0.state"
    for text in ("", "uuid=x\n", path.read_text() + "wings=2\n", path.read_text() + "heat=warm\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"gpu0\.state: damaged"):
            hardware.gpu("node1", 0)


def test_a_stray_file_is_no_gpu(hardware: Hardware) -> None:
    (hardware.root / "node1" / "gpu0.copy.state").touch()
    (hardware.root / "node1" / "gpux.state").touch()
    assert hardware.gpus("node1") == [0, 1, 2, 3]


def test_two_writers_lose_nothing(hardware: Hardware) -> None:
    def reset(writer: int) -> None:
        for turn in range(10):
            hardware.reset("node1", 0, f"{writer}-{turn}")
            hardware.log("node1", "x")

    writers = [threading.Thread(target=reset, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert hardware.gpu("node1", 0).resets == 40
    records = hardware.kmsg_path("node1").read_text().splitlines()
    assert [int(record.split(",")[1]) for record in records] == list(range(1, 41))


# Load


def test_load_is_read_back_until_it_expires(hardware: Hardware) -> None:
    hardware.set_load("node1", 0, 0.9, 0.5)
    now = time.time()
    assert hardware.load("node1", 0, now).utilization == 0.9
    assert hardware.load("node1", 0, now + LOAD_TTL - 0.5).memory == 0.5
    assert hardware.load("node1", 0, now + LOAD_TTL + 0.5).utilization == 0.0


def test_a_gpu_that_no_job_has_used_is_idle(hardware: Hardware) -> None:
    assert hardware.load("node1", 1, time.time()).utilization == 0.0


def test_a_damaged_load_is_idle(hardware: Hardware) -> None:
    (hardware.root / "node1" / "gpu0.load").write_text("utilization=much\n")
    assert hardware.load("node1", 0, time.time()).utilization == 0.0


# Reset and reboot


def test_a_reset_heals_what_a_reset_can(hardware: Hardware) -> None:
    inject(hardware, "node1", 0, "lost")
    assert hardware.reset("node1", 0, "op-1") is True
    state = hardware.gpu("node1", 0)
    assert (state.healthy, state.fault, state.resets) == (True, "", 1)


def test_the_same_reset_a_second_time_does_nothing(hardware: Hardware) -> None:
    assert hardware.reset("node1", 0, "op-1") is True
    inject(hardware, "node1", 0, "lost")
    assert hardware.reset("node1", 0, "op-1") is False
    assert hardware.gpu("node1", 0).resets == 1
    assert hardware.reset("node1", 0, "op-2") is True


def test_a_reset_clears_volatile_ecc_counts_and_remaps_the_row(hardware: Hardware) -> None:
    inject(hardware, "node1", 0, "ecc")
    hardware.reset("node1", 0, "op-1")
    state = hardware.gpu("node1", 0)
    assert (state.ecc_uncorrected, state.remap_pending, state.remap_uncorrectable) == (0, False, 1)


@pytest.mark.parametrize(
    ("heals_by", "after_reset", "after_reboot"),
    [("reset", True, True), ("reboot", False, True), ("none", False, False)],
)
def test_the_ladder_a_fault_goes_with_the_rung_that_heals_it(
    hardware: Hardware, heals_by: str, after_reset: bool, after_reboot: bool
) -> None:
    inject(hardware, "node1", 0, "lost", heals_by=heals_by)  # type: ignore[arg-type]
    assert hardware.reset("node1", 0, "op-1") is after_reset
    hardware.reboot("node1", "op-2")
    assert hardware.gpu("node1", 0).healthy is after_reboot


def test_a_reboot_is_a_new_boot_and_the_same_op_id_is_not(hardware: Hardware) -> None:
    before = hardware.boot("node1")
    hardware.reboot("node1", "op-1")
    first = hardware.boot("node1")
    assert first.boot_id != before.boot_id
    assert first.boot_time > before.boot_time
    assert (first.boots, first.last_reboot_op) == (2, "op-1")
    hardware.reboot("node1", "op-1")
    assert hardware.boot("node1") == first
    assert hardware.boot("node2").boots == 1


def test_a_reboot_asked_for_twice_at_once_is_one_boot(hardware: Hardware) -> None:
    start = threading.Barrier(4)

    def reboot() -> None:
        start.wait()
        hardware.reboot("node1", "op-1")

    callers = [threading.Thread(target=reboot) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert hardware.boot("node1").boots == 2


def test_a_reboot_is_in_the_kernel_log_and_stops_what_ran(hardware: Hardware) -> None:
    hardware.set_load("node1", 0, 0.9, 0.5)
    hardware.reboot("node1", "op-1")
    assert "booting" in hardware.kmsg_path("node1").read_text()
    assert hardware.load("node1", 0, time.time()).utilization == 0.0


def test_an_op_id_cannot_break_the_file(hardware: Hardware) -> None:
    for act in (lambda op: hardware.reset("node1", 0, op), lambda op: hardware.reboot("node1", op)):
        with pytest.raises(ValueError, match="one line"):
            act("op\nlost=1")
    assert hardware.gpu("node1", 0).healthy
    assert isinstance(hardware.boot("node1"), Boot)


# The kernel log


def test_kernel_records_are_numbered_and_stamped_since_boot(hardware: Hardware) -> None:
    hardware.log("node1", "first")
    hardware.log("node1", "second", priority=3)
    first, second = hardware.kmsg_path("node1").read_text().splitlines()
    assert first.startswith("4,1,")
    assert first.endswith(",-;first")
    assert second.startswith("3,2,")
    stamp = int(second.split(",")[2]) / 1e6
    assert hardware.boot("node1").boot_time + stamp == pytest.approx(time.time(), abs=5)


def test_a_message_stays_one_record(hardware: Hardware) -> None:
    hardware.log("node1", "two\nlines\rand\x0bmore")
    assert len(hardware.kmsg_path("node1").read_bytes().splitlines()) == 1


def test_a_long_record_and_a_torn_one_do_not_end_the_log(hardware: Hardware) -> None:
    hardware.log("node1", "x" * 10_000)
    hardware.log("node1", "after")
    with hardware.kmsg_path("node1").open("a") as file:
        file.write("torn")
    hardware.log("node1", "last")
    lines = hardware.kmsg_path("node1").read_text().splitlines()
    assert lines[1].startswith("4,2,")
    assert lines[-1].startswith("4,3,")
    assert lines[-1].endswith(";last")
