"""Sums the processed records of a pipeline over all its runs."""

from __future__ import annotations

from exporter.reports.report import Key, PipelineReport


class PipelineTotals:
    """Adds up the record counts of all runs of a pipeline.

    Each run counts from 0 and may be short. With the sum, the counter of a pipeline that runs for a
    minute each night keeps growing. A pipeline that reports through a file continues its own count:
    `began` stays the same, and the total equals the reported count. Training jobs and servers need
    no sum: they run long enough that Prometheus handles their counter resets.
    """

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[float, int, int]] = {}

    def of(self, report: PipelineReport) -> int | None:
        """Return the number of records that all runs of a pipeline processed; None if not reported."""
        if report.records is None:
            return None
        began, last, before = self._seen.get(report.key, (report.began, 0, 0))
        if began != report.began or report.records < last:
            before += last
        self._seen[report.key] = (report.began, report.records, before)
        return before + report.records

    def keep(self, present: set[Key]) -> None:
        """Remove the totals of pipelines that are no longer exported."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
