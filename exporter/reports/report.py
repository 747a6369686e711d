"""Parses and validates reports of training jobs, pipelines and servers. Reports are untrusted
input."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from fleetmedic.kernel.labels import valid_name
from fleetmedic.progress.serving import BUCKETS, MAX_CODES

MAX_BYTES = 65_536
MAX_RANK = 65_535

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Rank = Annotated[int, msgspec.Meta(ge=0, le=MAX_RANK)]
_CODE = re.compile(r"[1-5][0-9]{2}", re.ASCII)

Reason = Literal[
    "kind", "size", "format", "value", "name", "owner", "rate", "limit", "unreadable", "unwritable"
]
REASONS: tuple[Reason, ...] = (
    "kind",
    "size",
    "format",
    "value",
    "name",
    "owner",
    "rate",
    "limit",
    "unreadable",
    "unwritable",
)


class ReportRejected(Exception):  # noqa: N818
    """The exception for an invalid progress report. Contains the reason code and a message."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason


class Key(NamedTuple):
    """Identifies a reporter: kind (training, pipeline, serving), name, and part (rank or replica)."""

    kind: str
    name: str
    part: str


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """The common fields of all reports: the start time of the counters, and the reporting process.

    Missing fields are unknown; additional fields are ignored.
    """

    began: Number = 0.0
    running: bool | None = None
    pid: Count = 0
    pid_ns: Count = 0
    pid_start: Count = 0


class TrainingReport(_Report, frozen=True):
    """The report of one process (rank) of a training job.

    `loss` is None or not finite (NaN or Inf) if the job has diverged, and unset if it reports no
    loss.
    """

    job_id: str
    step: Count
    rank: Rank = 0
    loss: float | msgspec.UnsetType | None = msgspec.UNSET
    step_seconds: Number | None = None
    step_at: Number | None = None
    data_wait_seconds: Number | None = None
    compute_seconds: Number | None = None
    samples: Count | None = None
    checkpoint_step: Count | None = None
    checkpoint_at: Number | None = None
    checkpoint_interval: Number | None = None
    restarts: Count | None = None

    @property
    def key(self) -> Key:
        return Key("training", self.job_id, str(self.rank))

    @property
    def stem(self) -> str:
        """The name of the report's file, without `.json`."""
        return f"{self.job_id}@{self.rank}" if self.rank else self.job_id


class PipelineReport(_Report, frozen=True):
    """The report of a pipeline, or of one of its workers."""

    pipeline: str
    records: Count | None = None
    backlog: Count | None = None
    success_at: Number | None = None
    expected_interval: Number | None = None

    @property
    def key(self) -> Key:
        return Key("pipeline", self.pipeline, "")

    @property
    def stem(self) -> str:
        """The name of the report's file, without `.json`."""
        return f"{self.pipeline}@pipeline"


class Durations(msgspec.Struct, frozen=True):
    """A histogram of request durations: one count for each bound, and one above the last bound."""

    counts: tuple[Count, ...]
    sum: Number


class ServingReport(_Report, frozen=True):
    """The report of a replica of a service."""

    service: str
    replica: str = "0"
    waiting: Count | None = None
    answering: Count | None = None
    requests: dict[str, Count] = {}
    durations: Durations | None = None
    tokens: Count | None = None

    @property
    def key(self) -> Key:
        return Key("serving", self.service, self.replica)

    @property
    def stem(self) -> str:
        """The name of the report's file, without `.json`."""
        return f"{self.service}@serving@{self.replica}"


Report = TrainingReport | PipelineReport | ServingReport
_KINDS: dict[object, type[Report]] = {
    "training": TrainingReport,
    "pipeline": PipelineReport,
    "serving": ServingReport,
}


def parse(data: bytes, stem: str | None = None) -> Report:
    """Parse and validate a progress report. Raises ReportRejected for an invalid report.

    `stem` is the file name without `.json`, which must match the reporter.
    """
    try:
        # The standard library's parser accepts NaN, which diverged jobs write.
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReportRejected("format", f"invalid JSON: {str(error)[:200]}") from None
    if not isinstance(raw, dict):
        raise ReportRejected("format", "not a JSON object")
    report = _convert(raw)
    if not all(map(valid_name, report.key[1:] if report.key.part else report.key[1:2])):
        raise ReportRejected("name", "invalid name")
    if stem is not None and stem != report.stem:
        raise ReportRejected("name", "the name of the file does not match the reporter")
    return report


def _convert(raw: dict[str, Any]) -> Report:
    kind = raw.get("kind", "training")
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise ReportRejected("format", "expected kind training, pipeline or serving")
    try:
        report = msgspec.convert(raw, found)
    except (ValueError, RecursionError) as error:
        raise ReportRejected("value", str(error)[:200]) from None
    for name in report.__struct_fields__:
        value = getattr(report, name)
        if name != "loss" and isinstance(value, float) and not math.isfinite(value):
            raise ReportRejected("value", f"{name} is not finite")
    if isinstance(report, ServingReport):
        _check(report)
    return report


def _check(report: ServingReport) -> None:
    if len(report.requests) > MAX_CODES or not all(map(_CODE.fullmatch, report.requests)):
        raise ReportRejected(
            "value", "requests: expected counts by HTTP status code, at most 16 codes"
        )
    if not report.replica:
        raise ReportRejected("name", "the replica has no name")
    durations = report.durations
    if durations and (
        len(durations.counts) != len(BUCKETS) + 1 or not math.isfinite(durations.sum)
    ):
        raise ReportRejected("value", f"durations: expected {len(BUCKETS) + 1} counts and a sum")
