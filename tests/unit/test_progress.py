"""What a training job says of itself, and that saying it never hurts the training."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.progress import Pipeline, Progress, Serving
from fleetmedic.progress.training import RANKS


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "PROGRESS_DIR", "PROGRESS_SOCKET", "RESTARTS", "RANK", "REPLICA"):
        monkeypatch.delenv(f"FLEETMEDIC_{name}", raising=False)
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


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
    assert before <= found.pop("began") <= found.pop("step_at")
    assert before <= found.pop("checkpoint_at") <= time.time()
    assert found.pop("pid_ns") == Path("/proc/self/ns/pid").stat().st_ino
    assert found.pop("pid_start") > 0
    assert found == {
        "job_id": "train-a", "step": 12, "loss": 0.5, "step_seconds": 0.25, "checkpoint_step": 10,
        "checkpoint_interval": 0.0, "restarts": 2, "running": False, "pid": os.getpid(),
        "rank": 0,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["train-a.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
def test_a_training_job_that_cannot_write_leaves_no_report_to_grow_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    training, pipeline = Progress("train-a", tmp_path), Pipeline("etl", tmp_path)
    with monkeypatch.context() as full:

        def fail(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        full.setattr(os, "replace", fail)
        training.close()
        pipeline.close()
    assert [path.name for path in tmp_path.iterdir()] == ["etl@pipeline.json"]
    training.close()
    assert read(tmp_path)["running"] is False


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
    root = Path(__file__).resolve().parents[2]
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import fleetmedic.progress;"
        "print({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    asked = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(asked, check=True, timeout=10, capture_output=True, text=True)
    assert eval(done.stdout) == {"fleetmedic", "__main__"} - set(sys.stdlib_module_names)


def test_each_rank_writes_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    with Progress("train-a", tmp_path) as progress:
        progress.step(1, samples=8, data_wait=0.1, compute=0.2)
        progress.step(2, samples=8)
    found = json.loads((tmp_path / "train-a@3.json").read_text())
    assert (found["rank"], found["samples"], found["step"]) == (3, 16, 2)
    assert (found["data_wait_seconds"], found["compute_seconds"]) == (0.1, 0.2)
    with Progress("train-a", tmp_path, rank=0):
        assert read(tmp_path)["rank"] == 0


def told(folder: Path, stem: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{stem}.json").read_text())
    return found


def test_a_pipelines_next_run_goes_on_counting(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        with Pipeline("etl", tmp_path, expected_interval=60) as pipeline:
            assert told(tmp_path, "etl@pipeline")["records"] == 500 * (run - 1)
            pipeline.records(400, backlog=100)
            pipeline.success(100, backlog=0)
    found = told(tmp_path, "etl@pipeline")
    assert (found["records"], found["backlog"], found["running"]) == (1500, 0, False)
    assert time.time() - 60 < found["success_at"] <= time.time()
    assert found["began"] < found["success_at"]


@pytest.mark.parametrize("junk", ["", "[]", '{"pipeline": "other", "records": 9}', "[" * 9000])
def test_what_stands_in_a_pipelines_file_and_is_not_its_own_is_passed_over(
    tmp_path: Path, junk: str
) -> None:
    (tmp_path / "etl@pipeline.json").write_text(junk)
    Pipeline("etl", tmp_path).success(5)
    assert told(tmp_path, "etl@pipeline")["records"] == 5


@pytest.mark.parametrize("value", ["9", None, True, -1, 2.0**60, [1]])
def test_a_count_in_a_pipelines_file_that_makes_no_sense_is_passed_over(
    tmp_path: Path, value: object
) -> None:
    earlier = {"pipeline": "etl", "records": value, "backlog": value}
    (tmp_path / "etl@pipeline.json").write_text(json.dumps(earlier))
    Pipeline("etl", tmp_path).success(5)
    found = told(tmp_path, "etl@pipeline")
    assert found["records"] == 5
    assert "backlog" not in found


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end, "not within 5 s"
        time.sleep(0.01)


def test_the_last_word_before_a_silence_is_told(tmp_path: Path) -> None:
    serving = Serving("chat", "a", tmp_path)
    for running in (3, 2, 1, 0):
        serving.load(waiting=0, running=running)
        serving.answered(200, seconds=0.3, tokens=10)
    until(lambda: told(tmp_path, "chat@serving@a").get("answering") == 0)
    found = told(tmp_path, "chat@serving@a")
    assert (found["requests"], found["tokens"]) == ({"200": 4}, 40)
    assert sum(found["durations"]["counts"]) == 4
    serving.close()
    assert told(tmp_path, "chat@serving@a")["running"] is False


def test_what_a_server_does_not_tell_is_left_out_and_not_zero(tmp_path: Path) -> None:
    with Serving("chat", "a", tmp_path) as serving:
        assert "tokens" not in told(tmp_path, "chat@serving@a")
        serving.answered(200)
    assert not {"tokens", "durations", "answering"} & told(tmp_path, "chat@serving@a").keys()


def test_a_server_counts_no_more_codes_than_the_exporter_takes(tmp_path: Path) -> None:
    with Serving("chat", "a", tmp_path) as serving:
        for code in range(200, 300):
            serving.answered(code)
        serving.answered(200)
    counted = told(tmp_path, "chat@serving@a")["requests"]
    assert len(counted) == 16
    assert counted["200"] == 2


def test_nothing_that_pipelines_and_servers_are_told_stops_them(tmp_path: Path) -> None:
    Pipeline("etl").success(1)
    Serving("chat").answered()
    Pipeline("", tmp_path).success(1)
    for folder in (tmp_path / "gone", tmp_path):
        with Pipeline("etl", folder, socket=tmp_path / "none") as pipeline:
            pipeline.records("x", backlog="y")  # type: ignore[arg-type]
            pipeline.success(math.inf)  # type: ignore[arg-type]
        with Serving("chat", "a", folder, socket="\0bad" * 99) as serving:
            serving.load(waiting="x", running=None)  # type: ignore[arg-type]
            serving.answered("x", seconds="y", tokens="z")  # type: ignore[arg-type]
            serving.answered(200, seconds=math.inf)
            serving.tokens(math.nan)  # type: ignore[arg-type]
    assert told(tmp_path, "etl@pipeline")["records"] == 0
    assert told(tmp_path, "chat@serving@a")["requests"] == {"200": 1}


def test_a_forked_server_goes_on_telling(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from fleetmedic.progress import Serving\n"
        "serving = Serving('chat', 'a', sys.argv[1])\n"
        "def wait(word):\n"
        "    while word not in Path(sys.argv[1], 'chat@serving@a.json').read_text(): time.sleep(0.01)\n"
        "serving.tokens(1)\n"
        "wait('\"tokens\": 1')\n"  # a thread told it, which a fork does not take along
        "serving._sender.state.acquire(); serving._sender._sending.acquire()\n"
        "if os.fork() == 0:\n"
        "    serving.tokens(1); serving.tokens(1); wait('\"tokens\": 3'); os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=20)


def test_links_and_pipes_in_its_way_neither_hold_it_up_nor_are_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    for stem, made in (("train-a", os.mkfifo), ("etl@pipeline", lambda p: p.symlink_to(precious))):
        made(tmp_path / f"{stem}.json.{os.getpid()}.tmp")
        made(tmp_path / f"{stem}.json")
    with Progress("train-a", tmp_path) as progress:
        progress.step(3)
    with Pipeline("etl", tmp_path) as pipeline:
        pipeline.success(5)
    assert read(tmp_path)["running"] is False
    assert told(tmp_path, "etl@pipeline")["records"] == 5
    assert precious.read_text() == "as it was"
    os.mkfifo(tmp_path / "other@pipeline.json")
    Pipeline("other", tmp_path).success(7)
    assert told(tmp_path, "other@pipeline")["records"] == 7
