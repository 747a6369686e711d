"""Reads all GPUs in rounds and yields messages: presence each second, other groups when they are
due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from exporter.reading.heartbeat import SIZE, Heartbeat
from exporter.reading.protocol import (
    NOTHING,
    Devices,
    GroupReadings,
    Lost,
    Message,
    Present,
    Round,
    Skip,
    Slots,
)
from exporter.sources.base import Device, Group, Source, SourceFailed, SourceLost

ENUMERATE_EVERY = 10.0
IDENTIFY_EVERY = 600.0
# A lost GPU may only be visible again to a new connection. Reconnecting disturbs a failing driver, so the
# worker reconnects after a quarter of the time for which the GPU has been lost, within limits.
RECONNECT_MIN, RECONNECT_MAX = 2.0, 60.0
OVERDUE = 0.8  # after a longer call, the worker waits for commands
COMMAND_WAIT = 1.0
_SLACK = 0.05


class ReadSchedule:
    """Decides when each group of a GPU's readings is read.

    A group that takes a long time to read is read less often, so that reads take at most half of
    the time.
    """

    def __init__(self, every: Mapping[Group, float]) -> None:
        self._every = dict(every)
        self._last: dict[tuple[int, Group], float] = {}
        self._stretched: dict[tuple[int, Group], float] = {}

    def take_due(self, slot: int, group: Group, now: float) -> bool:
        """Return whether the GPU's group must be read now, and record it as read if so."""
        key = (slot, group)
        every = max(self._every[group], self._stretched.get(key, 0.0))
        last = self._last.get(key)
        if last is not None and now - last < every - _SLACK:
            return False
        self._last[key] = now
        return True

    def record_duration(self, slot: int, group: Group, seconds: float) -> float:
        """Record how long the read of a group took.

        Returns the new interval if longer than usual, otherwise 0.
        """
        if 2 * seconds <= self._every[group]:
            self._stretched.pop((slot, group), None)
            return 0.0
        self._stretched[slot, group] = 2 * seconds
        return round(2 * seconds, 3)

    def make_due(self, slot: int | None = None, group: Group | None = None) -> None:
        """Schedule a group of a GPU for the next round. None stands for all groups, or for all GPUs."""
        self._last = {
            key: at
            for key, at in self._last.items()
            if (slot is not None and key[0] != slot) or (group is not None and key[1] != group)
        }


def reconnect_interval(lost_for: float) -> float:
    """Return the seconds between two reconnects to the driver, for a GPU lost for `lost_for` seconds."""
    return min(RECONNECT_MAX, max(RECONNECT_MIN, lost_for / 4))


def _no_commands(_seconds: float) -> None:
    return None


class Rounds:
    """Reads the GPUs of one worker in rounds.

    `left_out` contains the groups to skip by GPU, and `only` the GPUs to read (None: all). Both are
    valid for a source with `count` GPUs. If the count differs, the numbers mean other GPUs, and
    nothing is skipped. `known` is the number of GPUs in the inventory of this node.
    `take_commands(seconds)` is called between two GPUs, so that commands can change the round.
    """

    def __init__(
        self,
        source: Source,
        left_out: Mapping[int, Skip],
        every: Mapping[Group, float],
        *,
        only: frozenset[int] | None = None,
        count: int = 0,
        known: int = 0,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._source = source
        self._left_out: dict[int, Skip] = dict(left_out)
        self._only = only
        self._count = count
        self._heartbeat = heartbeat or Heartbeat(bytearray(SIZE))
        self._most_gpus = known
        self.take_commands: Callable[[float], None] = _no_commands
        self._groups = tuple(every)
        self._schedule = ReadSchedule(every)
        self._devices: dict[int, Device] = {}
        self._slots: tuple[int, ...] = ()
        self._lost: set[int] = set()
        self._lost_since: float | None = None
        self._reconnected = float("-inf")
        self._enumerated = self._identified = float("-inf")
        self._round_began = 0.0

    def apply_command(self, text: str) -> None:
        """Apply a command from the exporter (see protocol)."""
        word, _, rest = text.partition(" ")
        if word == "skip":
            slot, _, what = rest.partition(" ")
            self._skip(int(slot), what)
        elif word == "only":
            self._only = frozenset(map(int, rest.split(",")))
        elif word == "look":
            self._enumerated = self._identified = self._reconnected = float("-inf")
            self._lost_since = self._lost_since or 0.0
        elif word == "read":
            for group in self._groups:
                if group == rest:
                    self._schedule.make_due(group=group)

    def _skip(self, slot: int, what: str) -> None:
        skip = None if what == "*" else frozenset(g for g in self._groups if g in what.split(","))
        if slot not in self._devices:
            self._enumerated = float("-inf")
        if skip == NOTHING:
            self._left_out.pop(slot, None)
        else:
            self._left_out[slot] = skip

    def reads(self, slot: int) -> bool:
        """Return whether this worker reads this GPU."""
        if self._only is not None and slot not in self._only:
            return False
        return self._left_out.get(slot, NOTHING) is not None

    def once(self, now: float, at: float | None = None) -> Iterator[Message]:
        """Read all GPUs once, and yield the messages for the exporter. Raises SourceFailed.

        `now` is the monotonic time and `at` the Unix time of the round.
        """
        at = now if at is None else at
        self._heartbeat.begin(None, "open")
        self._round_began = time.monotonic()
        changed = self._source.slots() != self._slots
        reconnect = self._reconnect_due(now)
        if (
            changed
            or reconnect
            or now - self._enumerated >= ENUMERATE_EVERY - _SLACK
            or self._lost_gpu_is_back()
        ):
            yield from self._enumerate(now, changed, reconnect)
        for slot in sorted(self._devices):
            yield from self._read_gpu(slot, now, at, self._presence)
        for slot in sorted(self._devices):
            if slot not in self._lost:
                yield from self._read_gpu(slot, now, at, self._read)
        yield Round(at)

    def _read_gpu(
        self,
        slot: int,
        now: float,
        at: float,
        what: Callable[[int, float, float], Iterator[Message]],
    ) -> Iterator[Message]:
        self.take_commands(0.0)
        if not self.reads(slot):
            return
        slowest = 0.0
        try:
            for message in what(slot, now, at):
                slowest = max(slowest, getattr(message, "slowest", 0.0))
                yield message
        except SourceLost:
            self._lost.add(slot)
            self._schedule.make_due(slot)
            yield Lost(slot)
        if slowest >= OVERDUE and self._only is None:
            self.take_commands(COMMAND_WAIT)

    def _presence(self, slot: int, now: float, at: float) -> Iterator[Message]:
        self._heartbeat.begin(slot, "presence")
        self._source.presence(slot)
        if slot in self._lost:
            self._lost.discard(slot)
            self._schedule.make_due(slot)
        yield Present(slot, round(self._heartbeat.slowest(), 3))

    def _read(self, slot: int, now: float, at: float) -> Iterator[Message]:
        source, schedule = self._source, self._schedule
        for group in self._groups:
            skip = self._left_out.get(slot, NOTHING)
            if skip is None or group in skip or not schedule.take_due(slot, group, now):
                continue
            self._heartbeat.begin(slot, group)
            began = time.monotonic()
            try:
                readings, errors = source.read(slot, group, at), source.errors()
            except (SourceLost, SourceFailed):
                raise
            except Exception as error:  # noqa: BLE001 - a bug in one group must not affect the others
                readings, errors = (), {type(error).__name__: 1}
            slowest = round(self._heartbeat.slowest(), 3)
            done = time.monotonic()
            took = round(done - began, 3)
            every = schedule.record_duration(slot, group, took)
            read_at = at + done - self._round_began
            yield GroupReadings(slot, group, read_at, readings, errors, slowest, took, every)

    def _lost_gpu_is_back(self) -> bool:
        """Return whether a lost GPU that was never identified can be identified now."""
        for slot in sorted(self._lost - set(self._devices)):
            if not self.reads(slot):
                continue
            self._heartbeat.begin(slot, "identify")
            try:
                self._source.identify(slot)
            except SourceLost:
                continue
            return True
        return False

    def _enumerate(self, now: float, changed: bool, reconnect: bool) -> Iterator[Message]:
        source = self._source
        self._heartbeat.begin(None, "open")
        identify_all = changed or reconnect or now - self._identified >= IDENTIFY_EVERY - _SLACK
        if reconnect:
            self._reconnected = now
            source.refresh()
        slots, bus = source.slots(), source.bus()
        self._enumerated = now
        if self._count and len(slots) != self._count:
            if self._only is not None:
                raise SourceFailed("the driver has renumbered its GPUs")
            self._left_out.clear()
        self._count, self._slots = len(slots), slots
        yield Slots(slots, bus)
        if identify_all:
            self._devices, self._identified = {}, now
        self._identify()
        self._lost &= set(slots)
        self._most_gpus = max(self._most_gpus, len(slots))
        if not self._lost and len(slots) >= max(self._most_gpus, len(bus)):
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = self._reconnected = now
        left_out = tuple(slot for slot in slots if not self.reads(slot))
        yield Devices(tuple(self._devices[slot] for slot in sorted(self._devices)), left_out, bus)

    def _reconnect_due(self, now: float) -> bool:
        since = self._lost_since
        return since is not None and now - self._reconnected >= reconnect_interval(now - since)

    def _identify(self) -> None:
        for slot in self._slots:
            if slot in self._devices and slot not in self._lost:
                continue
            self.take_commands(0.0)
            if not self.reads(slot):
                continue
            self._heartbeat.begin(slot, "identify")
            try:
                self._devices[slot] = self._source.identify(slot)
            except SourceLost:
                self._devices.pop(slot, None)
                self._lost.add(slot)
