"""Converts progress reports to samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from exporter.exposition import Sample
from exporter.reports.report import Key, PipelineReport, ServingReport, TrainingReport
from fleetmedic.progress.serving import BUCKETS

Values = tuple[tuple[str, float | None], ...]
_BOUNDS = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")


def _given(labels: tuple[str, ...], values: Values) -> Iterator[Sample]:
    for name, value in values:
        if value is not None:
            yield Sample(name, labels, value)


def job(
    ranks: Sequence[TrainingReport], ages: Mapping[Key, float | None], dead: bool = False
) -> Iterator[Sample]:
    """Yield the samples of a job from the reports of all its ranks on this node.

    The values come from the lowest running rank. The data wait is the longest of all ranks, because
    the slowest rank delays the others. A time of 0 means that the event has not happened yet.
    `ages`: the seconds since the latest step of each rank. `dead`: all processes of the job have
    ended, regardless of the reports.
    """
    report = min(ranks, key=lambda rank: (rank.running is False, rank.rank))
    loss = report.loss
    finite = isinstance(loss, float) and math.isfinite(loss)
    checkpointed = bool(report.checkpoint_at)
    waits = [r.data_wait_seconds for r in ranks if r.data_wait_seconds is not None]
    values: Values = (
        ("training_step", report.step),
        ("training_step_duration_seconds", report.step_seconds or None),
        ("training_last_step_timestamp_seconds", report.step_at or None),
        ("training_step_age_seconds", ages.get(report.key)),
        ("training_data_wait_seconds", max(waits, default=None)),
        (
            "training_checkpoint_last_success_timestamp_seconds",
            report.checkpoint_at if checkpointed else None,
        ),
        ("training_checkpoint_step", report.checkpoint_step if checkpointed else None),
        ("training_checkpoint_interval_seconds", report.checkpoint_interval or None),
        ("training_restarts_total", report.restarts),
        ("training_running", report.running and not dead),
        ("training_loss", loss if isinstance(loss, float) and finite else None),
        ("training_loss_finite", None if loss is msgspec.UNSET else finite),
    )
    yield from _given((report.job_id,), values)


def rank(report: TrainingReport) -> Iterator[Sample]:
    """Yield the samples of one rank of a training job."""
    values: Values = (
        ("training_step_compute_seconds", report.compute_seconds),
        ("training_samples_total", report.samples),
    )
    yield from _given((report.job_id, str(report.rank)), values)


def pipeline(report: PipelineReport, records: int | None) -> Iterator[Sample]:
    """Yield the samples of a pipeline. `records` is the sum of all its runs.

    The samples of interval and latest success are omitted if they are missing in the report.
    """
    values: Values = (
        ("pipeline_records_processed_total", records),
        ("pipeline_input_backlog", report.backlog),
        ("pipeline_last_success_timestamp_seconds", report.success_at or None),
        ("pipeline_expected_interval_seconds", report.expected_interval or None),
    )
    yield from _given((report.pipeline,), values)


def serving(report: ServingReport, pooled: bool) -> Iterator[Sample]:
    """Yield the samples of one replica of a service.

    If the service runs in the embedded cluster's worker pool (`pooled`), the gateway exports the
    request metrics. They are omitted here so that requests are not counted twice.
    """
    labels = (report.service, report.replica)
    yield from _given(labels, (("inference_tokens_generated_total", report.tokens),))
    if pooled:
        return
    values: Values = (
        ("inference_requests_waiting", report.waiting),
        ("inference_requests_running", report.answering),
    )
    yield from _given(labels, values)
    for code, count in sorted(report.requests.items()):
        yield Sample("inference_requests_total", (*labels, code), count)
    if report.durations is None:
        return
    name = "inference_request_duration_seconds"
    counts = list(accumulate(report.durations.counts))
    for bound, count in zip(_BOUNDS, counts, strict=True):
        yield Sample(f"{name}_bucket", (*labels, bound), count)
    yield Sample(f"{name}_sum", labels, report.durations.sum)
    yield Sample(f"{name}_count", labels, counts[-1])
