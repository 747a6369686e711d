"""The catalogue of all metric families that fleetmedic exports or reads, from catalogue.yml.

The exporter takes HELP, TYPE and label names from the catalogue. Tests check rules, dashboards and
documentation against the catalogue. `python -m exporter.reference` prints docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from fleetmedic.kernel.settings import load_rows

PATH = Path(__file__).with_name("catalogue.yml")

MetricType = Literal["gauge", "counter", "histogram", "untyped"]
Unit = Literal[
    "ratio",
    "bytes",
    "celsius",
    "watts",
    "joules",
    "hertz",
    "seconds",
    "timestamp",
    "count",
    "bool",
    "info",
    "none",
]
Producer = Literal[
    "exporter", "remediator", "rules", "pool", "prometheus", "alertmanager", "external", "later"
]

OURS: tuple[Producer, ...] = ("exporter", "remediator", "rules", "pool")


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric family. `labels` omits `cluster` and `node` if the scrape configuration adds them."""

    name: str
    type: MetricType
    unit: Unit
    labels: tuple[str, ...]
    collector: str
    producer: Producer
    help: str
    values: dict[str, tuple[str, ...]] = {}
    """The possible values of a label with a closed set of values; other labels can have any value."""

    shared: dict[Producer, tuple[str, ...]] = {}
    """The labels of this family when another producer exports it."""

    @property
    def ours(self) -> bool:
        """Whether a fleetmedic process exports this metric family."""
        return self.producer in OURS

    def series_names(self) -> tuple[str, ...]:
        """Return the family's series names in PromQL: three for a histogram, one for other types."""
        if self.type == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


class Catalogue:
    """All metric families, in the order of catalogue.yml."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._by_name = {metric.name: metric for metric in metrics}
        if len(self._by_name) != len(metrics):
            raise ValueError("duplicate metric in the catalogue")
        self._by_series = {name: metric for metric in metrics for name in metric.series_names()}

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Metric:
        """Return the metric family with this name. Raises KeyError for an unknown name."""
        return self._by_name[name]

    def of_series(self, name: str) -> Metric | None:
        """Return the metric family of a series name such as `x_bucket`; None if no family has this series."""
        return self._by_series.get(name)

    def of_collector(self, collector: str) -> tuple[Metric, ...]:
        """Return the metric families that this collector of the exporter may export."""
        return tuple(metric for metric in self if metric.collector == collector)


@cache
def catalogue() -> Catalogue:
    """Read and return the catalogue. The result is cached."""
    return Catalogue(load_rows(PATH, "metrics", Metric))
