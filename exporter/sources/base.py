"""The interface of a source of GPU values, its readings and its exceptions.

Sources run only in worker processes. Any call may hang; the supervisor handles this, not the
source. A source omits values that the device does not provide or that cannot be read, because
unknown is not zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

# Readings of a GPU that are read together, at one interval. Each group except the first three is the
# collector `gpu_GROUP`, with the families of this collector in the catalogue.
Group = Literal[
    "open",
    "identify",
    "presence",
    "load",
    "gpm",
    "health",
    "links",
    "mig",
    "processes",
    "limits",
]
READ_GROUPS: tuple[Group, ...] = (
    "load",
    "gpm",
    "health",
    "links",
    "mig",
    "processes",
    "limits",
)

# Reasons for clock throttling, in the order of the driver's bits.
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
    """This GPU is missing from the driver or the bus. Other GPUs are not affected."""


class SourceFailed(Exception):  # noqa: N818
    """The source as a whole failed (driver not loaded, version mismatch) and must be reopened."""


class Reading(NamedTuple):
    """One value of one GPU.

    It consists of the family's name, the values of its labels after `gpu` and `uuid`, and the
    number in the family's unit.
    """

    name: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Device:
    """The identity of a GPU.

    `slot` is the source's number of the GPU. `pci_bus_id` is in the source's notation. Unknown
    strings are empty.
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
    """A GPU on the PCI bus, even if the driver does not list it. `uuid` may be empty."""

    pci_bus_id: str
    uuid: str = ""


EventKind = Literal["xid", "ecc", "unavailable", "recovery"]


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """A driver event of one GPU.

    For an XID, `code` is the XID. For other events it is the driver's number of the event. Unknown
    strings are empty.
    """

    uuid: str
    pci_bus_id: str
    kind: EventKind
    code: int


class Source(Protocol):
    """A source of GPU values. GPUs are identified by their number (slot).

    Every method may hang, and may raise SourceLost (this GPU) or SourceFailed (the whole source). A
    source calls its `progress` function before each call that may hang, so that a slow GPU is not
    mistaken for a hung one.
    """

    @property
    def name(self) -> str:
        """The name of the source of GPU values: `nvml` or `simulated`."""
        ...

    def open(self) -> None:
        """Connect to the driver. Raises SourceFailed with the reason."""
        ...

    def refresh(self) -> None:
        """Enumerate the GPUs again. May reconnect to the driver."""
        ...

    def slots(self) -> tuple[int, ...]:
        """Return the source's number (slot) of each GPU that is present now."""
        ...

    def bus(self) -> tuple[BusGpu, ...]:
        """Return the GPUs on the PCI bus; empty if they are unknown."""
        ...

    def identify(self, slot: int) -> Device:
        """Return the identity (UUID, bus address, model and more) of the GPU with this number (slot)."""
        ...

    def presence(self, slot: int) -> None:
        """Check that the GPU responds. Raises SourceLost if the GPU is lost."""
        ...

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        """Return the readings of one group of a GPU at Unix time `now`.

        Failed readings are omitted and counted.
        """
        ...

    def errors(self) -> dict[str, int]:
        """Return the number of failed readings by error code since the last call."""
        ...


Progress = Callable[[], None]
