"""What a source of GPU values is: the readings it gives and the ways in which it can fail.

A source is used in a worker process alone. Any call may hang; nothing here guards against that,
the supervisor does. A quantity that the device does not have, or that could not be read, is left
out: unknown is not zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

# What is read of a GPU together, at one interval. Each group but the first three is the collector
# `gpu_GROUP`, and its families are those of that collector in the catalogue.
Group = Literal[
    "open", "identify", "presence",
    "load", "gpm", "health", "links", "mig", "processes", "limits",
]  # fmt: skip
READ_GROUPS: tuple[Group, ...] = (
    "load", "gpm", "health", "links", "mig", "processes", "limits",
)  # fmt: skip

# Why a clock is held down, in the order of the driver's bits.
CLOCK_REASONS = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
)


class SourceLost(Exception):  # noqa: N818
    """This GPU is gone from the driver or the bus; the others are not concerned."""


class SourceFailed(Exception):  # noqa: N818
    """The source as a whole cannot answer (driver not loaded, versions differ): open it again."""


class Reading(NamedTuple):
    """One quantity of one GPU: a family of the catalogue, the values of its labels after `gpu` and
    `uuid`, and a number in the family's unit."""

    name: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Device:
    """What a GPU is. `slot` is the source's own number of it; `pci_bus_id` as the source writes it.

    Texts that are not known are empty.
    """

    slot: int
    uuid: str
    pci_bus_id: str
    name: str = ""
    serial: str = ""
    driver: str = ""
    cuda: str = ""
    vbios: str = ""
    architecture: str = ""
    minor: str = ""


@dataclass(frozen=True, slots=True)
class BusGpu:
    """A GPU as the bus shows it, whether the driver answers for it or not. `uuid` may be empty."""

    pci_bus_id: str
    uuid: str = ""


EventKind = Literal["xid", "ecc", "unavailable", "recovery"]


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """What the driver told of its own accord about one GPU. `code` is the XID of an xid event, else
    the driver's number of the event. Texts that are not known are empty."""

    uuid: str
    pci_bus_id: str
    kind: EventKind
    code: int


class Source(Protocol):
    """Where GPU values come from.

    Every method may hang, and may raise SourceLost (this GPU) or SourceFailed (all of it). A source
    calls the `progress` it was made with before each call that may hang, so that slow is not taken
    for hung.
    """

    @property
    def name(self) -> str:
        """`nvml` or `simulated`."""
        ...

    def open(self) -> None:
        """Connect. Raises SourceFailed with a sentence."""
        ...

    def refresh(self) -> None:
        """Look again for GPUs that came or went; may reconnect."""
        ...

    def slots(self) -> tuple[int, ...]:
        """The numbers of the GPUs that the source has now."""
        ...

    def bus(self) -> tuple[BusGpu, ...]:
        """The GPUs that the bus shows; none when it cannot say."""
        ...

    def identify(self, slot: int) -> Device:
        """What the GPU in this slot is."""
        ...

    def presence(self, slot: int) -> None:
        """Return when the GPU answers."""
        ...

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        """A group's readings at Unix time `now`; those that failed are left out and counted."""
        ...

    def errors(self) -> dict[str, int]:
        """How often each error code came back since the last time this was asked."""
        ...


Progress = Callable[[], None]
