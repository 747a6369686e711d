"""What a training job says of itself, and that saying it never hurts the training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.progress import Progress


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "PROGRESS_DIR", "RESTARTS"):
        monkeypatch.delenv(f"FLEETMEDIC_{name}", raising=False)


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "train-a.json").read_text())
    return found


def test_the_file_holds_what_the_job_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETMEDIC_JOB_ID", "train-a")
    monkeypatch.setenv("FLEETMEDIC_PROGRESS_DIR", str(tmp_path))
    monkeypatch.setenv("FLEETMEDIC_RESTARTS", "2")
    before = time.time()
    progress = Progress()
    progress.step(12, loss=0.5, seconds=0.25)
    progress.checkpoint(10)
    progress.close()
    found = read(tmp_path)
    assert before <= found.pop("step_at") <= found.pop("checkpoint_at") <= time.time()
    assert found == {
        "job_id": "train-a", "step": 12, "loss": 0.5, "step_seconds": 0.25, "checkpoint_step": 10,
        "checkpoint_interval": 0.0, "restarts": 2, "running": False, "pid": os.getpid(),
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["train-a.json"]


def test_it_writes_at_most_twice_a_second(tmp_path: Path) -> None:
    progress = Progress("train-a", tmp_path)
    first = (tmp_path / "train-a.json").stat().st_mtime_ns
    for step in range(100):
        progress.step(step, loss=1.0)
    assert (tmp_path / "train-a.json").stat().st_mtime_ns == first
    progress._written -= 0.5  # half a second goes by
    progress.step(100)
    assert read(tmp_path)["step"] == 100
    assert read(tmp_path)["running"] is True


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_null_and_one_never_told_is_absent(
    tmp_path: Path, loss: float
) -> None:
    with Progress("train-a", tmp_path) as progress:
        progress.step(1)
    assert "loss" not in read(tmp_path)
    with Progress("train-a", tmp_path) as progress:
        progress.step(2, loss=loss)
    assert read(tmp_path)["loss"] is None


def test_the_interval_is_the_longest_of_the_last_gaps_unless_it_is_given(tmp_path: Path) -> None:
    progress = Progress("train-a", tmp_path)
    progress.checkpoint(1, at=time.time() - 60)  # found when resuming
    progress.checkpoint(2)
    progress.checkpoint(3)
    progress.close()
    assert read(tmp_path)["checkpoint_interval"] == pytest.approx(60, abs=1)
    with Progress("train-a", tmp_path, checkpoint_interval=30) as progress:
        progress.checkpoint(1)
        progress.checkpoint(2)
    assert read(tmp_path)["checkpoint_interval"] == 30


def test_nothing_it_is_told_or_meets_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Progress().step(1, loss=0.1)  # outside a cluster
    monkeypatch.setenv("FLEETMEDIC_RESTARTS", "many")
    with Progress("train-a", tmp_path / "gone") as progress:
        progress.step(1)
    with Progress("train-a", tmp_path) as progress:
        progress.step("x", loss="y", seconds="z")  # type: ignore[arg-type]
        progress.checkpoint(None)  # type: ignore[arg-type]
    assert read(tmp_path)["step"] == 0
    assert read(tmp_path)["restarts"] == 0


def test_it_needs_the_standard_library_alone() -> None:
    source = Path(sys.modules[Progress.__module__].__file__ or "")
    program = f"import runpy; runpy.run_path({str(source)!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=10)
