"""What the exporter knows of its GPUs now. Written by the supervisor's thread, read by collectors.

Nothing here guesses: a verdict or value that is too old is withheld, and a GPU of which nothing has
been heard yet has no verdict.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from exporter import inventory
from exporter.inventory import Known
from exporter.protocol import Devices, Hello, Lost, Message, Present, Round, Values
from exporter.sources.base import Device, Group, Reading

# How often each group is read, in seconds, unless said otherwise.
INTERVALS: dict[Group, float] = {
    "load": 5.0, "gpm": 5.0, "health": 10.0, "processes": 10.0, "links": 30.0, "mig": 30.0,
    "limits": 60.0,
}  # fmt: skip
# Seconds after which a verdict or value is withheld: three intervals of its group.
PRESENCE_TTL = 5.0
FAST_TTL_MAX = 60.0


def time_to_live(group: Group, every: float) -> float:
    """Seconds for which a group's values may be shown."""
    return min(FAST_TTL_MAX, 3 * every) if group in ("load", "gpm") else 3 * every


class Status(StrEnum):
    """The verdict on one GPU."""

    UP = "up"
    LOST = "lost"
    HUNG = "hung"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class _Record:
    status: Status = Status.UNKNOWN
    at: float = 0.0
    groups: dict[Group, Values] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU as collectors see it. `groups` holds what was read of it and is not too old; of a GPU
    that is not up there is nothing."""

    index: int
    uuid: str
    device: Device
    status: Status
    groups: Mapping[Group, Values]

    def readings(self, group: Group) -> tuple[Reading, ...]:
        """The group's readings; none when they are not known."""
        values = self.groups.get(group)
        return values.readings if values is not None else ()

    def value(self, group: Group, name: str, *labels: str) -> float | None:
        """One reading; None when it is not known."""
        for reading in self.readings(group):
            if reading.name == name and reading.labels == labels:
                return reading.value
        return None


@dataclass(frozen=True, slots=True)
class BoardView:
    """All GPUs at one moment. `failure` is why the source as a whole does not answer, or empty."""

    gpus: tuple[GpuView, ...]
    expected: int
    stuck: bool
    source: str
    failure: str
    restarts: int
    errors: Mapping[tuple[Group, str], int]


class Board:
    """The knowledge itself. Every method may be called from any thread."""

    def __init__(
        self, path: Path, *, expected: int | None, intervals: Mapping[Group, float]
    ) -> None:
        self._path = path
        self._given = expected
        self._ttl = {group: time_to_live(group, every) for group, every in intervals.items()}
        self._errors: dict[tuple[Group, str], int] = {}
        self._lock = threading.Lock()
        self._known: dict[str, Known] = inventory.read(path)
        self._records: dict[str, _Record] = {}
        self._slots: dict[int, str] = {}
        self._round_at = 0.0
        self._on_bus = 0
        self._source = ""
        self._failure = "nothing has been read yet"
        self._stuck = False
        self._restarts = 0
        self.changed = threading.Event()
        self.write_error = ""

    def apply(self, message: Message, now: float) -> None:
        """Take in what the worker said at Unix time `now`."""
        with self._lock:
            if isinstance(message, Devices):
                self._devices(message, now)
            elif isinstance(message, Values):
                self._values(message, now)
            elif isinstance(message, Present):
                self._verdict(message.slot, Status.UP, now)
            elif isinstance(message, Lost):
                self._verdict(message.slot, Status.LOST, now)
            elif isinstance(message, Hello):
                self._source = message.source
            elif isinstance(message, Round):
                self._failure = ""
                self._round_at = now
                self.changed.set()

    def hung(self, slot: int, now: float) -> None:
        """The GPU in this slot does not answer; holds until it does, however long that takes.

        `supervised` follows and makes it known, so that no page shows the one without the other.
        """
        with self._lock:
            self._verdict(slot, Status.HUNG, now)

    def supervised(self, *, stuck: bool, restarts: int, failure: str | None = None) -> None:
        """What the supervisor says of the worker itself; a failure stays until a round is complete."""
        with self._lock:
            self._stuck, self._restarts = stuck, restarts
            if failure is not None:
                self._failure = failure
            self.changed.set()

    def view(self, now: float) -> BoardView:
        """Everything that may be said at Unix time `now`."""
        with self._lock:
            entries = sorted(self._known.values(), key=lambda entry: entry.index)
            seen = max(len(self._known), self._on_bus)
            return BoardView(
                gpus=tuple(self._gpu(entry, now) for entry in entries),
                expected=seen if self._given is None else self._given,
                stuck=self._stuck,
                source=self._source,
                failure=self._failure,
                restarts=self._restarts,
                errors=dict(self._errors),
            )

    def _gpu(self, entry: Known, now: float) -> GpuView:
        record = self._records.get(entry.device.uuid, _Record())
        status = record.status
        # A lost GPU may be asked no more: the verdict holds while rounds go on without it.
        at = max(record.at, self._round_at) if status is Status.LOST else record.at
        if status is not Status.HUNG and now - at > PRESENCE_TTL:
            status = Status.UNKNOWN
        up = status is Status.UP
        groups = {
            group: values
            for group, values in record.groups.items()
            if up and now - values.at <= self._ttl.get(group, 0.0)
        }
        return GpuView(entry.index, entry.device.uuid, entry.device, status, groups)

    def _devices(self, message: Devices, now: float) -> None:
        merged = inventory.merge(self._known, message.found)
        self._on_bus = len(message.bus)
        if merged != self._known:
            self._known = merged
            self._save()
        self._slots = {slot: uuid for slot, uuid in self._slots.items() if slot in message.left_out}
        self._slots |= {device.slot: device.uuid for device in message.found}
        found = {device.uuid for device in message.found}
        for uuid, entry in merged.items():
            if uuid not in found and entry.device.slot not in message.left_out:
                self._set(uuid, Status.LOST, now)

    def _save(self) -> None:
        try:
            inventory.write(self._path, self._known)
            self.write_error = ""
        except OSError as error:
            self.write_error = f"{self._path}: cannot be written: {error.strerror}"

    def _values(self, message: Values, now: float) -> None:
        record = self._verdict(message.slot, Status.UP, now)
        if record is None:
            return
        record.groups[message.group] = message
        for code, count in message.errors.items():
            key = (message.group, code)
            self._errors[key] = self._errors.get(key, 0) + count

    def _verdict(self, slot: int, status: Status, now: float) -> _Record | None:
        uuid = self._slots.get(slot)
        if uuid is None:  # not found by this worker: the inventory says who sat there last
            uuid = next((u for u, e in self._known.items() if e.device.slot == slot), None)
        return None if uuid is None else self._set(uuid, status, now)

    def _set(self, uuid: str, status: Status, now: float) -> _Record:
        record = self._records.setdefault(uuid, _Record())
        if status is Status.LOST or status is not record.status:
            record.groups.clear()
        record.status, record.at = status, now
        return record
