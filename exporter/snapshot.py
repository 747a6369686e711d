"""The state of the GPUs at one moment, as collectors read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, Group, Reading


class GpuStatus(StrEnum):
    """The state of one GPU."""

    UP = "up"
    LOST = "lost"
    HUNG = "hung"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """One GPU as collectors see it. `groups` has the readings that are not stale; it is empty for a
    GPU that is not up. `left_out` are the groups that are suspended because a call hung."""

    index: int
    uuid: str
    device: Device
    status: GpuStatus
    groups: Mapping[Group, GroupReadings]
    slow: bool = False
    left_out: tuple[Group, ...] = ()

    def readings(self, group: Group) -> tuple[Reading, ...]:
        """Return the group's readings; empty when they are unknown."""
        values = self.groups.get(group)
        return values.readings if values is not None else ()

    def value(self, group: Group, name: str, *labels: str) -> float | None:
        """One reading; None when it is unknown."""
        for reading in self.readings(group):
            if reading.name == name and reading.labels == labels:
                return reading.value
        return None


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """All GPUs at one moment. `failure` is the reason why the source as a whole does not respond, or
    empty. `released`: the exporter has released the GPUs. `events_up`: a process waits for the driver's
    events (None: this source has no events)."""

    gpus: tuple[GpuSnapshot, ...]
    expected: int
    stuck: bool
    source: str
    failure: str
    restarts: int
    errors: Mapping[tuple[Group, str], int]
    released: bool = False
    abandoned: int = 0
    events_up: bool | None = None
    event_restarts: int = 0
