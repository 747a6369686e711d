"""Samples to lines, in the forms that Prometheus reads.

Names and labels of a series hardly change, so `name{labels} ` is made once and kept; a render only
puts numbers behind it. Lines of samples are the same in every form, headers are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from exporter.catalogue import Catalogue

MAX_VALUE = 512
MAX_PREFIXES = 50_000
_EXACT = 1 << 63  # integers up to here are written out, larger ones as the float they are read as


class Sample(NamedTuple):
    """One number. `labels` are the values of the labels that the catalogue names, in its order; of a
    histogram's `x_bucket` those and `le`."""

    name: str
    labels: tuple[str, ...]
    value: float


class Family(NamedTuple):
    """What a header says. `type` as the text format has it: gauge, counter, histogram, summary, untyped."""

    name: str
    type: str
    help: str


class Series(NamedTuple):
    """The family that a series' name belongs to, and the names of its labels."""

    family: Family
    labels: tuple[str, ...]


class Block(NamedTuple):
    """A family with the lines of its samples."""

    family: Family
    lines: str


def escape(value: str) -> str:
    """A label value as the formats want it, cut to 512 characters. What no text can hold (half a
    surrogate pair, and NUL, which parsers drop) becomes U+FFFD."""
    value = value[:MAX_VALUE]
    if not value.isascii():
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.replace("\0", "\ufffd")


def number(value: float) -> str:
    """A value as the formats want it; what is too large for a float is infinite, because a number
    out of range would cost the scrape as a whole. Raises ValueError for what is no number."""
    if isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            return str(int(value))
        try:
            value = float(value)
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    elif not isinstance(value, float):
        raise ValueError(f"{value!r} is no number")
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


@lru_cache(maxsize=4096)
def text_header(family: Family) -> str:
    """HELP and TYPE in the text format 0.0.4."""
    told = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {told}\n# TYPE {family.name} {family.type}\n"


@lru_cache(maxsize=4096)
def openmetrics_header(family: Family) -> str:
    """HELP and TYPE in OpenMetrics: a counter's family is named without `_total`, and one that was
    named against that rule is of unknown type, as is what the text format calls untyped."""
    name, kind = family.name, family.type
    if kind == "counter" and name.endswith("_total"):
        name = name.removesuffix("_total")
    elif kind in ("counter", "untyped"):
        kind = "unknown"
    told = family.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n"


class Renderer:
    """Renders samples of the families of one catalogue. One renderer belongs to one thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._prefixes: dict[tuple[str, tuple[str, ...]], tuple[Family, str]] = {}

    def render(
        self, samples: Iterable[Sample], foreign: Mapping[str, Series] | None = None
    ) -> tuple[Block, ...]:
        """The families of these samples, each whole; a series given twice counts once.

        `foreign` describes series, by name, that are read somewhere else; what it says stands above
        the catalogue, which knows families of others, too. Raises KeyError for a series in neither and ValueError for wrong labels.
        """
        if foreign:
            self._prefixes.clear()  # what a name means may be another thing than last time
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
        self, key: tuple[str, tuple[str, ...]], foreign: Mapping[str, Series]
    ) -> tuple[Family, str]:
        name, values = key
        family, names = self._series(name, foreign)
        if len(values) != len(names):
            raise ValueError(f"{name} has the labels {names}, not {len(values)} values")
        pairs = zip(names, values, strict=True)
        labels = ",".join(f'{label}="{escape(value)}"' for label, value in pairs)
        if len(self._prefixes) >= MAX_PREFIXES:
            self._prefixes.clear()  # jobs come and go; what still lives is made again
        prefix = f"{name}{{{labels}}} " if labels else f"{name} "
        found = self._prefixes[key] = (family, prefix)
        return found

    def _series(self, name: str, foreign: Mapping[str, Series]) -> Series:
        metric = self._catalogue.of_series(name)
        if metric is None or name in foreign:
            return foreign[name]
        le = ("le",) if metric.type == "histogram" and name.endswith("_bucket") else ()
        return Series(Family(metric.name, metric.type, metric.help), (*metric.labels, *le))
