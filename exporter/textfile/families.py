"""Parses a whole file in the text format into metric families. Invalid files are rejected with a
reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.textfile.grammar import Comment, Labels, Line, number, read
from exporter.textfile.rejected import TextFileRejected

MAX_SERIES = 20_000
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_BOUND = {"histogram": "le", "summary": "quantile"}

Series = tuple[str, Labels]


@dataclass(slots=True)
class ParsedFamily:
    """A metric family of a file. `type` and `help` are None while the file has not set them."""

    name: str
    type: str | None = None
    help: str | None = None
    samples: dict[Series, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The type of the metric family; untyped if the file has no TYPE line for it."""
        return self.type or "untyped"


def parse(data: bytes) -> dict[str, ParsedFamily]:
    """Return the families with samples, by name. Raises TextFileRejected with the line number."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TextFileRejected("encoding", f"invalid UTF-8 at byte {error.start}") from None
    if "\0" in text:
        raise TextFileRejected("encoding", "the file has a NUL character")
    if text and not text.endswith("\n"):
        raise TextFileRejected(
            "format", "no newline at the end of the file: the file may be incomplete"
        )
    families: dict[str, ParsedFamily] = {}
    owners: dict[str, str] = {}
    count = 0
    for at, line in enumerate(text.split("\n"), 1):
        try:
            found = read(line)
            if isinstance(found, Comment):
                _describe(families, found)
            elif found is not None:
                count += 1
                _add(families, owners, found, count)
        except TextFileRejected as error:
            raise TextFileRejected(error.reason, f"line {at}: {error}") from None
    for family in families.values():
        if family.type == "histogram":
            _add_inf_buckets(family)
    return {name: family for name, family in families.items() if family.samples}


def _describe(families: dict[str, ParsedFamily], found: Comment) -> None:
    family = families.setdefault(found.name, ParsedFamily(found.name))
    if found.word == "HELP":
        if family.help is not None:
            raise TextFileRejected("inconsistent", f"duplicate HELP of {found.name}")
        family.help = found.text
    elif family.type is not None or family.samples:
        raise TextFileRejected(
            "inconsistent", f"duplicate TYPE of {found.name}, or TYPE after its samples"
        )
    else:
        family.type = found.text


def _add(families: dict[str, ParsedFamily], owners: dict[str, str], line: Line, count: int) -> None:
    if count > MAX_SERIES:
        raise TextFileRejected("limit", f"more than {MAX_SERIES} series")
    name = _family_of(families, line.name)
    family = families.setdefault(name, ParsedFamily(name))
    if owners.setdefault(line.name, name) != name:
        raise TextFileRejected(
            "inconsistent", f"{line.name} is a family and also a part of another family"
        )
    series = (line.name, _checked_labels(family, line))
    if series in family.samples:
        raise TextFileRejected("duplicate", f"duplicate series of {line.name}")
    family.samples[series] = line.value


def _family_of(families: Mapping[str, ParsedFamily], name: str) -> str:
    """Return the family name of a series. For a series of a histogram or summary, this is the name
    of the histogram or summary; otherwise it is the name of the series."""
    for kind, parts in _PARTS.items():
        for part in parts:
            whole = families.get(name.removesuffix(part)) if name.endswith(part) else None
            if whole is not None and whole.type == kind:
                return whole.name
    return name


def _checked_labels(family: ParsedFamily, line: Line) -> Labels:
    """Return the labels of a sample. The bound of a bucket or quantile is rewritten in canonical
    notation."""
    bound = _BOUND.get(family.kind)
    part = line.name.removeprefix(family.name)
    if bound is None or part in ("_sum", "_count"):
        return line.labels
    if part != ("_bucket" if bound == "le" else ""):
        raise TextFileRejected(
            "format", f"{line.name} is a histogram, which cannot have a plain value"
        )
    labels = dict(line.labels)
    try:
        labels[bound] = _canonical_bound(number(labels.get(bound, "")))
    except ValueError:
        raise TextFileRejected(
            "format", f"{line.name}: expected a number in the label {bound}"
        ) from None
    return tuple(sorted(labels.items()))


def _canonical_bound(bound: float) -> str:
    """Format a bound in canonical notation. Raises ValueError for NaN."""
    if math.isnan(bound):
        raise ValueError("NaN is not a valid bucket bound")
    if math.isinf(bound):
        return "+Inf" if bound > 0 else "-Inf"
    return repr(bound).removesuffix(".0")


def _add_inf_buckets(family: ParsedFamily) -> None:
    """Add the +Inf bucket to histograms without it. Raises TextFileRejected for a histogram without
    a count."""
    bucket, count = f"{family.name}_bucket", f"{family.name}_count"
    groups = {
        tuple(pair for pair in labels if pair[0] != "le"): None for _, labels in family.samples
    }
    for labels in groups:
        if (count, labels) not in family.samples:
            raise TextFileRejected("format", f"the histogram {family.name} has no _count")
        whole = (bucket, tuple(sorted((*labels, ("le", "+Inf")))))
        family.samples.setdefault(whole, family.samples[count, labels])
