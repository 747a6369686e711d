"""What a pipeline has processed in all of its runs."""

from __future__ import annotations

from exporter.reports.report import Key, Pipeline


class Totals:
    """A run counts from 0, and may be over before anybody looks; what earlier runs of the same name
    counted is added, so that a pipeline which runs for a minute each night has a counter that grows.

    One that writes a file goes on counting by itself: its `began` stays, and nothing is added. Jobs and
    servers live long enough for a counter that begins anew with them, as Prometheus expects.
    """

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[float, int, int]] = {}

    def of(self, report: Pipeline) -> int | None:
        """Records of all runs that were seen; None while it reports none."""
        if report.records is None:
            return None
        began, last, before = self._seen.get(report.key, (report.began, 0, 0))
        if began != report.began or report.records < last:
            before += last
        self._seen[report.key] = (report.began, report.records, before)
        return before + report.records

    def keep(self, present: set[Key]) -> None:
        """Forget those that are not shown any more."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
