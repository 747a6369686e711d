"""The messages and orders on the pipes."""

import pytest

from exporter.reading.protocol import (
    Answered,
    Devices,
    Failed,
    GroupReadings,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Skip,
    Slots,
    decode,
    encode,
    parse_plan,
    parse_skip,
    plan_text,
    skip_text,
)  # fmt: skip
from exporter.sources.base import BusGpu, Device, Reading

BUS = (BusGpu("0000:10:00.0", "GPU-1"),)
MESSAGES: list[Message] = [
    Hello("nvml"), Slots((0, 1), BUS), Devices((Device(0, "GPU-1", "0000:10:00.0"),), (1,), BUS),
    Present(0, 0.5), Lost(1), Answered(3, None, 0.0), Answered(3, "mig", 1.5), Round(5.0),
    GroupReadings(0, "load", 4.5, (Reading("gpu_power_watts", ("gpu",), 7.5),), {"999": 2}, 0.1, 0.2, 9.0),
    Failed("no driver"),
]  # fmt: skip


def test_messages_survive_the_pipe() -> None:
    assert decode(encode(MESSAGES)) == MESSAGES


@pytest.mark.parametrize(
    "skip", [None, frozenset(), frozenset(("load",)), frozenset(("mig", "gpm"))]
)
def test_what_is_left_out_survives_an_order(skip: Skip) -> None:
    assert parse_skip(skip_text(skip)) == skip


@pytest.mark.parametrize("plan", [{}, {3: None}, {3: None, 5: frozenset(("links", "mig"))}])
def test_a_plan_survives_a_command_line(plan: dict[int, Skip]) -> None:
    assert parse_plan(plan_text(plan)) == plan
