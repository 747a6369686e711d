"""What a collector is: a name, an interval, and samples. The frame measures it, not itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Protocol

from exporter.pages.exposition import Sample, Series


class CollectorError(Exception):
    """A collector cannot say anything now; the message is one sentence for the log."""


class Collector(Protocol):
    """One concern of the exporter.

    `inline` collectors read memory only and run whenever something changed; the others each have a
    thread and run every `interval` seconds, so that one which hangs holds up nobody.
    """

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float: ...

    @property
    def inline(self) -> bool: ...

    def collect(self, now: float) -> Iterable[Sample]:
        """The samples at Unix time `now`. No sample means no data; a failure raises."""
        ...


class TokenCollector(Collector, Protocol):
    """A collector that knows what its samples depend on, so that they need not be made each time."""

    def token(self, now: float) -> Hashable:
        """Equal to the one before when `collect`, which follows at once if it is not, would give the
        same samples again. One that has to read for it raises as `collect` does."""
        ...


class ForeignCollector(Collector, Protocol):
    """A collector that shows what others wrote, in families that are not the exporter's own."""

    def foreign(self) -> Mapping[str, Series]:
        """The series that `collect` has just given, by name; asked after each run. What stands here is
        never a family that another collector gives."""
        ...
