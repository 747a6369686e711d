"""Counts of reporters that are started again and again, added up."""

from __future__ import annotations

from exporter.reports.report import Key, Report


class Totals:
    """A process counts from 0; what its predecessors of the same name counted is added, so that a
    pipeline which runs for a minute each night has a counter that grows."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[float, dict[str, float], dict[str, float]]] = {}

    def of(self, report: Report) -> dict[str, float]:
        """What this reporter has counted in all its lives that were seen."""
        counts = report.counts()
        began, last, before = self._seen.get(report.key, (report.began, counts, {}))
        another = began != report.began or any(n < last.get(name, 0) for name, n in counts.items())
        if another:
            before = {n: before.get(n, 0) + last.get(n, 0) for n in before.keys() | last.keys()}
        self._seen[report.key] = (report.began, counts, before)
        return {name: n + before.get(name, 0) for name, n in counts.items()}

    def keep(self, present: set[Key]) -> None:
        """Forget the reporters that are not shown any more."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
