"""What the processes that read the GPUs tell the exporter: a JSON list of messages a line, on a pipe.

A process saves its messages up and sends those of a round together, so that the exporter wakes once
a second. What it is doing in between stands in the heartbeat. Orders go the other way, one a line:

    skip 3 *          leave GPU 3 out            skip 3 links,mig    leave these groups of it out
    skip 3 -          leave nothing of it out    only 3,5            read these GPUs alone from now on
    look              look for GPUs anew         read health         read this group in the next round
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from exporter.sources.base import READ_GROUPS, BusGpu, Device, Group, Reading

# What is left out of a GPU: these groups, or (None) all of it.
Skip = frozenset[Group] | None
NOTHING: frozenset[Group] = frozenset()


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The source is open."""

    source: str


class Slots(msgspec.Struct, frozen=True, tag=True):
    """A look begins: the numbers that the source gives to GPUs now, and what the bus shows."""

    slots: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Devices(msgspec.Struct, frozen=True, tag=True):
    """A look at all slots is complete: these answered, those were left out on order, others are gone."""

    found: tuple[Device, ...]
    left_out: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Present(msgspec.Struct, frozen=True, tag=True):
    """The GPU answered; `slowest` is the longest call in seconds."""

    slot: int
    slowest: float = 0.0


class Lost(msgspec.Struct, frozen=True, tag=True):
    """The GPU is gone."""

    slot: int


class Values(msgspec.Struct, frozen=True, tag=True):
    """The readings of one group of one GPU, read at Unix time `at`, and the errors met on the way.

    `slowest` is the longest call, `took` all of them, in seconds; `every` the time between two reads
    where that is longer than usual, because the GPU is slow (0: as usual).
    """

    slot: int
    group: Group
    at: float
    readings: tuple[Reading, ...]
    errors: dict[str, int] = {}
    slowest: float = 0.0
    took: float = 0.0
    every: float = 0.0


class Answered(msgspec.Struct, frozen=True, tag=True):
    """A GPU that was asked once more answered, or said that it is lost. Without a group, as a whole."""

    slot: int
    group: Group | None
    slowest: float


class Round(msgspec.Struct, frozen=True, tag=True):
    """One round over all GPUs is complete; nothing hangs."""

    at: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The source as a whole does not answer, with the sentence that says why. The worker ends."""

    why: str


Message = Hello | Slots | Devices | Present | Lost | Values | Answered | Round | Failed

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(list[Message]).decode


def skip_text(skip: Skip) -> str:
    """How an order names what is left out of a GPU."""
    return "*" if skip is None else ",".join(sorted(skip)) or "-"


def parse_skip(text: str) -> Skip:
    """What `skip_text` wrote."""
    return (
        None
        if text == "*"
        else frozenset(group for group in READ_GROUPS if group in text.split(","))
    )


def plan_text(plan: Mapping[int, Skip]) -> str:
    """What is left out of which GPU, as one word of a command line."""
    return ";".join(f"{slot}={skip_text(skip)}" for slot, skip in sorted(plan.items()))


def parse_plan(text: str) -> dict[int, Skip]:
    """What `plan_text` wrote."""
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    return {int(slot): parse_skip(skip) for slot, _, skip in pairs}
