"""The messages of the rounds over the GPUs."""

from itertools import pairwise
from pathlib import Path

import pytest

from exporter.reading.heartbeat import SIZE, Heartbeat, decode
from exporter.reading.protocol import Devices, GroupReadings, Lost, Message, Present
from exporter.reading.rounds import ReadSchedule, Rounds, reconnect_interval
from exporter.sources.base import BusGpu, Device, Group, Reading, SourceFailed, SourceLost
from exporter.sources.simulated import SimulatedSource
from fleetmedic.hardware.state import Hardware


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(1, 3)
    return made


def source(hardware: Hardware) -> SimulatedSource:
    return SimulatedSource(hardware.root, "node1", lambda: None)


def rounds(hardware: Hardware, *left_out: int) -> Rounds:
    return Rounds(source(hardware), dict.fromkeys(left_out), {"load": 2.0, "health": 5.0})


def seen(messages: list[Message], kind: type) -> list[int]:
    return [m.slot for m in messages if isinstance(m, kind)]  # type: ignore[attr-defined]


class Watched:
    """A source that records the heartbeat at each call."""

    name = "watched"

    def __init__(self, gpus: int = 2) -> None:
        self.memory = bytearray(SIZE)
        self.heartbeat = Heartbeat(self.memory)
        self.count = gpus
        self.calls: list[tuple[str, int | None, str | None]] = []
        self.gone: set[int] = set()
        self.broken: set[str] = set()
        self.refreshed = 0

    def _note(self, what: str) -> None:
        beat = decode(bytes(self.memory), 0.0)
        self.calls.append((what, beat.slot, beat.group))

    def open(self) -> None: ...

    def refresh(self) -> None:
        self.refreshed += 1

    def slots(self) -> tuple[int, ...]:
        return tuple(range(self.count))

    def bus(self) -> tuple[BusGpu, ...]:
        return tuple(BusGpu(f"0000:{0x10 + n:02x}:00.0") for n in range(self.count))

    def identify(self, slot: int) -> Device:
        self._note("identify")
        return Device(slot, f"GPU-{slot}", f"0000:{0x10 + slot:02x}:00.0")

    def presence(self, slot: int) -> None:
        self._note("presence")
        if slot in self.gone:
            raise SourceLost(slot)

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        self._note(group)
        if group in self.broken:
            raise ZeroDivisionError
        return ()

    def errors(self) -> dict[str, int]:
        return {}


def watched(going: Watched, **given: object) -> Rounds:
    return Rounds(going, {}, {"load": 2.0}, heartbeat=going.heartbeat, **given)  # type: ignore[arg-type]


def test_every_call_stands_in_the_heartbeat_before_it_is_made() -> None:
    source = Watched()
    list(watched(source).once(100.0))
    assert source.calls == [
        ("identify", 0, "identify"), ("identify", 1, "identify"),
        ("presence", 0, "presence"), ("presence", 1, "presence"),
        ("load", 0, "load"), ("load", 1, "load"),
    ]  # fmt: skip


def test_who_is_there_is_asked_of_all_before_anything_else_is_read() -> None:
    kinds = [type(message).__name__ for message in watched(Watched()).once(100.0)]
    assert kinds == [
        "Slots",
        "Devices",
        "Present",
        "Present",
        "GroupReadings",
        "GroupReadings",
        "Round",
    ]


def test_a_known_gpu_is_not_identified_again_at_every_look() -> None:
    source = Watched(1)
    going = watched(source)
    for second in range(30):
        list(going.once(100.0 + second))
    assert [call[0] for call in source.calls].count("identify") == 1


def test_another_number_of_gpus_is_seen_in_the_next_round() -> None:
    source = Watched(2)
    going = watched(source)
    list(going.once(100.0))
    source.count = 1
    [devices] = [m for m in going.once(101.0) if isinstance(m, Devices)]
    assert [device.slot for device in devices.found] == [0]
    source.count = 2
    [devices] = [m for m in going.once(102.0) if isinstance(m, Devices)]
    assert [device.slot for device in devices.found] == [0, 1]


def test_when_the_driver_numbers_anew_what_was_left_out_by_number_is_read() -> None:
    source = Watched(2)
    going = Rounds(source, {1: None}, {"load": 2.0}, count=3)
    [devices] = [m for m in going.once(100.0) if isinstance(m, Devices)]
    assert devices.left_out == ()
    with pytest.raises(SourceFailed):
        list(Rounds(source, {}, {"load": 2.0}, count=3, only=frozenset((1,))).once(100.0))


def test_groups_that_are_left_out_are_not_read_but_the_gpu_is_asked() -> None:
    source = Watched(1)
    going = Rounds(
        source, {0: frozenset(("load",))}, {"load": 2.0, "health": 5.0}, heartbeat=source.heartbeat
    )
    list(going.once(100.0))
    assert [call[0] for call in source.calls] == ["identify", "presence", "health"]
    going.apply_command("skip 0 -")
    assert "load" in [m.group for m in going.once(101.0) if isinstance(m, GroupReadings)]
    going.apply_command("skip 0 *")
    assert not [m for m in going.once(110.0) if isinstance(m, Present | GroupReadings)]


def test_a_worker_told_to_read_one_gpu_reads_no_other() -> None:
    source = Watched(3)
    going = watched(source)
    list(going.once(100.0))
    going.apply_command("only 1")
    messages = list(going.once(110.0))
    assert seen(messages, Present) == seen(messages, GroupReadings) == [1]
    [devices] = [m for m in messages if isinstance(m, Devices)]
    assert devices.left_out == (0, 2)


def test_orders_are_heeded_between_two_gpus() -> None:
    source = Watched(3)
    going = watched(source)
    list(going.once(100.0))
    going.take_commands = lambda wait: going.apply_command("only 0")
    assert seen(list(going.once(101.0)), Present) == [0]


def test_an_order_makes_a_group_due_at_once() -> None:
    source = Watched(1)
    going = watched(source)
    list(going.once(100.0))
    assert not [m for m in going.once(101.0) if isinstance(m, GroupReadings)]
    going.apply_command("read load")
    assert [m for m in going.once(101.5) if isinstance(m, GroupReadings)]


def test_a_mistake_in_one_group_costs_that_group_alone() -> None:
    source = Watched(2)
    source.broken = {"load"}
    values = [m for m in watched(source).once(100.0) if isinstance(m, GroupReadings)]
    assert [(m.slot, m.readings, m.errors) for m in values] == [
        (0, (), {"ZeroDivisionError": 1}), (1, (), {"ZeroDivisionError": 1}),
    ]  # fmt: skip


def test_it_connects_anew_while_a_gpu_is_gone_less_often_with_time() -> None:
    source = Watched(2)
    going = watched(source)
    list(going.once(100.0))
    source.gone = {1}
    at = []
    for second in range(1, 200):
        before = source.refreshed
        list(going.once(100.0 + second))
        if source.refreshed > before:
            at.append(second)
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert at[0] <= 13
    assert gaps[0] == 2
    assert gaps == sorted(gaps)
    assert 30 <= gaps[-1] <= 50


def test_it_connects_anew_at_once_when_told_to_look() -> None:
    source = Watched(1)
    going = watched(source)
    list(going.once(100.0))
    going.apply_command("look")
    list(going.once(101.0))
    list(going.once(102.0))
    assert source.refreshed == 1


def test_a_gpu_that_this_node_had_before_is_looked_for() -> None:
    source = Watched(1)
    going = watched(source, known=2)
    for second in range(4):
        list(going.once(100.0 + second))
    assert source.refreshed == 1


@pytest.mark.parametrize(("lost_for", "wait"), [(0, 2), (8, 2), (40, 10), (4000, 60)])
def test_the_wait_between_two_connections(lost_for: float, wait: float) -> None:
    assert reconnect_interval(lost_for) == wait


def test_a_group_that_takes_long_is_read_for_at_most_half_of_the_time() -> None:
    due = ReadSchedule({"load": 5.0})
    assert due.take_due(0, "load", 100.0)
    assert due.record_duration(0, "load", 20.0) == 40.0
    assert not due.take_due(0, "load", 130.0)
    assert due.take_due(0, "load", 140.0)
    assert due.record_duration(0, "load", 0.1) == 0.0
    assert due.take_due(0, "load", 145.0)


def test_presence_is_asked_each_round_and_the_rest_when_due(hardware: Hardware) -> None:
    going = rounds(hardware)
    given: dict[int, list[str]] = {}
    for second in range(6):
        for message in going.once(100.0 + second):
            if isinstance(message, GroupReadings) and message.slot == 0:
                given.setdefault(second, []).append(message.group)
    assert given == {0: ["load", "health"], 2: ["load"], 4: ["load"], 5: ["health"]}


def test_one_lost_gpu_does_not_keep_the_others_from_being_read(hardware: Hardware) -> None:
    going = rounds(hardware)
    list(going.once(100.0))
    hardware.change("node1", 1, lost=True)
    messages = list(going.once(101.0))
    assert seen(messages, Lost) == [1]
    assert seen(messages, Present) == [0, 2]


def test_a_gpu_that_is_lost_from_the_start_is_not_among_the_devices(hardware: Hardware) -> None:
    hardware.change("node1", 1, lost=True)
    [devices] = [m for m in rounds(hardware).once(100.0) if isinstance(m, Devices)]
    assert [d.slot for d in devices.found] == [0, 2]
    assert len(devices.bus) == 3


def test_a_gpu_that_comes_back_is_found_in_the_next_round(hardware: Hardware) -> None:
    hardware.change("node1", 1, lost=True)
    going = rounds(hardware)
    list(going.once(100.0))
    hardware.change("node1", 1, lost=False)
    assert 1 in seen(list(going.once(101.0)), GroupReadings)


def test_a_gpu_that_is_left_out_is_not_touched_until_included(hardware: Hardware) -> None:
    hardware.change("node1", 1, hung=True)
    going = rounds(hardware, 1)
    messages = list(going.once(100.0))
    assert [m.left_out for m in messages if isinstance(m, Devices)] == [(1,)]
    hardware.change("node1", 1, hung=False)
    going.apply_command("skip 1 -")
    assert 1 in seen(list(going.once(101.0)), GroupReadings)


def test_energy_and_throttled_time_add_up(hardware: Hardware) -> None:
    asked = source(hardware)

    def values(now: float) -> dict[tuple[str, tuple[str, ...]], float]:
        return {(name, labels): value for name, labels, value in asked.read(0, "load", now)}

    first, second = values(100.0), values(102.0)
    energy = ("gpu_energy_joules_total", ())
    watts = second["gpu_power_watts", ("gpu",)]
    assert second[energy] - first[energy] == pytest.approx(2 * watts, rel=0.1)
    assert second["gpu_clock_event_seconds_total", ("hw_thermal_slowdown",)] == 0


def test_a_folder_without_the_node_fails_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="node9"):
        SimulatedSource(tmp_path, "node9", lambda: None).open()
