"""How training jobs get on, from the files that they write themselves.

A job's file is a stranger's: its size, kind, name and every value are checked, and a file that does
not pass is skipped and counted.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from exporter.exposition import Sample
from fleetmedic.kernel.labels import valid_name

MAX_FILES = 1000
MAX_BYTES = 65_536
FORGET_ENDED_SECONDS = 3600.0
FORGET_SECONDS = 7 * 86_400.0

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class Report(msgspec.Struct, frozen=True):
    """One job's file. What it leaves out is unknown; what it adds is ignored.

    `loss` is None, or not finite, when the job has diverged, and left out while it reports none.
    """

    job_id: str
    step: Count
    loss: float | msgspec.UnsetType | None = msgspec.UNSET
    step_seconds: Number | None = None
    step_at: Number | None = None
    checkpoint_step: Count | None = None
    checkpoint_at: Number | None = None
    checkpoint_interval: Number | None = None
    restarts: Count | None = None
    running: bool | None = None


class Rejected(Exception):  # noqa: N818
    """A file that is skipped, and why."""


class Progress:
    """All jobs that write into one folder. No folder means that no job has begun."""

    name = "progress"
    inline = False
    interval = 2.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self, now: float) -> Iterator[Sample]:
        rejected = 0
        for path in self._paths():
            try:
                report, age = _read(path, now)
            except Rejected:
                rejected += 1
                continue
            if age <= (FORGET_ENDED_SECONDS if report.running is False else FORGET_SECONDS):
                yield from samples(report)
        yield Sample("gpu_exporter_progress_files_rejected", (), rejected)

    def _paths(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as entries:
                names = [e.name for e in entries if e.name.endswith(".json") and e.name[0] != "."]
        except FileNotFoundError:
            return []
        return [self._folder / name for name in sorted(names)[:MAX_FILES]]


def _read(path: Path, now: float) -> tuple[Report, float]:
    """The report and its age in seconds. Raises Rejected; does not wait for a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected(error.strerror) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise Rejected("no regular file of at most 64 KiB")
        data = os.read(descriptor, MAX_BYTES)
    except OSError as error:
        raise Rejected(error.strerror) from None
    finally:
        os.close(descriptor)
    report = parse(data, path.name.removesuffix(".json"))
    return report, now - status.st_mtime


def parse(data: bytes, job_id: str) -> Report:
    """A report checked: the job is the one that the file is named after. Raises Rejected."""
    try:
        # The standard library's parser takes NaN, which a diverged job does write.
        report = msgspec.convert(json.loads(data), Report)
    except (ValueError, RecursionError) as error:
        raise Rejected(str(error)[:200]) from None
    if report.job_id != job_id or not valid_name(job_id):
        raise Rejected("the job is not the one that the file is named after")
    values = (report.step_seconds, report.step_at, report.checkpoint_at, report.checkpoint_interval)
    if any(value is not None and not math.isfinite(value) for value in values):
        raise Rejected("a time is not finite")
    return report


def samples(report: Report) -> Iterator[Sample]:
    """What the report says. A time of 0 means that it has not happened yet."""
    loss = report.loss
    finite = isinstance(loss, float) and math.isfinite(loss)
    checkpointed = bool(report.checkpoint_at)
    values: tuple[tuple[str, float | None], ...] = (
        ("training_step", report.step),
        ("training_step_duration_seconds", report.step_seconds or None),
        ("training_last_step_timestamp_seconds", report.step_at or None),
        (
            "training_checkpoint_last_success_timestamp_seconds",
            report.checkpoint_at if checkpointed else None,
        ),
        ("training_checkpoint_step", report.checkpoint_step if checkpointed else None),
        ("training_checkpoint_interval_seconds", report.checkpoint_interval or None),
        ("training_restarts_total", report.restarts),
        ("training_running", report.running),
        ("training_loss", loss if isinstance(loss, float) and finite else None),
        ("training_loss_finite", None if loss is msgspec.UNSET else finite),
    )
    for name, value in values:
        if value is not None:
            yield Sample(name, (report.job_id,), value)
