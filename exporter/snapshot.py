"""Snapshots of the GPU states, for the collectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, Group, Reading


class GpuStatus(StrEnum):
    """The status of one GPU."""

    UP = "up"
    LOST = "lost"
    HUNG = "hung"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """The state of one GPU at one moment.

    `groups` contains the readings that are not stale. It is empty unless the GPU is up. `left_out`
    are the groups that are not read because a driver call hung.
    """

    index: int
    uuid: str
    device: Device
    status: GpuStatus
    groups: Mapping[Group, GroupReadings]
    slow: bool = False
    left_out: tuple[Group, ...] = ()

    def readings(self, group: Group) -> tuple[Reading, ...]:
        """Return the GPU's readings of one group; empty if they are unknown."""
        values = self.groups.get(group)
        return values.readings if values is not None else ()

    def value(self, group: Group, name: str, *labels: str) -> float | None:
        """Return one reading of the GPU; None if the value is unknown."""
        for reading in self.readings(group):
            if reading.name == name and reading.labels == labels:
                return reading.value
        return None


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """The state of all GPUs of the node at one moment.

    `failure` is the reason why the source as a whole does not respond, or empty. `released`: the
    exporter has released the GPUs. `events_up`: the event process waits for driver events (None:
    the source has none).
    """

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
