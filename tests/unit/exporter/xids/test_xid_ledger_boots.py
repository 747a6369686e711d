"""The end of standing XIDs, and how the ledger detects a boot and a clock drift."""

from pathlib import Path

import pytest

from exporter.boot import BootTime
from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, Reading
from exporter.xids.kmsg import Batch, KmsgReader, KmsgRecord, Position
from exporter.xids.xid_ledger import XidLedger

GPUS = {(0, 0x10, 0): "GPU-a", (0, 0x20, 0): "GPU-b"}
BOOT = BootTime("boot-1", 1000.0)


def line(sequence: int, text: str, seconds: float) -> str:
    return f"4,{sequence},{int(seconds * 1e6)},-;{text}\n"


def xid(code: int) -> str:
    return f"NVRM: Xid (PCI:0000:10:00): {code}, pid=1, name=python"


def device(*records: KmsgRecord) -> Batch:
    return Batch(list(records), Position())


def read(ledger: XidLedger, path: Path, boot: BootTime = BOOT) -> None:
    ledger.take(KmsgReader(path).read(ledger.totals.position), boot, GPUS, 9999.0)


def view(status: GpuStatus, energy: float, at: float) -> NodeSnapshot:
    readings = (Reading("gpu_energy_joules_total", (), energy),)
    gpu = GpuSnapshot(
        0, "GPU-a", Device(0, "GPU-a", "0000:10:00.0"), status,
        {"load": GroupReadings(0, "load", at, readings, {})},
    )  # fmt: skip
    return NodeSnapshot((gpu,), 1, False, "nvml", "", 0, {})


def standing(ledger: XidLedger) -> dict[str, str]:
    return {code: each.action for code, each in ledger.totals.standing.get("GPU-a", {}).items()}


def test_a_reset_seen_by_its_energy_is_saved(tmp_path: Path) -> None:
    """Nothing else changes in that round, so without its own save the XID would stand after a restart."""
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 2_000_000, xid(62))), BOOT, GPUS, 1005.0)
    ledger.observe(view(GpuStatus.UP, 5e6, 1005.0), 1005.0)
    ledger.save(1005.0)
    assert standing(XidLedger(tmp_path / "xid.json")) == {"62": "reset_gpu"}
    ledger.observe(view(GpuStatus.UP, 10.0, 1010.0), 1010.0)
    assert ledger.due(1010.0)
    ledger.save(1010.0)
    assert standing(XidLedger(tmp_path / "xid.json")) == {}


def test_a_cure_of_nothing_is_not_written(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 2_000_000, xid(62))), BOOT, GPUS, 1005.0)
    ledger.save(1005.0)
    ledger.clear_unresolved("GPU-a", 1001.9)
    ledger.clear_unresolved("GPU-b", 1009.0)
    assert not ledger.dirty
    assert standing(ledger) == {"62": "reset_gpu"}
    ledger.clear_unresolved("GPU-a", 1002.0)
    assert ledger.dirty


def test_a_boot_is_seen_by_the_first_record_of_the_kernel_alone(tmp_path: Path) -> None:
    """The machine rebooted within a second, so the log's clock hardly went back."""
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(900, xid(62), 0.5))
    read(ledger, log)
    with log.open("a") as file:
        file.write(line(0, "Linux version 6.1.0: booting", 0) + line(1, xid(31), 0.4))
    read(ledger, log, BootTime("boot-2", 2000.0))
    assert ledger.totals.counts == {"GPU-a": {"62": 1, "31": 1}}
    assert set(standing(ledger)) == {"31"}, "a boot ends earlier XIDs"


def test_a_boot_is_seen_by_a_clock_that_runs_backwards_alone(tmp_path: Path) -> None:
    """The first records of that boot were lost."""
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(900, xid(62), 500))
    read(ledger, log)
    with log.open("a") as file:
        file.write(line(7, xid(31), 5))
    read(ledger, log, BootTime("boot-2", 2000.0))
    assert ledger.totals.counts == {"GPU-a": {"62": 1, "31": 1}}
    assert ledger.totals.latest["GPU-a"]["31"] == 2005.0
    assert set(standing(ledger)) == {"31"}


def test_records_in_slight_disorder_are_no_boot(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(1, xid(62), 500))
    read(ledger, log)
    with log.open("a") as file:
        file.write(line(2, xid(31), 499.5) + line(3, xid(31), 498.5))
    read(ledger, log)
    assert set(standing(ledger)) == {"62", "31"}
    assert ledger.totals.counts == {"GPU-a": {"62": 1, "31": 2}}


@pytest.mark.parametrize("drift", [-20.0, 20.0])
def test_a_clock_of_the_log_that_drifted_is_put_right_either_way(
    tmp_path: Path, drift: float
) -> None:
    """The last record is from now and the one before from 10 s ago, regardless of the log's clock."""
    ledger = XidLedger(tmp_path / "xid.json")
    last = 5000.0 - BOOT.at - drift
    batch = device(
        KmsgRecord(1, int((last - 10) * 1e6), xid(31)), KmsgRecord(2, int(last * 1e6), xid(62))
    )
    ledger.take(batch, BOOT, GPUS, 5000.0, live=True)
    assert ledger.totals.latest == {"GPU-a": {"31": 4990.0, "62": 5000.0}}


@pytest.mark.parametrize("drift", [-1.5, 1.5])
def test_a_drift_of_less_than_two_seconds_is_left_as_it_is(tmp_path: Path, drift: float) -> None:
    """The maximum delay between a record and its read."""
    ledger = XidLedger(tmp_path / "xid.json")
    at = int((4000.0 - drift) * 1e6)
    ledger.take(device(KmsgRecord(1, at, xid(31))), BOOT, GPUS, 5000.0, live=True)
    assert ledger.totals.latest == {"GPU-a": {"31": min(5000.0, 5000.0 - drift)}}
