"""Holds the current state of all GPUs. The supervisor's thread writes it, collectors read it.

Stale statuses and values are withheld. Without current data, the status of a GPU is unknown.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter import gpu_inventory
from exporter.gpu_inventory import InventoryEntry, bus_key
from exporter.reading.protocol import (
    Devices,
    GroupReadings,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Slots,
)
from exporter.snapshot import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.sources.base import BusGpu, GpuEvent, Group

__all__ = [
    "INTERVALS",
    "GpuSnapshot",
    "GpuStates",
    "GpuStatus",
    "NodeSnapshot",
    "WorkerPoolState",
    "time_to_live",
]

# Default interval of each group, in seconds.
INTERVALS: dict[Group, float] = {
    "load": 5.0,
    "gpm": 5.0,
    "health": 10.0,
    "processes": 10.0,
    "links": 30.0,
    "mig": 30.0,
    "limits": 60.0,
}
PRESENCE_TTL = 5.0
FAST_TTL_MAX = 60.0
AHEAD = 2.0  # a timestamp further in the future dates from before the clock was set back
MAX_EVENTS = 10_000


def time_to_live(group: Group, every: float) -> float:
    """Return how many seconds the values of a group are valid: three read intervals.

    Limits do not change on their own, so they are valid until a read fails.
    """
    if group == "limits":
        return float("inf")
    return min(FAST_TTL_MAX, 3 * every) if group in ("load", "gpm") else 3 * every


@dataclass(frozen=True, slots=True)
class WorkerPoolState:
    """The state of the worker processes. A GPU is identified by its slot, its number in the source."""

    failure: str
    restarts: int = 0
    stuck: bool = False
    abandoned: int = 0
    released: bool = False
    slow: frozenset[int] = frozenset()
    left_out: tuple[tuple[int, Group], ...] = ()
    events_up: bool | None = None
    event_restarts: int = 0


@dataclass(slots=True)
class _GpuRecord:
    status: GpuStatus = GpuStatus.UNKNOWN
    at: float = 0.0
    groups: dict[Group, GroupReadings] = field(default_factory=dict)


class GpuStates:
    """The current state of all GPUs. All methods are thread-safe.

    Messages come from several workers, which may number the GPUs differently. So each message
    contains the number of its `worker`.
    """

    def __init__(
        self, path: Path, *, expected: int | None, intervals: Mapping[Group, float]
    ) -> None:
        self._path = path
        self._expected = expected
        self._intervals = dict(intervals)
        self._errors: dict[tuple[Group, str], int] = {}
        self._lock = threading.Lock()
        self._inventory: dict[str, InventoryEntry] = gpu_inventory.read(path)
        self._inventory_changed = False
        self._records: dict[str, _GpuRecord] = {}
        self._slots: dict[int, dict[int, str]] = {}
        self._current_slots: tuple[int, ...] = ()
        self._bus: tuple[BusGpu, ...] = ()
        self._round_at = 0.0
        self._source = ""
        self._state = WorkerPoolState("no data has been read yet")
        self._events: deque[tuple[float, GpuEvent]] = deque(maxlen=MAX_EVENTS)
        self._version = 0
        self._cached: tuple[int, float, NodeSnapshot] | None = None
        self.changed = threading.Event()
        self.write_error = ""

    @property
    def gpu_count(self) -> int:
        """The number of GPUs in the inventory of this node."""
        with self._lock:
            return len(self._inventory)

    def apply(self, message: Message, now: float, worker: int = 0) -> None:
        """Update the states with a worker's message, received at Unix time `now`."""
        with self._lock:
            self._version += 1
            if isinstance(message, GroupReadings):
                self._store_readings(message, now, worker)
            elif isinstance(message, Present):
                self._set_status_of(message.slot, GpuStatus.UP, now, worker)
            elif isinstance(message, Lost):
                self._set_status_of(message.slot, GpuStatus.LOST, now, worker)
            elif isinstance(message, Slots):
                self._handle_slots(message)
            elif isinstance(message, Devices):
                self._handle_devices(message, now, worker)
            elif isinstance(message, Hello):
                self._source = message.source
                self._slots[worker] = {}
            elif isinstance(message, Round):
                self._round_at = now
                if self._state.failure:
                    self._state = replace(self._state, failure="")
                self.changed.set()
        if self._inventory_changed and isinstance(message, Devices | Slots | Round):
            self._write()

    def mark_hung(self, slot: int, now: float, worker: int = 0) -> None:
        """Mark a GPU as hung until it responds again, without a time limit.

        Collectors are notified by the following call of `set_worker_pool_state`, so a page shows both changes
        together.
        """
        with self._lock:
            self._version += 1
            self._set_status_of(slot, GpuStatus.HUNG, now, worker)

    def mark_responding(self, slot: int, now: float, worker: int = 0) -> None:
        """Mark a hung GPU as up, because driver calls for it return again, with or without an
        error."""
        with self._lock:
            record = self._records.get(self._uuid(slot, worker) or "")
            if record is not None and record.status in (GpuStatus.UP, GpuStatus.HUNG):
                self._version += 1
                record.status, record.at = GpuStatus.UP, now

    def remove_group(self, slot: int, group: Group, worker: int = 0) -> None:
        """Remove the values of one metric group of a GPU, because the exporter no longer reads this
        group."""
        with self._lock:
            record = self._records.get(self._uuid(slot, worker) or "")
            if record is not None:
                self._version += 1
                record.groups.pop(group, None)

    def forget_worker(self, worker: int) -> None:
        """Forget the GPU numbers of a worker that has ended."""
        with self._lock:
            self._slots.pop(worker, None)

    def set_worker_pool_state(self, state: WorkerPoolState) -> None:
        """Update the state of the worker processes that read the GPUs."""
        with self._lock:
            if state.released and not self._state.released:
                for record in self._records.values():
                    record.status = GpuStatus.UNKNOWN
                    record.groups.clear()
            if state != self._state:
                self._version += 1
                self._state = state
                self.changed.set()

    def add_event(self, event: GpuEvent, at: float) -> None:
        """Record a driver event that arrived at Unix time `at`."""
        with self._lock:
            self._events.append((at, event))

    def take_events(self) -> list[tuple[float, GpuEvent]]:
        """Remove and return the driver events since the last call, each with its Unix time of
        arrival."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
            return taken

    def snapshot(self, now: float) -> NodeSnapshot:
        """Return a snapshot of all GPUs at Unix time `now`."""
        with self._lock:
            if self._cached is not None and self._cached[:2] == (self._version, now):
                return self._cached[2]
            entries = sorted(self._inventory.values(), key=lambda entry: entry.index)
            seen, state = max(len(self._inventory), len(self._bus)), self._state
            left_out: dict[str, list[Group]] = {}
            for slot, group in state.left_out:
                left_out.setdefault(self._uuid(slot) or "", []).append(group)
            slow = {self._uuid(slot) for slot in state.slow}
            view = NodeSnapshot(
                gpus=tuple(self._gpu(entry, now, slow, left_out) for entry in entries),
                expected=seen if self._expected is None else self._expected,
                stuck=state.stuck,
                source=self._source,
                failure=state.failure,
                restarts=state.restarts,
                errors=dict(self._errors),
                released=state.released,
                abandoned=state.abandoned,
                events_up=state.events_up,
                event_restarts=state.event_restarts,
            )
            self._cached = (self._version, now, view)
            return view

    def _gpu(
        self,
        entry: InventoryEntry,
        now: float,
        slow: set[str | None],
        left_out: dict[str, list[Group]],
    ) -> GpuSnapshot:
        uuid = entry.device.uuid
        record = self._records.get(uuid, _GpuRecord())
        status = record.status
        # A lost GPU may no longer be read: the status is valid while rounds continue without it.
        at = max(record.at, self._round_at) if status is GpuStatus.LOST else record.at
        if status is not GpuStatus.HUNG and not -AHEAD <= now - at <= PRESENCE_TTL:
            status = GpuStatus.UNKNOWN
        up = status is GpuStatus.UP
        groups = {
            group: values
            for group, values in record.groups.items()
            if up and -AHEAD <= now - values.at <= self._ttl(values)
        }
        missing = tuple(left_out.get(uuid, ()))
        return GpuSnapshot(entry.index, uuid, entry.device, status, groups, uuid in slow, missing)

    def _ttl(self, values: GroupReadings) -> float:
        every = self._intervals.get(values.group)
        return 0.0 if every is None else time_to_live(values.group, max(every, values.every))

    def _handle_slots(self, message: Slots) -> None:
        self._bus = message.bus
        if message.slots != self._current_slots:
            self._current_slots = message.slots
            self._slots = {worker: {} for worker in self._slots}
        self._set_inventory(
            gpu_inventory.merge(
                self._inventory,
                gpu_inventory.new_bus_devices(message.bus, self._inventory),
                self._bus,
            )
        )

    def _handle_devices(self, message: Devices, now: float, worker: int) -> None:
        self._bus = message.bus
        mine = self._slots.setdefault(worker, {})
        mine |= {device.slot: device.uuid for device in message.found}
        kept = {device.slot for device in message.found} | set(message.left_out)
        self._slots[worker] = {slot: uuid for slot, uuid in mine.items() if slot in kept}
        self._set_inventory(gpu_inventory.merge(self._inventory, message.found, message.bus))
        reported = {device.uuid for device in message.found}
        # This worker does not read the GPUs that it leaves out.
        reported |= {uuid for slot in message.left_out if (uuid := self._uuid(slot, worker))}
        for uuid in self._inventory:
            record = self._records.get(uuid)
            hung = record is not None and record.status is GpuStatus.HUNG and message.left_out
            if uuid not in reported and not hung:
                self._set(uuid, GpuStatus.LOST, now)

    def _set_inventory(self, merged: dict[str, InventoryEntry]) -> None:
        if merged == self._inventory:
            return
        self._inventory, self._inventory_changed = merged, True

    def _write(self) -> None:
        """Save the inventory of GPUs. A failed write is retried once a second.

        The lock is not held during the write, so that no reader waits for the disk.
        """
        try:
            gpu_inventory.write(self._path, self._inventory)
            self._inventory_changed, self.write_error = False, ""
        except OSError as error:
            self.write_error = f"cannot write {self._path}: {error.strerror}"

    def _store_readings(self, message: GroupReadings, now: float, worker: int) -> None:
        record = self._set_status_of(message.slot, GpuStatus.UP, now, worker)
        if record is None:
            return
        record.groups[message.group] = message
        for code, count in message.errors.items():
            key = (message.group, code)
            self._errors[key] = self._errors.get(key, 0) + count

    def _uuid(self, slot: int, worker: int | None = None) -> str | None:
        """Return the UUID of the GPU with this number; None if the UUID is unknown.

        The UUID comes from this worker, another worker with the same GPUs, the order on the bus, or the
        inventory.
        """
        mine = self._slots.get(worker, {}) if worker is not None else {}
        for numbers in (mine, *self._slots.values()):
            if slot in numbers:
                return numbers[slot]
        places = gpu_inventory.addresses(self._bus)
        if len(places) == len(self._current_slots) and slot in self._current_slots:
            here = places[self._current_slots.index(slot)]
            for uuid, entry in self._inventory.items():
                if bus_key(entry.device.pci_bus_id) == here:
                    return uuid
        return next((u for u, e in self._inventory.items() if e.device.slot == slot), None)

    def _set_status_of(
        self, slot: int, status: GpuStatus, now: float, worker: int
    ) -> _GpuRecord | None:
        uuid = self._uuid(slot, worker)
        return None if uuid is None else self._set(uuid, status, now)

    def _set(self, uuid: str, status: GpuStatus, now: float) -> _GpuRecord:
        record = self._records.setdefault(uuid, _GpuRecord())
        if status is GpuStatus.LOST:
            record.groups.clear()
        record.status, record.at = status, now
        return record
