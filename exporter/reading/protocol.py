"""The messages from the processes that read the GPUs to the exporter: one JSON list of messages per line.

A process sends the messages of a round together, so that the exporter wakes once a second. In between, the
heartbeat shows what the process does. The exporter sends orders to the process, one per line:

    skip 3 *          do not read GPU 3          skip 3 links,mig    do not read these groups of GPU 3
    skip 3 -          read all groups of GPU 3   only 3,5            read only these GPUs from now on
    look              enumerate the GPUs again   read health         read this group in the next round
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from exporter.sources.base import READ_GROUPS, BusGpu, Device, Group, Reading

# The groups of a GPU that are skipped; None: the whole GPU.
Skip = frozenset[Group] | None
NOTHING: frozenset[Group] = frozenset()


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The source is open."""

    source: str


class Slots(msgspec.Struct, frozen=True, tag=True):
    """An enumeration starts: the source's current GPU numbers, and the GPUs on the bus."""

    slots: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Devices(msgspec.Struct, frozen=True, tag=True):
    """An enumeration is complete: GPUs that responded and GPUs skipped by order; all others are lost."""

    found: tuple[Device, ...]
    left_out: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Present(msgspec.Struct, frozen=True, tag=True):
    """The GPU responded; `slowest` is the longest call in seconds."""

    slot: int
    slowest: float = 0.0


class Lost(msgspec.Struct, frozen=True, tag=True):
    """The GPU is lost."""

    slot: int


class GroupReadings(msgspec.Struct, frozen=True, tag=True):
    """The readings of one group of one GPU, read at Unix time `at`, and the errors during the read.

    `slowest` is the longest call and `took` the sum of all calls, in seconds. `every` is the interval if
    it is longer than usual because the GPU is slow (0: the usual interval).
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
    """A probed target responded, possibly as lost. Without a group: the GPU as a whole."""

    slot: int
    group: Group | None
    slowest: float


class Round(msgspec.Struct, frozen=True, tag=True):
    """One round over all GPUs is complete."""

    at: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The source as a whole failed; `why` is the reason. The worker ends."""

    why: str


Message = Hello | Slots | Devices | Present | Lost | GroupReadings | Answered | Round | Failed

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(list[Message]).decode


def skip_text(skip: Skip) -> str:
    """Return the skipped groups of a GPU in the notation of an order."""
    return "*" if skip is None else ",".join(sorted(skip)) or "-"


def parse_skip(text: str) -> Skip:
    """Return the inverse of `skip_text`."""
    return (
        None
        if text == "*"
        else frozenset(group for group in READ_GROUPS if group in text.split(","))
    )


def plan_text(plan: Mapping[int, Skip]) -> str:
    """Return the skipped groups by GPU, as one word of a command line."""
    return ";".join(f"{slot}={skip_text(skip)}" for slot, skip in sorted(plan.items()))


def parse_plan(text: str) -> dict[int, Skip]:
    """Return the inverse of `plan_text`."""
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    return {int(slot): parse_skip(skip) for slot, _, skip in pairs}
