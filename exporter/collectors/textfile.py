"""Exports metrics from *.prom files, for example of cron jobs.

A file is accepted or rejected as a whole. Families of the exporter itself and of Prometheus are
ignored. Otherwise a user with write access could make a failed GPU look healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.catalogue import Catalogue
from exporter.exposition import Sample, SeriesSchema
from exporter.textfile.families import ParsedFamily
from exporter.textfile.folder import TextFileFolders
from exporter.textfile.merged import Merged
from exporter.textfile.rejected import TextFileRejected

NOT_TAKEN = ("exporter", "remediator", "rules", "pool", "prometheus", "alertmanager")


class Textfile:
    """Exports the metrics of the *.prom files in all directories.

    If two files contradict each other, the first by name is exported.
    """

    name = "textfile"
    inline = False
    interval = 5.0

    def __init__(
        self, folders: Sequence[str], catalogue: Catalogue, log: Callable[..., None]
    ) -> None:
        self._folders = TextFileFolders(folders)
        self._catalogue = catalogue
        self._log = log
        self._complaints: dict[str, str] = {}
        self._foreign: dict[str, SeriesSchema] = {}

    def foreign(self) -> Mapping[str, SeriesSchema]:
        """Return the schemas (family and label names) of the series in the *.prom files, by series name."""
        return self._foreign

    def collect(self, now: float) -> Iterator[Sample]:
        merged = Merged()
        dropped: set[str] = set()
        read: list[tuple[str, float]] = []
        wrong: dict[str, TextFileRejected] = {}
        for path, file in self._folders.files():
            try:
                if isinstance(file.found, TextFileRejected):
                    raise file.found
                ours = {name for name, family in file.found.items() if self._is_reserved(family)}
                merged.add(path, {n: f for n, f in file.found.items() if n not in ours})
            except TextFileRejected as error:
                wrong[path] = error
                continue
            dropped |= ours
            read.append((path, file.modified))
        wrong |= self._folders.problems
        self._log_changes(wrong, dropped)
        self._foreign = merged.schemas()
        yield from merged.samples(self._foreign)
        for path, modified in read:
            yield Sample("node_textfile_mtime_seconds", (path,), modified)
        yield Sample("node_textfile_scrape_error", (), bool(wrong))
        for path, why in sorted(wrong.items()):
            yield Sample("gpu_exporter_textfile_rejected", (path, why.reason), 1)
        yield Sample("gpu_exporter_textfile_families_dropped", (), len(dropped))

    def _is_reserved(self, family: ParsedFamily) -> bool:
        """Return whether fleetmedic or Prometheus reserves a name of this family, in either
        exposition format."""
        series = {name for name, _ in family.samples}
        for name in (*series, family.name, f"{family.name}_total"):
            metric = self._catalogue.of_series(name)
            if metric is None and name in self._catalogue:
                metric = self._catalogue.get(name)
            if metric is not None and metric.producer in NOT_TAKEN:
                return True
        return False

    def _log_changes(self, wrong: Mapping[str, TextFileRejected], dropped: set[str]) -> None:
        """Log the problem of a *.prom file when it first occurs and when it changes."""
        complaints = {path: str(error) for path, error in wrong.items()}
        complaints |= dict.fromkeys(dropped, "the exporter itself has a family of this name")
        for about, why in sorted(complaints.items()):
            if self._complaints.get(about) != why:
                event = "textfile_family_dropped" if about in dropped else "textfile_rejected"
                readable = about.encode(errors="replace").decode()[:500]
                self._log(event, about=readable, why=why[:500])
        self._complaints = complaints
