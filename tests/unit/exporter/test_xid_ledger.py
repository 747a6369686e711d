"""XID counts survive restarts: none is lost, none counted twice."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.boot import BootTime
from exporter.kmsg import KmsgReader, Position, Record
from exporter.xid_ledger import MAX_UNKNOWN_CODES, Ledger

BUS = (0, 0x10, 0)
GPUS = {BUS: "GPU-a"}
BOOT = BootTime("boot-1", 1000.0)


def line(sequence: int, text: str, seconds: float = 1.0) -> str:
    return f"4,{sequence},{int(seconds * 1e6)},-;{text}\n"


def xid(code: int, bus: str = "0000:10:00") -> str:
    return f"NVRM: Xid (PCI:{bus}): {code}, pid=1, name=python"


def read(ledger: Ledger, path: Path, boot: BootTime = BOOT, now: float = 9999.0) -> None:
    """One round of the collector with a reader of its own, as after a restart."""
    records, position = KmsgReader(path).read(ledger.totals.position)
    ledger.take(records, position, boot, GPUS, now)
    if ledger.dirty:
        ledger.save()


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    cuts=st.lists(st.integers(0, 30), max_size=6),
    restarts=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_however_the_log_grows_and_the_exporter_restarts_the_counts_are_the_same(
    tmp_path_factory, cuts: list[int], restarts: list[bool]
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("ledger")
    log, state = folder / "kmsg", folder / "xid.json"
    codes = [31, 79, 13, 31, 48, 31] * 5
    ledger = Ledger(state)
    done = 0
    for cut, restart in zip([*sorted(cuts), 30], restarts, strict=False):
        with log.open("a") as file:
            file.writelines(line(n, xid(codes[n]), n) for n in range(done, cut))
        done = max(done, cut)
        read(ledger, log)
        if restart:
            ledger = Ledger(state)
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"31": 15, "79": 5, "13": 5, "48": 5}}
    assert ledger.totals.latest["GPU-a"]["31"] == 1000.0 + 29
    assert ledger.totals.dropped == 0


def test_a_crash_before_saving_reads_the_same_records_again(tmp_path: Path) -> None:
    log, state = tmp_path / "kmsg", tmp_path / "xid.json"
    log.write_text(line(1, xid(31)))
    crashed = Ledger(state)
    records, position = KmsgReader(log).read(crashed.totals.position)
    crashed.take(records, position, BOOT, GPUS, 9999.0)
    ledger = Ledger(state)
    read(ledger, log)
    read(Ledger(state), log)
    assert Ledger(state).totals.counts == {"GPU-a": {"31": 1}}


def test_a_file_put_in_the_place_of_the_log_is_not_counted_again(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31)))
    read(ledger, log)
    copy = tmp_path / "copy"
    copy.write_text(line(1, xid(31)) + line(2, xid(31)))
    copy.replace(log)
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"31": 2}}


def test_a_device_starts_anew_with_each_boot(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "xid.json")
    device = Position()
    ledger.take([Record(7, 10, xid(31))], device, BOOT, GPUS, 9999.0)
    ledger.take([Record(7, 10, xid(31))], device, BOOT, GPUS, 9999.0)
    ledger.take([Record(1, 20, xid(31))], device, BootTime("boot-2", 5000.0), GPUS, 9999.0)
    assert ledger.totals.counts == {"GPU-a": {"31": 2}}
    assert ledger.totals.latest == {"GPU-a": {"31": 5000.00002}}


def test_records_of_a_file_belong_to_the_boot_they_were_written_in(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31), 500))
    read(ledger, log)
    with log.open("a") as file:
        file.write(line(2, xid(13), 600))
        file.write(line(3, "Linux version 6.1.0: booting", 0))
        file.write(line(4, xid(48), 5))
    read(ledger, log, BootTime("boot-2", 2000.0))
    assert ledger.totals.latest == {"GPU-a": {"31": 1500.0, "13": 1600.0, "48": 2005.0}}


def test_a_file_seen_first_counts_the_present_boot_only(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text(
        line(1, xid(79), 500) + line(2, "Linux version 6.1.0: booting", 0) + line(3, xid(48), 5)
    )
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"48": 1}}


def test_lost_records_and_foreign_gpus_are_counted_as_such(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text(line(1, "hello") + line(5, xid(31, "0000:99:00")))
    read(ledger, log)
    assert ledger.totals.dropped == 3
    assert ledger.totals.unmatched == 1
    assert ledger.totals.counts == {}


def test_codes_that_nobody_knows_are_bounded(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text("".join(line(n, xid(n)) for n in range(200, 900)))
    read(ledger, log)
    counts = ledger.totals.counts["GPU-a"]
    assert len(counts) == MAX_UNKNOWN_CODES + 1
    assert sum(counts.values()) == 700


def test_a_time_stamp_never_lies_in_the_future(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", Ledger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31), 1e9))
    read(ledger, log, now=2000.0)
    assert ledger.totals.latest == {"GPU-a": {"31": 2000.0}}


def test_a_damaged_state_file_starts_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "xid.json").write_text('{"boot_id": 3}')
    assert Ledger(tmp_path / "xid.json").totals.counts == {}
