"""XID errors: what they mean (xid_catalogue.yml), and how a kernel log line becomes one. Pure.

A GPU that falls off the bus is logged as XID 79, as a line without a code, or as both: both within
a few seconds are one event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from exporter.inventory import bus_key
from fleetmedic.kernel.settings import load

PATH = Path(__file__).with_name("xid_catalogue.yml")
FALLEN_OFF_THE_BUS = 79
SAME_EVENT_SECONDS = 5.0
MAX_CODE = 999

Bus = tuple[int, int, int]

_XID = re.compile(r"NVRM: Xid \(((?:PCI:)?[0-9a-fA-F:.]{4,20})\).{0,200}?: (\d{1,4}),")
_BUS = r"([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_FALLEN = re.compile(rf"NVRM:\s+GPU {_BUS}: GPU has fallen off the bus")
_NAMED = re.compile(rf"NVRM: The NVIDIA GPU {_BUS}")
_FALLEN_LATER = re.compile(r"NVRM:\s+fallen off the bus and is not responding")


class Xid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code. `zero` says that it is counted from 0 for every GPU."""

    code: int
    name: str
    severity: Literal["critical", "warning", "info"]
    action: Literal["none", "restart_app", "reset_gpu", "drain_reset", "reboot_node", "hw_inspect"]
    zero: bool


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    xids: tuple[Xid, ...]


@cache
def xid_catalogue() -> dict[int, Xid]:
    """The shipped catalogue, by code."""
    return {xid.code: xid for xid in load(PATH, _File).xids}


@dataclass(frozen=True, slots=True)
class Event:
    """One line's event. `coded` is False for a loss that was logged without a code."""

    bus: Bus | None
    code: int
    coded: bool = True


class LineParser:
    """Lines in, events out; remembers the GPU that a message over several lines has named."""

    def __init__(self) -> None:
        self._named: Bus | None = None
        self._left = 0

    def feed(self, text: str) -> Event | None:
        """The event of this line, if it tells one."""
        if not text.startswith("NVRM:"):
            return None
        if match := _XID.search(text):
            code = int(match[2])
            return Event(bus_key(match[1]), code) if 0 < code <= MAX_CODE else None
        if match := _FALLEN.search(text):
            return Event(bus_key(match[1]), FALLEN_OFF_THE_BUS, coded=False)
        if match := _NAMED.search(text):
            self._named, self._left = bus_key(match[1]), 4
        self._left -= 1
        if self._left >= 0 and self._named and _FALLEN_LATER.search(text):
            bus, self._named = self._named, None
            return Event(bus, FALLEN_OFF_THE_BUS, coded=False)
        return None


@dataclass(slots=True)
class Losses:
    """Tells a loss that is logged twice from two losses.

    `open` holds, by GPU, when a loss was counted and which kind of line may still belong to it.
    """

    open: dict[str, tuple[float, bool]]

    def counts(self, uuid: str, event: Event, at: float) -> bool:
        """Whether this event counts, at Unix time `at`. Every coded line but the first of a pair does."""
        if event.code != FALLEN_OFF_THE_BUS:
            return True
        before = self.open.get(uuid)
        if before is not None and abs(at - before[0]) <= SAME_EVENT_SECONDS:
            was_coded = before[1]
            if event.coded and not was_coded:
                self.open[uuid] = (before[0], True)
                return False
            if not event.coded:
                return False
        self.open[uuid] = (at, event.coded)
        return True
