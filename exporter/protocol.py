"""What the worker, which reads the GPUs, tells the exporter: one JSON message a line on a pipe.

`Begin` goes out before every call that may hang, so that a hang has a name. Messages the other way
are one word and a number: `include 3` puts a GPU that was left out back into the rounds.
"""

from __future__ import annotations

import msgspec

from exporter.sources.base import BusGpu, Device, Group, Reading


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The source is open."""

    source: str


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The next call is about this GPU (None: about all) and this group of values."""

    slot: int | None
    group: Group


class Devices(msgspec.Struct, frozen=True, tag=True):
    """A look at all slots is complete: these answered, those were left out on order, others are gone."""

    found: tuple[Device, ...]
    left_out: tuple[int, ...]
    bus: tuple[BusGpu, ...] = ()


class Present(msgspec.Struct, frozen=True, tag=True):
    """The GPU answered."""

    slot: int


class Lost(msgspec.Struct, frozen=True, tag=True):
    """The GPU is gone."""

    slot: int


class Values(msgspec.Struct, frozen=True, tag=True):
    """The readings of one group of one GPU, read at Unix time `at`, and the errors met on the way."""

    slot: int
    group: Group
    at: float
    readings: tuple[Reading, ...]
    errors: dict[str, int] = {}


class Round(msgspec.Struct, frozen=True, tag=True):
    """One round over all GPUs is complete; nothing hangs."""

    at: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The source as a whole does not answer, with the sentence that says why. The worker ends."""

    why: str


Message = Hello | Begin | Devices | Present | Lost | Values | Round | Failed

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode
