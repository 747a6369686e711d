"""The worker's rounds, as the messages that they send."""

from pathlib import Path

import pytest

from exporter.protocol import (
    Begin,
    Devices,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Values,
    decode,
    encode,
)
from exporter.sources.base import SourceFailed
from exporter.sources.simulated import SimulatedSource
from exporter.worker import Rounds
from fleetmedic.hardware.state import Hardware


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    made = Hardware(tmp_path)
    made.create(1, 3)
    return made


def source(hardware: Hardware) -> SimulatedSource:
    return SimulatedSource(hardware.root, "node1", lambda: None)


def rounds(hardware: Hardware, *left_out: int) -> Rounds:
    return Rounds(source(hardware), set(left_out), {"load": 2.0, "health": 5.0})


def seen(messages: list[Message], kind: type) -> list[int]:
    return [m.slot for m in messages if isinstance(m, kind)]  # type: ignore[attr-defined]


def test_every_call_is_announced_before_it_is_made(hardware: Hardware) -> None:
    messages = list(rounds(hardware).once(100.0))
    assert messages[0] == Begin(None, "open")
    announced = [m.group for m in messages if isinstance(m, Begin) and m.slot == 0]
    assert announced == ["identify", "presence", "load", "health"]
    for number, message in enumerate(messages):
        if isinstance(message, Values):
            assert messages[number - 1] == Begin(message.slot, message.group)
    assert isinstance(messages[-1], Round)


def test_presence_is_asked_each_round_and_the_rest_when_due(hardware: Hardware) -> None:
    going = rounds(hardware)
    given: dict[int, list[str]] = {}
    for second in range(6):
        for message in going.once(100.0 + second):
            if isinstance(message, Values) and message.slot == 0:
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
    assert 1 in seen(list(going.once(101.0)), Values)


def test_a_gpu_that_is_left_out_is_not_touched_until_included(hardware: Hardware) -> None:
    hardware.change("node1", 1, hung=True)
    going = rounds(hardware, 1)
    messages = list(going.once(100.0))
    assert 1 not in seen(messages, Begin)
    assert [m.left_out for m in messages if isinstance(m, Devices)] == [(1,)]
    hardware.change("node1", 1, hung=False)
    going.include(1)
    assert 1 in seen(list(going.once(101.0)), Values)


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


def test_messages_survive_the_pipe(hardware: Hardware) -> None:
    for message in [Hello("simulated"), *rounds(hardware).once(100.0)]:
        assert decode(encode(message)) == message
