"""Renders samples as lines of the Prometheus exposition formats.

Names and labels of a series rarely change. So `name{labels} ` is cached, and each render only
appends the values. Sample lines are the same in both formats; headers differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from exporter.catalogue import Catalogue

MAX_VALUE = 512
MAX_PREFIXES = 50_000
_EXACT = 1 << 63  # integers up to this limit are written exactly, larger ones as floats


class Sample(NamedTuple):
    """One sample. `labels` are the label values in the catalogue's order.

    For a histogram's `x_bucket`, the value of `le` follows.
    """

    name: str
    labels: tuple[str, ...]
    value: float


class Family(NamedTuple):
    """The header of a metric family. `type` is gauge, counter, histogram, summary or untyped."""

    name: str
    type: str
    help: str


class SeriesSchema(NamedTuple):
    """The metric family and the label names of a series name."""

    family: Family
    labels: tuple[str, ...]


class Block(NamedTuple):
    """The rendered sample lines of one metric family."""

    family: Family
    lines: str


def escape(value: str) -> str:
    """Return the label value, truncated to 512 characters and escaped.

    Invalid characters (unpaired surrogates, and NUL, which parsers drop) become U+FFFD.
    """
    value = value[:MAX_VALUE]
    if not value.isascii():
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.replace("\0", "\ufffd")


def number(value: float) -> str:
    """Return the value as a string. An integer too large for a float becomes infinite.

    A number out of range would make the whole scrape fail. Raises ValueError if the value is not a
    number.
    """
    if isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            return str(int(value))
        try:
            value = float(value)
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    elif not isinstance(value, float):
        raise ValueError(f"{value!r} is not a number")
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


@lru_cache(maxsize=4096)
def text_header(family: Family) -> str:
    """Return the HELP and TYPE lines in the text format 0.0.4."""
    help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {help_text}\n# TYPE {family.name} {family.type}\n"


@lru_cache(maxsize=4096)
def openmetrics_header(family: Family) -> str:
    """Return the HELP and TYPE lines in OpenMetrics.

    A counter's family name has no `_total`. A counter whose name does not end in `_total`, and an
    untyped family, get the type unknown.
    """
    name, kind = family.name, family.type
    if kind == "counter" and name.endswith("_total"):
        name = name.removesuffix("_total")
    elif kind in ("counter", "untyped"):
        kind = "unknown"
    help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"


class Renderer:
    """Renders samples of the metric families of a catalogue. Each thread needs its own renderer."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._prefixes: dict[tuple[str, tuple[str, ...]], tuple[Family, str]] = {}

    def render(
        self, samples: Iterable[Sample], foreign: Mapping[str, SeriesSchema] | None = None
    ) -> tuple[Block, ...]:
        """Return the rendered samples grouped by family. Of duplicate series, the first is used.

        `foreign` describes series from other producers, by name; it takes precedence over the
        catalogue. Raises KeyError for a series in neither of them, and ValueError for a wrong
        number of labels.
        """
        if foreign:
            self._prefixes.clear()  # the meaning of a name may have changed since the last render
        families: dict[Family, dict[str, float]] = {}
        prefixes = self._prefixes
        for sample in samples:
            key = (sample.name, sample.labels)
            family, prefix = prefixes.get(key) or self._prefix(key, foreign or {})
            series = families.get(family)
            if series is None:
                series = families[family] = {}
            series.setdefault(prefix, sample.value)
        return tuple(
            Block(family, "".join([f"{prefix}{number(v)}\n" for prefix, v in series.items()]))
            for family, series in families.items()
        )

    def _prefix(
        self, key: tuple[str, tuple[str, ...]], foreign: Mapping[str, SeriesSchema]
    ) -> tuple[Family, str]:
        name, values = key
        family, names = self._series(name, foreign)
        if len(values) != len(names):
            raise ValueError(
                f"{name}: expected {len(names)} label values ({', '.join(names)}), got {len(values)}"
            )
        pairs = zip(names, values, strict=True)
        labels = ",".join(f'{label}="{escape(value)}"' for label, value in pairs)
        if len(self._prefixes) >= MAX_PREFIXES:
            self._prefixes.clear()  # drops series of ended jobs; current ones are cached again
        prefix = f"{name}{{{labels}}} " if labels else f"{name} "
        found = self._prefixes[key] = (family, prefix)
        return found

    def _series(self, name: str, foreign: Mapping[str, SeriesSchema]) -> SeriesSchema:
        metric = self._catalogue.of_series(name)
        if metric is None or name in foreign:
            return foreign[name]
        le = ("le",) if metric.type == "histogram" and name.endswith("_bucket") else ()
        return SeriesSchema(Family(metric.name, metric.type, metric.help), (*metric.labels, *le))
