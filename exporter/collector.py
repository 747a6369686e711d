"""The interface of a collector: a name, an interval, and samples. The frame measures duration and success."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

from exporter.exposition import Sample


class CollectorError(Exception):
    """A collector has no data now; the message is one sentence for the log."""


class Collector(Protocol):
    """A collector.

    `inline` collectors only read memory and run whenever the page is rendered. Each other collector has
    its own thread and runs every `interval` seconds, so that a hung collector does not block the others.
    """

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float: ...

    @property
    def inline(self) -> bool: ...

    def collect(self, now: float) -> Iterable[Sample]:
        """Return the samples at Unix time `now`. No sample means no data; a failure raises."""
        ...


class TokenCollector(Collector, Protocol):
    """A collector with a token that shows whether its samples changed."""

    def token(self, now: float) -> Hashable:
        """Return a token that is equal to the previous one when `collect` would return the same
        samples. If the token differs, `collect` is called immediately afterwards. May raise like
        `collect`."""
        ...
