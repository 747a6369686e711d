"""Samples to text, the Prometheus exposition format 0.0.4.

Names and labels of a series hardly change, so `name{labels} ` is made once and kept; a render only
puts numbers behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from exporter.catalogue import Catalogue, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_VALUE = 512
MAX_PREFIXES = 50_000


class Sample(NamedTuple):
    """One number. `labels` are the values of the labels that the catalogue names, in its order."""

    name: str
    labels: tuple[str, ...]
    value: float


def escape(value: str) -> str:
    """A label value as the format wants it, cut to 512 characters."""
    return value[:MAX_VALUE].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """A value as the format wants it."""
    if isinstance(value, int):
        return str(int(value))
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


class Renderer:
    """Renders samples of the families of one catalogue. One renderer belongs to one thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._prefixes: dict[tuple[str, tuple[str, ...]], str] = {}

    def render(self, samples: Iterable[Sample]) -> bytes:
        """The text of these samples, each family whole; a series given twice counts once.

        Raises KeyError for a family that is not in the catalogue and ValueError for wrong labels.
        """
        families: dict[str, dict[str, float]] = {}
        prefixes = self._prefixes
        for sample in samples:
            key = (sample.name, sample.labels)
            prefix = prefixes.get(key) or self._prefix(key)
            family = families.get(sample.name)
            if family is None:
                family = families[sample.name] = {}
            family.setdefault(prefix, sample.value)
        lines: list[str] = []
        for name, series in families.items():
            metric = self._catalogue.get(name)
            lines.append(f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}")
            lines.extend([prefix + number(value) for prefix, value in series.items()])
        return ("\n".join(lines) + "\n").encode() if lines else b""

    def _prefix(self, key: tuple[str, tuple[str, ...]]) -> str:
        name, values = key
        metric: Metric = self._catalogue.get(name)
        if len(values) != len(metric.labels):
            raise ValueError(f"{name} has the labels {metric.labels}, not {len(values)} values")
        pairs = zip(metric.labels, values, strict=True)
        labels = ",".join(f'{label}="{escape(value)}"' for label, value in pairs)
        if len(self._prefixes) >= MAX_PREFIXES:
            self._prefixes.clear()  # jobs come and go; what still lives is made again
        prefix = self._prefixes[key] = f"{name}{{{labels}}} " if labels else f"{name} "
        return prefix
