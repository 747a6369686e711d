"""The messages between the worker processes and the exporter.

A worker sends all messages of a round together, as one line with a JSON list, so the exporter wakes
once a second. In between, the heartbeat shows what the worker does. The exporter sends commands,
one per line:

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
    """Message: the worker is connected to the source of GPU values."""

    source: str


class Slots(msgspec.Struct, frozen=True, tag=True):
    """Begins an enumeration of the GPUs: the source's current GPU numbers, and the GPUs on the PCI
    bus."""

    slots: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Devices(msgspec.Struct, frozen=True, tag=True):
    """Ends an enumeration: the GPUs that responded, and the GPUs that the worker skips. All others
    are lost."""

    found: tuple[Device, ...]
    left_out: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Present(msgspec.Struct, frozen=True, tag=True):
    """Message: the GPU responded. `slowest` is the duration of the longest call in seconds."""

    slot: int
    slowest: float = 0.0


class Lost(msgspec.Struct, frozen=True, tag=True):
    """Message: the GPU is lost."""

    slot: int


class GroupReadings(msgspec.Struct, frozen=True, tag=True):
    """The readings of one group of one GPU at Unix time `at`, and the number of errors by code.

    `slowest` is the duration of the longest call, and `took` is the duration of all calls
    (seconds). `every` is the interval if it is longer than usual because the GPU is slow (0: the
    usual interval).
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
    """A probed target responded, even if only to say that it is lost.

    Without a group, the target is the whole GPU.
    """

    slot: int
    group: Group | None
    slowest: float


class Round(msgspec.Struct, frozen=True, tag=True):
    """Message: the worker has read all its GPUs once."""

    at: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Message: the source of GPU values as a whole failed, with the reason `why`. The worker ends."""

    why: str


Message = Hello | Slots | Devices | Present | Lost | GroupReadings | Answered | Round | Failed

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(list[Message]).decode


def skip_text(skip: Skip) -> str:
    """Format the skipped groups of a GPU as in a `skip` command."""
    return "*" if skip is None else ",".join(sorted(skip)) or "-"


def parse_skip(text: str) -> Skip:
    """Parse skipped groups as formatted by `skip_text`."""
    return (
        None
        if text == "*"
        else frozenset(group for group in READ_GROUPS if group in text.split(","))
    )


def plan_text(plan: Mapping[int, Skip]) -> str:
    """Format the skipped groups by GPU as one word of a command line."""
    return ";".join(f"{slot}={skip_text(skip)}" for slot, skip in sorted(plan.items()))


def parse_plan(text: str) -> dict[int, Skip]:
    """Parse skipped groups by GPU as formatted by `plan_text`."""
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    return {int(slot): parse_skip(skip) for slot, _, skip in pairs}
