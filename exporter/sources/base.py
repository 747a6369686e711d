"""What a source of GPU values is: the readings it gives and the ways in which it can fail.

A source is used in the worker process alone. Any call may hang; nothing here guards against that,
the supervisor does. A field that the device does not support, or that could not be read, is None:
unknown is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Group = Literal["open", "identify", "presence", "load", "health", "limits"]

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


class Unsupported(Exception):  # noqa: N818 - it is an answer, not an error
    """The device has no such quantity: remembered and not asked again."""


class SourceLost(Exception):  # noqa: N818
    """This GPU is gone from the driver or the bus; the others are not concerned."""


class SourceFailed(Exception):  # noqa: N818
    """The source as a whole cannot answer (driver not loaded, versions differ): open it again."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a GPU is. `slot` is the source's own number of it; `pci_bus_id` as the source writes it."""

    slot: int
    uuid: str
    pci_bus_id: str
    name: str = ""
    serial: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What rarely changes. Watts, degrees Celsius, hertz."""

    power: float | None = None
    slowdown: float | None = None
    shutdown: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What changes all the time. Ratios, bytes, degrees Celsius, watts, joules, hertz, seconds.

    `clock_events` says which reasons hold the clock down now, `clock_event_seconds` for how long
    each did in all.
    """

    utilization: float | None = None
    memory_activity: float | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    temperature: float | None = None
    memory_temperature: float | None = None
    power: float | None = None
    energy: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    clock_events: dict[str, bool] | None = None
    clock_event_seconds: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class EccCount:
    """One ECC counter: error corrected or uncorrected, scope volatile or aggregate, location."""

    error: str
    scope: str
    location: str
    count: int


@dataclass(frozen=True, slots=True)
class Health:
    """The memory's health: ECC counters and row remaps."""

    ecc: tuple[EccCount, ...] = ()
    remap_correctable: int | None = None
    remap_uncorrectable: int | None = None
    remap_pending: bool | None = None
    remap_failure: bool | None = None


class Source(Protocol):
    """Where GPU values come from.

    Every method may hang, and may raise SourceLost (this GPU) or SourceFailed (all of it).
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

    def expected(self) -> int:
        """How many GPUs the bus shows, whether they answer or not; 0 when it cannot say."""
        ...

    def identify(self, slot: int) -> Device:
        """What the GPU in this slot is."""
        ...

    def presence(self, slot: int) -> None:
        """Return when the GPU answers."""
        ...

    def load(self, slot: int, now: float) -> Load:
        """Load, clocks, temperature and power at Unix time `now`."""
        ...

    def health(self, slot: int) -> Health:
        """ECC counters and row remaps."""
        ...

    def limits(self, slot: int) -> Limits:
        """Thresholds and highest values."""
        ...
