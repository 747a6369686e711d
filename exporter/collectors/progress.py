"""Exports the progress that jobs report in files and over a socket.

Reports are untrusted. exporter.reports validates them; invalid reports are rejected and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Protocol

from exporter.exposition import Sample
from exporter.reports import report_samples
from exporter.reports.files import ReportFiles, StoredReport
from exporter.reports.inbox import Inbox, Receiver
from exporter.reports.permissions import ReportPermissions
from exporter.reports.pipeline_totals import PipelineTotals
from exporter.reports.report import (
    REASONS,
    Key,
    PipelineReport,
    Reason,
    Report,
    ServingReport,
    TrainingReport,
)
from exporter.reports.reporter_process import has_exited
from exporter.reports.step_ages import StepAges

FORGET_ENDED_SECONDS = 3600.0
FORGET_SECONDS = 7 * 86_400.0
FORGET_PIPELINE_SECONDS = 30 * 86_400.0


class NodeJobs(Protocol):
    """The interface to the cluster's information about jobs on this node."""

    def users(self) -> Mapping[str, int]:
        """Return the user id of each training job on this node, by job id."""
        ...

    def pooled(self, service: str) -> bool:
        """Return whether the cluster itself runs this service and exports its request metrics."""
        ...


class ProgressCollector:
    """Exports the progress reports of all jobs."""

    name = "progress"
    inline = False
    interval = 2.0

    def __init__(
        self, folder: Path | None, socket: Path | None = None, cluster: NodeJobs | None = None
    ) -> None:
        self._rejected: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self._lock = threading.Lock()
        self._permissions = ReportPermissions()
        self._files = ReportFiles(folder, self._permissions, self._count) if folder else None
        self._inbox = Inbox(self._permissions, self._count)
        self._receiver = Receiver(socket, self._inbox.take) if socket else None
        self._cluster = cluster
        self._totals = PipelineTotals()
        self._ages = StepAges()

    def collect(self, now: float) -> Iterator[Sample]:
        if self._cluster is not None:
            self._permissions.set_owners(self._cluster.users())
        if self._receiver is not None:
            self._receiver.start()
        current = self._current_reports(now)
        reports = [stored.report for stored in current]
        training = [report for report in reports if isinstance(report, TrainingReport)]
        ages = {
            stored.report.key: self._ages.age(stored.report, now - stored.at)
            for stored in current
            if isinstance(stored.report, TrainingReport)
        }
        self._ages.keep(ages)
        yield from self._jobs(training, ages)
        for report in reports:
            yield from self._one(report)
        self._totals.keep({report.key for report in reports})
        if self._files is not None:
            yield Sample("gpu_exporter_progress_files_rejected", (), self._files.rejected)
        with self._lock:
            counts = list(self._rejected.items())
        for reason, count in counts:
            yield Sample("gpu_exporter_progress_rejected_total", (reason,), count)

    @staticmethod
    def _jobs(reports: list[TrainingReport], ages: Mapping[Key, float | None]) -> Iterator[Sample]:
        for _, ranks in groupby(reports, lambda report: report.job_id):
            of_job = list(ranks)
            yield from report_samples.job(of_job, ages, dead=all(map(has_exited, of_job)))

    def _one(self, report: Report) -> Iterator[Sample]:
        if isinstance(report, TrainingReport):
            yield from report_samples.rank(report)
        elif isinstance(report, PipelineReport):
            yield from report_samples.pipeline(report, self._totals.of(report))
        else:
            pooled = self._cluster is not None and self._cluster.pooled(report.service)
            yield from report_samples.serving(report, pooled)

    def _current_reports(self, now: float) -> list[StoredReport]:
        """Return the newest unexpired report of each reporter, sorted by reporter."""
        newest: dict[Key, StoredReport] = {}
        began = time.monotonic()
        files = list(self._files.read()) if self._files is not None else []
        for stored in (*files, *self._inbox.reports()):
            known = newest.get(stored.report.key)
            if known is None or stored.at >= known.at:
                newest[stored.report.key] = stored
        old = {key for key, stored in newest.items() if _is_expired(stored, now)}
        self._inbox.forget(old)
        self._permissions.keep({key[:2] for key in newest.keys() - old}, since=began)
        return [newest[key] for key in sorted(newest.keys() - old)]

    def _count(self, reason: Reason) -> None:
        with self._lock:
            self._rejected[reason] += 1


def _is_expired(stored: StoredReport, now: float) -> bool:
    """Return whether a progress report has expired.

    A server's report expires when its process ends, because a stopped server has no load. A
    pipeline's report outlives its process, because another run is expected.
    """
    report, age = stored.report, now - stored.at
    if isinstance(report, PipelineReport):
        return age > FORGET_PIPELINE_SECONDS
    ended = report.running is False
    if isinstance(report, ServingReport):
        return ended or has_exited(report) or age > FORGET_SECONDS
    return age > (FORGET_ENDED_SECONDS if ended or has_exited(report) else FORGET_SECONDS)
