"""The interface of a collector. The page builder measures the duration and success of each run."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol

from exporter.exposition import Sample


class CollectorError(Exception):
    """The collector cannot return data now. The message of the exception is one sentence for the log."""


class Collector(Protocol):
    """A collector of metrics.

    An `inline` collector only reads memory and runs whenever the metrics page is rendered. All
    other collectors run in their own threads, every `interval` seconds, so a hung collector does
    not block the others.
    """

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float: ...

    @property
    def inline(self) -> bool: ...

    def collect(self, now: float) -> Iterable[Sample]:
        """Return the samples at Unix time `now`. No data means no samples; a failure raises an
        exception."""
        ...


class TokenCollector(Collector, Protocol):
    """A collector with a token that changes when its samples change."""

    def token(self, now: float) -> Hashable:
        """Return a token. While the token is unchanged, `collect` would return the same samples.

        If the token differs, `collect` is called immediately afterwards. Raises the same exceptions
        as `collect`.
        """
        ...
