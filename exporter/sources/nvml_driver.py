"""The NVML interface used by the modules that read groups. Independent of the Python binding.

If the GPU or an old driver does not support a value, the result is None, not an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

Field = tuple[int, int]  # a field value: its id, and its scope (a link, a part of the board, or 0)
Row = tuple[str, tuple[str, ...], float | None]  # a reading; None is omitted

Key = TypeVar("Key", bound=Hashable)


class Share(NamedTuple):
    """The GPU use of a process: percent of the multiprocessors' time, until Unix time `at` in
    microseconds."""

    pid: int
    sm: int
    at: int


class NvmlApi(Protocol):
    """NVML calls for one GPU by number.

    Each method may raise SourceLost and SourceFailed, and returns None for unavailable values.
    """

    def ask(self, slot: int, name: str, *arguments: int, of: Any = None) -> Any:
        """Return the result of the named NVML function for the GPU, or for a part of it (`of`)."""
        ...

    def first(self, slot: int, *names: str, arguments: tuple[int, ...] = ()) -> Any:
        """Return the result of the first NVML function in the list that GPU and driver support."""
        ...

    def fields(self, slot: int, wanted: Iterable[Field]) -> dict[Field, int]:
        """Return the field values that the GPU supports. They are read in batches."""
        ...

    def lacks(self, slot: int, field: Field) -> bool:
        """Return whether an earlier read showed that the GPU does not support this field value."""
        ...

    def memory(self, slot: int, of: Any = None) -> Any:
        """Return the GPU memory in bytes: `total`, `used`, `free`.

        The result includes `reserved` if the driver reports it separately.
        """
        ...

    def fabric(self, slot: int) -> Any:
        """Return the state of the NVLink fabric.

        The fields are `state`, `status`, `clusterUuid`, `cliqueId`, and `healthMask` if the driver
        provides it.
        """
        ...

    def sram(self, slot: int) -> Any:
        """Return the uncorrectable SRAM errors by unit (`aggregateUncBucket...`) and
        `bThresholdExceeded`."""
        ...

    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]:
        """Return profiling metrics since the previous call, for the GPU or one of its GPU
        instances."""
        ...

    def shares(self, slot: int, since: int) -> list[Share] | None:
        """Return the GPU use of processes after `since` (Unix time in microseconds)."""
        ...

    def relearn(self, slot: int) -> None:
        """Discard the list of values that the GPU does not support, because this may have changed."""
        ...


def choose(driver: NvmlApi, slot: int, wanted: Mapping[Key, tuple[Field, ...]]) -> dict[Key, int]:
    """Return, for each key, the first of its NVML fields that the GPU supports.

    This takes one driver call if the supported fields are already known.
    """
    found: dict[Key, int] = {}
    left = dict(wanted)
    while left:
        asked = {
            key: field
            for key, fields in left.items()
            if (field := next((f for f in fields if not driver.lacks(slot, f)), None)) is not None
        }
        given = driver.fields(slot, asked.values()) if asked else {}
        found |= {key: given[field] for key, field in asked.items() if field in given}
        left = {key: left[key] for key, field in asked.items() if driver.lacks(slot, field)}
    return found


def scaled(value: float | None, divisor: float) -> float | None:
    """Return the value divided by `divisor`, in base units; None stays None."""
    return None if value is None else value / divisor


def positive(value: int | None) -> int | None:
    """Return the value if it is positive, otherwise None. Some GPUs report 0 for a missing sensor."""
    return value if value is not None and value > 0 else None


def signed(value: int | None) -> int | None:
    """Interpret a 32-bit number as signed, even if it was reported as unsigned."""
    if value is None or value < 1 << 31:
        return value
    return value - (1 << 32) if value < 1 << 32 else None


def text(value: str | bytes | None) -> str:
    """Return a string of the NVML library as str; empty if the string is missing."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
