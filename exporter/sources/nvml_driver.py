"""The NVML interface that the collectors' groups use, independent of the Python binding.

If the card or an old driver does not support a quantity, this is not an error: the result is None.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

Field = tuple[int, int]  # a field value: its id, and its scope (a link, a part of the board, or 0)
Row = tuple[str, tuple[str, ...], float | None]  # a reading; None is omitted

Key = TypeVar("Key", bound=Hashable)


class Share(NamedTuple):
    """GPU use of a process: percentage of the multiprocessors' time, up to Unix time `at` in
    microseconds."""

    pid: int
    sm: int
    at: int


class NvmlApi(Protocol):
    """Each method may raise SourceLost and SourceFailed, and returns None for unavailable values."""

    def ask(self, slot: int, name: str, *arguments: int, of: Any = None) -> Any:
        """Return the result of the named function for the GPU, or for a part of it (`of`)."""
        ...

    def first(self, slot: int, *names: str, arguments: tuple[int, ...] = ()) -> Any:
        """Return the result of the first of these functions that card and driver support."""
        ...

    def fields(self, slot: int, wanted: Iterable[Field]) -> dict[Field, int]:
        """Return the field values that the card supports, read in batches."""
        ...

    def lacks(self, slot: int, field: Field) -> bool:
        """Return whether the card is known not to support this field value."""
        ...

    def memory(self, slot: int, of: Any = None) -> Any:
        """`total`, `used`, `free` in bytes, and `reserved` where the driver reports it separately."""
        ...

    def fabric(self, slot: int) -> Any:
        """`state`, `status`, `clusterUuid`, `cliqueId`, and `healthMask` where the driver has it."""
        ...

    def sram(self, slot: int) -> Any:
        """`aggregateUncBucket...` by unit, and `bThresholdExceeded`."""
        ...

    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]:
        """Profiling metrics since the previous call, for the GPU or for one of its GPU instances."""
        ...

    def shares(self, slot: int, since: int) -> list[Share] | None:
        """GPU use of processes since `since` (Unix time in microseconds)."""
        ...

    def relearn(self, slot: int) -> None:
        """Forget which quantities the GPU does not support, because this may have changed."""
        ...


def choose(driver: NvmlApi, slot: int, wanted: Mapping[Key, tuple[Field, ...]]) -> dict[Key, int]:
    """For each key, the first of its field values that the card supports. One driver call once the
    supported fields are known."""
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
    """Return the value in base units, converted with the divisor."""
    return None if value is None else value / divisor


def positive(value: int | None) -> int | None:
    """Return the value if it is positive: some cards report 0 for a missing sensor."""
    return value if value is not None and value > 0 else None


def signed(value: int | None) -> int | None:
    """Return a signed 32-bit number that may have been reported as unsigned."""
    if value is None or value < 1 << 31:
        return value
    return value - (1 << 32) if value < 1 << 32 else None


def text(value: str | bytes | None) -> str:
    """Return a text of the library; empty when missing."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
