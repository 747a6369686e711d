"""The age of a step does not depend on the clocks of the job and the node."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter.reports.report import TrainingReport
from exporter.reports.report_disk import ReportDisk
from exporter.reports.step_ages import StepAges


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def report(step: int, step_at: float = 1.0) -> TrainingReport:
    return TrainingReport(job_id="train-a", step=step, step_at=step_at)


@pytest.mark.parametrize("step_at", [1.0, 1e9, 9e9], ids=["long ago", "hours off", "in the future"])
def test_a_job_that_makes_steps_is_young_whatever_its_clock_says(step_at: float) -> None:
    clock = Clock()
    ages = StepAges(clock)
    for step in range(1, 4):
        assert ages.age(report(step, step_at), 2.0) == (2.0 if step == 1 else 0.0)
        clock.now += 30


def test_a_job_that_makes_no_steps_grows_older_although_it_reports() -> None:
    clock = Clock()
    ages = StepAges(clock)
    ages.age(report(7), 0.0)
    clock.now += 90
    assert ages.age(report(7), 0.0) == 90


def test_the_first_report_is_as_old_as_its_file_and_never_in_the_future() -> None:
    assert StepAges(Clock()).age(report(7), 300.0) == 300
    assert StepAges(Clock()).age(report(7), -300.0) == 0


def test_a_job_before_its_first_step_and_a_forgotten_one_have_no_age() -> None:
    clock = Clock()
    ages = StepAges(clock)
    assert ages.age(report(0, 0.0), 50.0) is None
    ages.age(report(7), 0.0)
    ages.keep([])
    clock.now += 60
    assert ages.age(report(7), 5.0) == 5


def test_a_restarted_job_that_begins_at_an_earlier_step_is_young() -> None:
    clock = Clock()
    ages = StepAges(clock)
    ages.age(report(900), 0.0)
    clock.now += 60
    assert ages.age(report(800), 0.0) == 0


def _disk(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, flags: int, options: str
) -> ReportDisk:
    device = directory.stat().st_dev
    mounts = directory / "mountinfo"
    mounts.write_text(
        f"36 35 {os.major(device)}:{os.minor(device)} / /x rw - ext4 /dev/a {options}\n"
    )
    status = SimpleNamespace(f_flag=flags, f_bavail=999, f_frsize=4096, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    return ReportDisk(directory, mounts)


def test_a_file_system_that_became_read_only_is_unwritable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _disk(tmp_path, monkeypatch, flags=os.ST_RDONLY, options="ro,x").unwritable()
    disk = _disk(tmp_path, monkeypatch, flags=0, options="rw")
    assert not disk.unwritable()
    _disk(tmp_path, monkeypatch, flags=os.ST_RDONLY, options="rw")
    assert disk.unwritable()


def test_a_directory_that_a_container_mounts_read_only_is_written_to_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not _disk(tmp_path, monkeypatch, flags=os.ST_RDONLY, options="rw").unwritable()
