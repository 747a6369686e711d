"""What the families need of NVML: questions about a GPU by its number, asked without the binding.

A card that does not have something, or a driver too old to know it, is no error: the answer is None.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

Field = tuple[int, int]  # a field value: its id, and its scope (a link, a part of the board, or 0)
Row = tuple[str, tuple[str, ...], float | None]  # a reading; None is left out

Key = TypeVar("Key", bound=Hashable)


class Share(NamedTuple):
    """What a process had of a GPU: per cent of the multiprocessors' time, until Unix time `at` in
    microseconds."""

    pid: int
    sm: int
    at: int


class Driver(Protocol):
    """Each method may raise SourceLost and SourceFailed, and answers None for what is not there."""

    def ask(self, slot: int, name: str, *arguments: int, of: Any = None) -> Any:
        """What the function of that name says of the GPU, or of a part of it (`of`)."""
        ...

    def first(self, slot: int, *names: str, arguments: tuple[int, ...] = ()) -> Any:
        """What the first of these functions says that card and driver have."""
        ...

    def fields(self, slot: int, wanted: Iterable[Field]) -> dict[Field, int]:
        """Field values, many at a time: those that the card has."""
        ...

    def lacks(self, slot: int, field: Field) -> bool:
        """Whether the card is known not to have this field value."""
        ...

    def memory(self, slot: int, of: Any = None) -> Any:
        """`total`, `used`, `free` in bytes, and `reserved` where the driver tells it apart."""
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
        """Profiling metrics since the question before, of the GPU or of a GPU instance of it."""
        ...

    def shares(self, slot: int, since: int) -> list[Share] | None:
        """What processes had since then (Unix time in microseconds)."""
        ...

    def relearn(self, slot: int) -> None:
        """Forget what the GPU was found not to have: it is another kind of GPU now."""
        ...


def choose(driver: Driver, slot: int, wanted: Mapping[Key, tuple[Field, ...]]) -> dict[Key, int]:
    """For each key the first of its field values that the card has. One call of the driver once it is
    known which those are."""
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
    """The value in base units, of one that comes in so many parts of them."""
    return None if value is None else value / divisor


def positive(value: int | None) -> int | None:
    """The value if it says anything: a sensor that is not there reads 0 on some cards."""
    return value if value is not None and value > 0 else None


def signed(value: int | None) -> int | None:
    """A number of 32 bits that may have been told as one without a sign."""
    if value is None or value < 1 << 31:
        return value
    return value - (1 << 32) if value < 1 << 32 else None


def text(value: str | bytes | None) -> str:
    """A text of the library; empty when there is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
