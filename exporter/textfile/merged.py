"""Merges the metric families of several *.prom files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter import exposition
from exporter.exposition import Sample
from exporter.textfile.families import MAX_SERIES, ParsedFamily, Series
from exporter.textfile.rejected import TextFileRejected

MAX_LABEL_NAMES = 64  # of all series of a name, because each series gets all of them


class Merged:
    """Merges *.prom files one by one. A file that contradicts previous files is rejected."""

    def __init__(self) -> None:
        self._families: dict[str, ParsedFamily] = {}
        self._where: dict[str, str] = {}
        self._owner: dict[str, str] = {}
        self._labels: dict[str, set[str]] = {}
        self._count = 0

    def add(self, path: str, families: Mapping[str, ParsedFamily]) -> None:
        """Add all metric families of a file. If the file is rejected (TextFileRejected), nothing is added."""
        new = sum(len(family.samples) for family in families.values())
        if self._count + new > MAX_SERIES:
            raise TextFileRejected("limit", f"more than {MAX_SERIES} series in all files")
        labels: dict[str, set[str]] = {}
        for family in families.values():
            self._check(family)
            for series in family.samples:
                self._check_series(family.name, series)
                names = labels.setdefault(series[0], set(self._labels.get(series[0], ())))
                names.update(label for label, _ in series[1])
        for name, found in labels.items():
            if len(found) > MAX_LABEL_NAMES:
                raise TextFileRejected(
                    "limit", f"{name} has more than {MAX_LABEL_NAMES} label names"
                )
        self._count += new
        self._labels |= labels
        for family in families.values():
            self._take(path, family)

    def schemas(self) -> dict[str, exposition.SeriesSchema]:
        """Return the schema of each series name: its family, and all label names of its samples."""
        headers = {
            name: exposition.Family(name, family.kind, self._help(family))
            for name, family in self._families.items()
        }
        return {
            series: exposition.SeriesSchema(headers[name], tuple(sorted(self._labels[series])))
            for series, name in self._owner.items()
        }

    def samples(self, described: Mapping[str, exposition.SeriesSchema]) -> Iterator[Sample]:
        """Yield the samples of all files.

        Missing labels are exported as empty; Prometheus treats both alike.
        """
        for family in self._families.values():
            for (series, pairs), value in family.samples.items():
                given = dict(pairs)
                names = described[series].labels
                yield Sample(series, tuple([given.get(name, "") for name in names]), value)

    def _take(self, path: str, family: ParsedFamily) -> None:
        mine = self._families.get(family.name)
        if mine is None:
            mine = self._families[family.name] = ParsedFamily(family.name, family.type)
            self._where[family.name] = path
        mine.help = family.help if mine.help is None else mine.help
        mine.samples.update(family.samples)
        self._owner.update({series[0]: family.name for series in family.samples})

    def _help(self, family: ParsedFamily) -> str:
        return (
            f"Metric read from {self._where[family.name]}" if family.help is None else family.help
        )

    def _check(self, family: ParsedFamily) -> None:
        known = self._families.get(family.name, family)
        where = self._where.get(family.name, "")
        if known.kind != family.kind:
            raise TextFileRejected(
                "inconsistent", f"{family.name} has the type {known.kind} in {where}"
            )
        if known.help is not None and family.help not in (None, known.help):
            raise TextFileRejected("inconsistent", f"{family.name} has another HELP in {where}")

    def _check_series(self, name: str, series: Series) -> None:
        known = self._families.get(name)
        if known is not None and series in known.samples:
            raise TextFileRejected("duplicate", f"another file has the same series of {series[0]}")
        if self._owner.get(series[0], name) != name:
            raise TextFileRejected(
                "inconsistent", f"{series[0]} belongs to another family in another file"
            )
