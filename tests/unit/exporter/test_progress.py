"""Files of training jobs are untrusted."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.progress import ProgressCollector
from exporter.exposition import Sample
from exporter.reports.files import MAX_FILES
from exporter.reports.report import ReportRejected, parse
from fleetmedic.progress import Progress as WrittenProgress

REJECTED = "gpu_exporter_progress_rejected_total"
GOOD: dict[str, Any] = {
    "job_id": "train-a", "step": 120, "loss": 2.5, "step_seconds": 0.4, "step_at": 1000.5,
    "checkpoint_step": 100, "checkpoint_at": 990.0, "checkpoint_interval": 60, "restarts": 1,
    "running": True, "pid": 42,
}  # fmt: skip


def values(folder: Path) -> dict[str, float]:
    return shown(ProgressCollector(folder).collect(folder.stat().st_mtime))


def shown(samples: Iterable[Sample]) -> dict[str, float]:
    return {s.name: s.value for s in samples if s.name != REJECTED}


def write(folder: Path, name: str = "train-a.json", **changes: Any) -> None:
    (folder / name).write_text(json.dumps(GOOD | changes))


def test_a_report_becomes_series(tmp_path: Path) -> None:
    write(tmp_path)
    found = values(tmp_path)
    assert found["training_step"] == 120
    assert found["training_loss"] == 2.5
    assert found["training_loss_finite"] == 1
    assert found["training_checkpoint_last_success_timestamp_seconds"] == 990.0
    assert found["gpu_exporter_progress_files_rejected"] == 0


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_said_and_not_shown(
    tmp_path: Path, loss: float | None
) -> None:
    write(tmp_path, loss=loss)
    found = values(tmp_path)
    assert found["training_loss_finite"] == 0
    assert "training_loss" not in found


def test_what_has_not_happened_yet_has_no_series(tmp_path: Path) -> None:
    report = GOOD | {"step_at": 0, "checkpoint_at": 0, "checkpoint_step": 0}
    del report["loss"]
    (tmp_path / "train-a.json").write_text(json.dumps(report))
    found = values(tmp_path)
    assert not {"training_loss", "training_loss_finite"} & set(found)
    assert "training_last_step_timestamp_seconds" not in found
    assert "training_checkpoint_step" not in found


def test_what_our_own_writer_writes_is_read(tmp_path: Path) -> None:
    writer = WrittenProgress("train-a", tmp_path)
    writer.step(7, loss=float("nan"), seconds=0.5)
    writer.checkpoint(5)
    writer.close()
    found = values(tmp_path)
    assert found["training_step"] == 7
    assert found["training_loss_finite"] == 0
    assert found["training_checkpoint_step"] == 5
    assert found["training_running"] == 0


def test_no_folder_means_no_job(tmp_path: Path) -> None:
    assert shown(ProgressCollector(tmp_path / "none").collect(0)) == {
        "gpu_exporter_progress_files_rejected": 0
    }


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", '"x"', "[" * 60_000, '{"job_id": "train-a"}',
        json.dumps(GOOD | {"job_id": "other"}), json.dumps(GOOD | {"step": -1}),
        json.dumps(GOOD | {"step": 10**30}), json.dumps(GOOD | {"step": "many"}),
        json.dumps(GOOD | {"step_at": float("inf")}), json.dumps(GOOD | {"step_seconds": float("nan")}),
        json.dumps(GOOD | {"running": "yes"}), json.dumps(GOOD | {"pad": "x" * 70_000}),
    ],
)  # fmt: skip
def test_junk_is_skipped_and_counted(tmp_path: Path, text: str) -> None:
    (tmp_path / "train-a.json").write_text(text)
    write(tmp_path, "good.json", job_id="good")
    found = values(tmp_path)
    assert found["gpu_exporter_progress_files_rejected"] == 1
    assert found["training_step"] == 120


def test_links_pipes_and_folders_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(tmp_path, "elsewhere", job_id="link")
    (tmp_path / "link.json").symlink_to(elsewhere)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    assert values(tmp_path) == {"gpu_exporter_progress_files_rejected": 3}


def test_a_name_that_could_break_a_label_is_refused(tmp_path: Path) -> None:
    name = 'a"}\n evil'
    (tmp_path / f"{name}.json").write_text(json.dumps(GOOD | {"job_id": name}))
    assert values(tmp_path) == {"gpu_exporter_progress_files_rejected": 1}


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 5):
        (tmp_path / f"j{number}.json").write_text("{}")
    assert values(tmp_path) == {"gpu_exporter_progress_files_rejected": MAX_FILES}


def test_a_job_that_ended_is_forgotten_after_an_hour(tmp_path: Path) -> None:
    write(tmp_path, running=False)
    at = (tmp_path / "train-a.json").stat().st_mtime
    assert any(s.name == "training_step" for s in ProgressCollector(tmp_path).collect(at + 3599))
    assert not any(
        s.name == "training_step" for s in ProgressCollector(tmp_path).collect(at + 3700)
    )


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(ReportRejected):
        parse(data, "train-a")
