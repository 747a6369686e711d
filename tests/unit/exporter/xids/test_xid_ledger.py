"""XID counts survive restarts: no XID is lost or counted twice."""

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.boot import BootTime
from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, GpuEvent, Reading
from exporter.xids.kmsg import Batch, KmsgReader, KmsgRecord, Position
from exporter.xids.xid_ledger import HOLD_SECONDS, MAX_RECENT, MAX_UNKNOWN_CODES, XidLedger

BUS = (0, 0x10, 0)
GPUS = {BUS: "GPU-a", (0, 0x20, 0): "GPU-b"}
BOOT = BootTime("boot-1", 1000.0)


def line(sequence: int, text: str, seconds: float = 1.0) -> str:
    return f"4,{sequence},{int(seconds * 1e6)},-;{text}\n"


def xid(code: int, bus: str = "0000:10:00", text: str = "pid=1, name=python") -> str:
    return f"NVRM: Xid (PCI:{bus}): {code}, {text}"


def told(code: int, at: float, uuid: str = "GPU-a") -> tuple[float, GpuEvent]:
    return (at, GpuEvent(uuid, "00000000:10:00.0", "xid", code))


def device(*records: KmsgRecord) -> Batch:
    return Batch(list(records), Position())


def read(ledger: XidLedger, path: Path, boot: BootTime = BOOT, now: float = 9999.0) -> None:
    """One round of the collector with a new reader, as after a restart."""
    ledger.take(KmsgReader(path).read(ledger.totals.position), boot, GPUS, now)
    if ledger.due(now):
        ledger.save(now)


def view(status: GpuStatus, energy: float | None = None, at: float = 0.0) -> NodeSnapshot:
    readings = (Reading("gpu_energy_joules_total", (), energy),) if energy is not None else ()
    groups = {"load": GroupReadings(0, "load", at, readings, {})} if readings else {}
    gpu = GpuSnapshot(0, "GPU-a", Device(0, "GPU-a", "0000:10:00.0"), status, groups)  # type: ignore[arg-type]
    return NodeSnapshot((gpu,), 1, False, "nvml", "", 0, {})


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
    ledger = XidLedger(state)
    done = 0
    for cut, restart in zip([*sorted(cuts), 30], restarts, strict=False):
        with log.open("a") as file:
            file.writelines(line(n, xid(codes[n]), n) for n in range(done, cut))
        done = max(done, cut)
        read(ledger, log)
        if restart:
            ledger = XidLedger(state)
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"31": 15, "79": 5, "13": 5, "48": 5}}
    assert ledger.totals.latest["GPU-a"]["31"] == 1000.0 + 29
    assert ledger.totals.dropped == 0


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(seed=st.integers(0, 10_000))
def test_a_storm_told_by_both_while_the_exporter_is_killed_counts_every_line_once(
    tmp_path_factory, seed: int
) -> None:  # fmt: skip
    """Killed before or after saving, in any round; the driver's events of that round are lost."""
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("storm")
    log, state = folder / "kmsg", folder / "xid.json"
    ledger, reader = XidLedger(state), KmsgReader(log)
    log.touch()
    sequence, live, wanted = 0, False, {"31": 0, "79": 0}
    for second in range(30):
        now = 1000.0 + second
        events = []
        with log.open("a") as file:
            for _ in range(draw.randrange(30)):
                code = draw.choice((31, 79))
                wanted[str(code)] += 1
                at = now - draw.random()
                file.write(line(sequence, xid(code), at - 1000.0 + 1))
                sequence += 1
                if draw.random() < 0.7:
                    events.append(told(code, at))
        batch = reader.read(ledger.totals.position)
        ledger.take(batch, BootTime("boot-1", 999.0), GPUS, now, live=live, driver_events=events)
        live = True
        if draw.random() < 0.8 and ledger.due(now):
            ledger.save(now)
        if draw.random() < 0.3:
            ledger, reader, live = XidLedger(state), KmsgReader(log), False
    ledger.take(reader.read(ledger.totals.position), BOOT, GPUS, 1031.0, live=live)
    assert ledger.totals.counts.get("GPU-a", {}) == {c: n for c, n in wanted.items() if n}
    assert ledger.totals.dropped == 0


def test_what_a_fifo_gave_to_a_killed_exporter_counts_as_dropped(tmp_path: Path) -> None:
    state = tmp_path / "xid.json"
    ledger = XidLedger(state)
    for number in range(3):
        batch = Batch([KmsgRecord(number, 1, xid(31))], Position(), gone=True)
        ledger.take(batch, BOOT, GPUS, 1001.0)
        if number < 2:
            ledger.save(1001.0)
    ledger = XidLedger(state)
    ledger.take(Batch([KmsgRecord(3, 1, xid(31))], Position(), gone=True), BOOT, GPUS, 1001.0)
    assert ledger.totals.counts["GPU-a"]["31"] + ledger.totals.dropped == 4


def test_a_quiet_night_is_no_gap(tmp_path: Path) -> None:
    """The position of lines without an event is rarely saved; such lines do not count as dropped when the
    ring buffer overwrites them."""
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(0, 1, xid(31))), BOOT, GPUS, 1001.0)
    ledger.save(1001.0)
    for number in range(1, 200):
        ledger.take(
            device(KmsgRecord(number, number, "usb 1-1: new device")), BOOT, GPUS, 1001.0 + number
        )
        if ledger.due(1001.0 + number):
            ledger.save(1001.0 + number)
    ledger = XidLedger(tmp_path / "xid.json")
    ring = device(
        *(KmsgRecord(number, number, "usb 1-1: new device") for number in range(150, 200))
    )
    ledger.take(ring, BOOT, GPUS, 1300.0)
    assert ledger.totals.dropped == 0


def test_a_crash_before_saving_reads_the_same_records_again(tmp_path: Path) -> None:
    log, state = tmp_path / "kmsg", tmp_path / "xid.json"
    log.write_text(line(1, xid(31)))
    crashed = XidLedger(state)
    crashed.take(KmsgReader(log).read(crashed.totals.position), BOOT, GPUS, 9999.0)
    ledger = XidLedger(state)
    read(ledger, log)
    read(XidLedger(state), log)
    assert XidLedger(state).totals.counts == {"GPU-a": {"31": 1}}


def test_a_file_put_in_the_place_of_the_log_is_not_counted_again(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31)))
    read(ledger, log)
    copy = tmp_path / "copy"
    copy.write_text(line(1, xid(31)) + line(2, xid(31)))
    copy.replace(log)
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"31": 2}}


def test_a_device_starts_anew_with_each_boot(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(7, 10, xid(31))), BOOT, GPUS, 9999.0)
    ledger.take(device(KmsgRecord(7, 10, xid(31))), BOOT, GPUS, 9999.0)
    ledger.take(device(KmsgRecord(1, 20, xid(31))), BootTime("boot-2", 5000.0), GPUS, 9999.0)
    assert ledger.totals.counts == {"GPU-a": {"31": 2}}
    assert ledger.totals.latest == {"GPU-a": {"31": 5000.00002}}


def test_records_of_a_file_belong_to_the_boot_they_were_written_in(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31), 500))
    read(ledger, log)
    with log.open("a") as file:
        file.write(line(2, xid(13), 600))
        file.write(line(3, "Linux version 6.1.0: booting", 0))
        file.write(line(4, xid(48), 5))
    read(ledger, log, BootTime("boot-2", 2000.0))
    assert ledger.totals.latest == {"GPU-a": {"31": 1500.0, "13": 1600.0, "48": 2005.0}}
    assert set(ledger.totals.standing["GPU-a"]) == {"48"}, "a boot ends earlier XIDs"


def test_a_file_seen_first_counts_the_present_boot_only(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(
        line(1, xid(79), 500) + line(2, "Linux version 6.1.0: booting", 0) + line(3, xid(48), 5)
    )
    read(ledger, log)
    assert ledger.totals.counts == {"GPU-a": {"48": 1}}


def test_a_gap_counts_as_dropped_and_junk_in_it_is_not_dropped_twice(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 1, "hello"), KmsgRecord(5, 1, "hello")), BOOT, GPUS, 9999.0)
    assert ledger.totals.dropped == 3
    ledger.take(device(KmsgRecord(8, 1, "hello", junk=2)), BOOT, GPUS, 9999.0)
    assert ledger.totals.dropped == 5
    ledger.take(Batch([], Position(), junk=1), BOOT, GPUS, 9999.0)
    ledger.take(device(KmsgRecord(10, 1, "hello")), BOOT, GPUS, 9999.0)
    assert ledger.totals.dropped == 6


def test_an_error_of_a_gpu_that_is_found_later_is_given_to_it(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 1, xid(31))), BOOT, {}, 2000.0)
    ledger.take(device(KmsgRecord(2, 1, xid(31, "0000:99:00"))), BOOT, {}, 3000.0)
    ledger.save()
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(), BOOT, GPUS, 3001.0)
    assert ledger.totals.counts == {"GPU-a": {"31": 1}}
    assert ledger.totals.unmatched == 0
    ledger.take(device(), BOOT, GPUS, 3002.0 + HOLD_SECONDS)
    assert ledger.totals.unmatched == 1
    assert ledger.totals.homeless == []


def test_the_same_error_from_both_witnesses_counts_once(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(), BOOT, GPUS, 1010.0, driver_events=[told(79, 1009.5)])
    ledger.save()
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 9_500_000, xid(79))), BOOT, GPUS, 1011.0, live=True)
    ledger.take(
        device(KmsgRecord(2, 9_600_000, "NVRM: GPU 0000:10:00.0: GPU has fallen off the bus.")),
        BOOT, GPUS, 1011.0, live=True,
    )  # fmt: skip
    assert ledger.totals.counts == {"GPU-a": {"79": 1}}
    assert ledger.totals.sources == {"nvml": 1, "kernel": 1}
    (recent,) = ledger.totals.recent
    assert (recent.source, recent.count, recent.code) == ("both", 1, 79)
    assert "Xid" in recent.text


def test_the_drivers_event_is_known_by_uuid_or_by_bus_and_only_xids_are_counted(
    tmp_path: Path,
) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    events = [
        told(31, 1009.0, uuid="GPU-b"),
        told(31, 1009.0, uuid=""),
        (1009.0, GpuEvent("GPU-a", "", "recovery", 2)),
    ]
    ledger.take(device(), BOOT, GPUS, 1010.0, driver_events=events)
    assert ledger.totals.counts == {"GPU-b": {"31": 1}, "GPU-a": {"31": 1}}


def test_a_clock_of_the_log_that_drifted_does_not_make_two_events_of_one(tmp_path: Path) -> None:
    """After months of uptime, the log's clock differs from the wall clock by seconds."""
    ledger = XidLedger(tmp_path / "xid.json")
    for number, now in enumerate((5000.0, 5100.0, 5200.0)):
        late = now - 1000.0 - 20.0  # the log is 20 s behind
        ledger.take(
            device(KmsgRecord(number, int(late * 1e6), xid(79))), BOOT, GPUS, now,
            live=True, driver_events=[told(79, now - 0.5)],
        )  # fmt: skip
    assert ledger.totals.counts == {"GPU-a": {"79": 3}}
    assert abs(ledger.totals.latest["GPU-a"]["79"] - 5200.0) < 1.5


def test_codes_that_nobody_knows_are_bounded(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text("".join(line(n, xid(n)) for n in range(200, 900)))
    read(ledger, log)
    counts = ledger.totals.counts["GPU-a"]
    assert len(counts) == MAX_UNKNOWN_CODES + 1
    assert sum(counts.values()) == 700
    assert len(ledger.totals.recent) <= MAX_RECENT


def test_switches_and_their_codes_are_counted_and_bounded(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    switch = "nvidia-nvswitch1: SXid (PCI:0000:{:02x}:00.0): {}, Fatal, Link 3"
    records = [KmsgRecord(n, 1, switch.format(n % 200, 20034)) for n in range(200)]
    ledger.take(device(*records), BOOT, GPUS, 9999.0)
    assert len(ledger.totals.switches) == 65
    assert sum(sum(codes.values()) for codes in ledger.totals.switches.values()) == 200
    assert ledger.totals.switches["0000:01:00.0"] == {"20034": 1}
    assert ledger.totals.recent[0].kind == "sxid"


def test_events_of_the_host_are_counted(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    text = "Memory cgroup out of memory: Killed process 4321 (python) total-vm:1kB"
    ledger.take(device(KmsgRecord(1, 1, text), KmsgRecord(2, 1, text)), BOOT, GPUS, 9999.0)
    assert ledger.totals.kernel == {"oom_kill": 2}


def test_a_time_stamp_never_lies_in_the_future(tmp_path: Path) -> None:
    log, ledger = tmp_path / "kmsg", XidLedger(tmp_path / "xid.json")
    log.write_text(line(1, xid(31), 1e9))
    read(ledger, log, now=2000.0)
    assert ledger.totals.latest == {"GPU-a": {"31": 2000.0}}


def test_a_damaged_state_file_starts_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "xid.json").write_text('{"boot_id": 3}')
    assert XidLedger(tmp_path / "xid.json").totals.counts == {}


def test_a_state_file_of_the_first_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "xid.json").write_text(
        '{"boot_id":"boot-1","boot_at":1000.0,"sequence":7,"position":{"inode":0,"offset":0},'
        '"counts":{"GPU-a":{"31":4}},"latest":{"GPU-a":{"31":1001.0}},"losses":{},"dropped":2}'
    )
    totals = XidLedger(tmp_path / "xid.json").totals
    assert (totals.counts, totals.sequence, totals.dropped) == ({"GPU-a": {"31": 4}}, 7, 2)


def standing(ledger: XidLedger) -> dict[str, str]:
    return {code: each.action for code, each in ledger.totals.standing.get("GPU-a", {}).items()}


def test_what_calls_for_something_stands_until_a_reset_is_seen(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(1, 1, xid(62)), KmsgRecord(2, 1, xid(63))), BOOT, GPUS, 1010.0)
    assert standing(ledger) == {"62": "reset_gpu"}
    ledger.observe(view(GpuStatus.UP), 1011.0)
    ledger.observe(view(GpuStatus.HUNG), 1012.0)
    ledger.observe(view(GpuStatus.UP), 1013.0)
    assert standing(ledger) == {"62": "reset_gpu"}, "a response does not prove a reset"
    ledger.observe(view(GpuStatus.LOST), 1014.0)
    ledger.save()
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.observe(view(GpuStatus.UNKNOWN), 1015.0)
    assert standing(ledger) == {"62": "reset_gpu"}
    ledger.observe(view(GpuStatus.UP), 1016.0)
    assert standing(ledger) == {}


def test_energy_that_begins_anew_is_a_reset(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(), BOOT, GPUS, 1000.0)
    ledger.observe(view(GpuStatus.UP, 5e6, 1005.0), 1005.0)
    ledger.take(device(KmsgRecord(1, 2_000_000, xid(62))), BOOT, GPUS, 1005.0)
    ledger.take(device(KmsgRecord(2, 9_000_000, xid(119))), BOOT, GPUS, 1009.0)
    ledger.observe(view(GpuStatus.UP, 10.0, 1010.0), 1010.0)
    assert standing(ledger) == {"119": "reset_gpu"}, "an XID that may be newer than the reset stays"
    ledger.observe(view(GpuStatus.UP, 20.0, 1015.0), 1015.0)
    assert standing(ledger) == {"119": "reset_gpu"}


def test_the_line_of_a_recovery_action_stands_for_what_it_says_last(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    change = "GPU recovery action changed from 0x0 (x) to 0x{} (y)"
    for number, (code, wanted) in enumerate((("2", "reboot_node"), ("1", "reset_gpu"))):
        ledger.take(
            device(KmsgRecord(number, number, xid(154, text=change.format(code)))),
            BOOT,
            GPUS,
            1010.0,
        )
        assert standing(ledger) == {"154": wanted}
    ledger.take(device(KmsgRecord(5, 5, xid(62)), KmsgRecord(6, 6, xid(154, text=change.format(0)))),
                BOOT, GPUS, 1010.0)  # fmt: skip
    assert standing(ledger) == {}, "the driver reports that no recovery is needed any more"


def test_a_nonfatal_link_error_asks_for_nothing_and_takes_back_nothing(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    said = "RLW_REMAP {} XC0 i0 Link 00 (0x4 0x1)"
    ledger.take(
        device(KmsgRecord(1, 1, xid(145, text=said.format("Nonfatal")))), BOOT, GPUS, 1010.0
    )
    assert standing(ledger) == {}
    ledger.take(device(), BOOT, GPUS, 1010.0, driver_events=[told(145, 1010.0)])
    assert standing(ledger) == {}
    ledger.take(device(KmsgRecord(2, 2, xid(145, text=said.format("Fatal")))), BOOT, GPUS, 1010.0)
    ledger.take(
        device(KmsgRecord(3, 3, xid(145, text=said.format("Nonfatal")))), BOOT, GPUS, 1010.0
    )
    assert standing(ledger) == {"145": "drain_reset"}


def test_a_storm_is_one_recent_event_with_a_count(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(
        device(*(KmsgRecord(n, n * 1000, xid(31)) for n in range(5000))), BOOT, GPUS, 1010.0
    )
    (recent,) = ledger.totals.recent
    assert (recent.count, recent.name, recent.device) == (5000, "GPU memory page fault", "GPU-a")


def test_a_storm_of_many_kinds_leaves_room_for_the_others(tmp_path: Path) -> None:
    ledger = XidLedger(tmp_path / "xid.json")
    records = [KmsgRecord(n, n * 1000, xid(100 + n % 150)) for n in range(3000)]
    ledger.take(device(*records), BOOT, GPUS, 1010.0)
    assert len(ledger.totals.recent) == 150
    assert {recent.count for recent in ledger.totals.recent} == {20}
    ledger.save()
    ledger = XidLedger(tmp_path / "xid.json")
    ledger.take(device(KmsgRecord(5000, 3_100_000, xid(100))), BOOT, GPUS, 1010.0)
    assert len(ledger.totals.recent) == 150
    ledger.take(
        device(*(KmsgRecord(6000 + n, 4_000_000, xid(300 + n)) for n in range(120))),
        BOOT,
        GPUS,
        1010.0,
    )
    assert len(ledger.totals.recent) == MAX_RECENT
    assert ledger.totals.recent[-1].code == 419
