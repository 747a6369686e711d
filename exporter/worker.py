"""The process that reads the GPUs, and the only one that does. It may hang and may be killed.

It keeps no Python signal handler, since one would never run inside a call that hangs; it ends when
its parent does (PDEATHSIG, or the end of its input).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from exporter.protocol import (
    Begin,
    Devices,
    Failed,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Values,
    encode,
)
from exporter.sources.base import READ_GROUPS, Device, Group, Source, SourceFailed, SourceLost

PRESENCE_EVERY = 1.0
LOOK_EVERY = 10.0
RECONNECT_EVERY = 30.0
_SLACK = 0.05


class Due:
    """When each group of each GPU is to be read next."""

    def __init__(self, every: dict[Group, float]) -> None:
        self._every = every
        self._last: dict[tuple[int, Group], float] = {}

    def take(self, slot: int, group: Group, now: float) -> bool:
        """Whether the group is due now; if so it counts as read."""
        last = self._last.get((slot, group))
        if last is not None and now - last < self._every[group] - _SLACK:
            return False
        self._last[slot, group] = now
        return True

    def forget(self, slot: int) -> None:
        """Read everything of this GPU at the next round: it came back."""
        self._last = {key: at for key, at in self._last.items() if key[0] != slot}


class Rounds:
    """The rounds over all GPUs, as the messages they give."""

    def __init__(self, source: Source, left_out: set[int], every: dict[Group, float]) -> None:
        self.source = source
        self.left_out = left_out
        self._devices: dict[int, Device] = {}
        self._lost: set[int] = set()
        self._looked = float("-inf")
        self._reconnected = 0.0
        self._groups = tuple(every)
        self._due = Due(every)

    def include(self, slot: int) -> None:
        """Take a GPU back in that was left out."""
        self.left_out.discard(slot)
        self._looked = float("-inf")

    def once(self, now: float) -> Iterator[Message]:
        """One round. Raises SourceFailed."""
        if now - self._looked >= LOOK_EVERY - _SLACK or self._back():
            self._looked = now
            yield from self._look(now)
        for slot in sorted(set(self._devices) - self.left_out):
            yield from self._read(slot, now)
        yield Round(now)

    def _back(self) -> bool:
        """Whether a lost GPU without identity has one again."""
        for slot in self._lost - set(self._devices) - self.left_out:
            try:
                self.source.identify(slot)
            except SourceLost:
                continue
            return True
        return False

    def _look(self, now: float) -> Iterator[Message]:
        yield Begin(None, "open")
        if self._lost and now - self._reconnected >= RECONNECT_EVERY:
            self._reconnected = now
            self.source.refresh()
        slots, bus = self.source.slots(), self.source.bus()
        found: dict[int, Device] = {}
        for slot in slots:
            if slot in self.left_out:
                continue
            yield Begin(slot, "identify")
            try:
                found[slot] = self.source.identify(slot)
            except SourceLost:
                self._lost.add(slot)
        self._lost &= set(slots)
        self._devices = found
        yield Devices(tuple(found.values()), tuple(sorted(self.left_out)), bus)

    def _read(self, slot: int, now: float) -> Iterator[Message]:
        source, due = self.source, self._due
        try:
            yield Begin(slot, "presence")
            source.presence(slot)
            if slot in self._lost:
                self._lost.discard(slot)
                due.forget(slot)
            yield Present(slot)
            for group in self._groups:
                if due.take(slot, group, now):
                    yield Begin(slot, group)
                    readings = source.read(slot, group, now)
                    yield Values(slot, group, now, readings, source.errors())
        except SourceLost:
            self._lost.add(slot)
            due.forget(slot)
            yield Lost(slot)


def _no_progress() -> None:
    return None


def open_source(arguments: list[str]) -> Source:
    """The source named on the command line: `nvml PROCFS SYSFS` or `simulated ROOT NODE`."""
    if arguments[0] == "nvml":
        from exporter.sources.nvml import NvmlSource

        return NvmlSource(Path(arguments[1]), Path(arguments[2]), _no_progress)
    from exporter.sources.simulated import SimulatedSource

    return SimulatedSource(Path(arguments[1]), arguments[2], _no_progress)


def parse_intervals(text: str) -> dict[Group, float]:
    """Groups and seconds of `load=5,health=10`."""
    given = dict(pair.split("=") for pair in text.split(",") if pair)
    return {group: float(given[group]) for group in READ_GROUPS if group in given}


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL at the parent's death; leave now if it is dead already."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def orders(wait: float) -> list[str]:
    """The lines of orders that came within `wait` seconds. Ends the process when there is no parent."""
    ready, _, _ = select.select([0], [], [], max(0.0, wait))
    if not ready:
        return []
    text = os.read(0, 4096)
    if not text:
        os._exit(0)
    return text.decode().splitlines()


def send(message: Message) -> None:
    """Write one line; ends the process when nobody reads."""
    data = encode(message) + b"\n"
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(0)


def probe(source: Source, slot: int) -> None:
    """Ask one GPU once; returning means that it answers, or says that it is lost."""
    try:
        source.identify(slot)
        source.presence(slot)
    except SourceLost:
        pass


def main(arguments: list[str]) -> int:
    """PARENT MODE SLOTS EVERY SOURCE...: MODE is `rounds` (SLOTS are left out) or `probe`.

    EVERY says which groups are read and how often: `load=5,health=10`.
    """
    parent, mode, slots, every, *source_arguments = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent(int(parent))
    chosen = {int(slot) for slot in slots.split(",") if slot}
    try:
        source = open_source(source_arguments)
        send(Begin(None, "open"))
        source.open()
        send(Hello(source.name))
        if mode == "probe":
            probe(source, chosen.pop())
            return 0
        _rounds(Rounds(source, chosen, parse_intervals(every)))
    except (SourceFailed, ImportError) as error:
        send(Failed(str(error)))
    return 1


def _rounds(rounds: Rounds) -> None:
    due = time.monotonic()
    while True:
        for message in rounds.once(time.time()):
            send(message)
        due = max(due + PRESENCE_EVERY, time.monotonic())
        while (left := due - time.monotonic()) > 0:
            for order in orders(left):
                rounds.include(int(order.removeprefix("include ")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
