"""The demo's training: repeatable bit for bit, with checkpoints that can be trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetmedic.demo.training import (
    RunSettings,
    batch,
    fresh,
    newest,
    run,
    save,
    train_step,
    undisturbed,
    unpack,
)
from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware

SEED = 5


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLEETMEDIC_")]:
        monkeypatch.delenv(name)


def test_the_loss_falls() -> None:
    model = fresh(SEED)
    losses = []
    for _ in range(300):
        model, loss = train_step(model, *batch(SEED, model.step))
        losses.append(loss)
    assert sum(losses[-30:]) < 0.6 * sum(losses[:30])


def test_a_checkpoint_is_the_model_bit_for_bit(tmp_path: Path) -> None:
    model, _ = train_step(fresh(SEED), *batch(SEED, 0))
    assert unpack(1, model.pack()).pack() == model.pack()
    save(tmp_path, model, SEED)
    found = newest(tmp_path, SEED)
    assert found is not None
    assert (found[0].step, found[0].sha256()) == (1, model.sha256())
    assert found[1] == pytest.approx(time.time(), abs=10)
    assert newest(tmp_path, SEED + 1) is None


def test_a_damaged_checkpoint_gives_way_to_an_older_one_and_three_are_kept(tmp_path: Path) -> None:
    model = fresh(SEED)
    for _ in range(5):
        model, _ = train_step(model, *batch(SEED, model.step))
        save(tmp_path, model, SEED)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    files[-1].write_bytes(files[-1].read_bytes()[:-1])
    files[-2].write_bytes(b"junk")
    found = newest(tmp_path, SEED)
    assert found is not None
    assert found[0].step == 3


def test_a_run_cut_short_and_resumed_ends_as_one_that_nothing_disturbed(tmp_path: Path) -> None:
    model = fresh(SEED)
    for _ in range(7):
        model, _ = train_step(model, *batch(SEED, model.step))
    save(tmp_path, model, SEED)
    assert run(RunSettings(20, SEED, 0.0, 6), tmp_path) == 0
    final = json.loads((tmp_path / "final.json").read_text())
    assert (final["sha256"], final["steps"], final["restarts"]) == (undisturbed(SEED, 20), 20, 0)


def test_another_process_ends_with_the_same_weights(tmp_path: Path) -> None:
    program = [
        sys.executable,
        "-m",
        "fleetmedic.demo.training",
        "--steps",
        "12",
        "--step-seconds",
        "0",
    ]
    environment = {**os.environ, "FLEETMEDIC_CHECKPOINT_DIR": str(tmp_path)}
    subprocess.run(program, env=environment, check=True, timeout=30, stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "final.json").read_text())["sha256"] == undisturbed(7, 12)


def test_a_lost_gpu_ends_it_at_once_without_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(nodes=1, gpus=2)
    inject(hardware, "node1", 1, "lost")
    monkeypatch.setenv("FLEETMEDIC_HARDWARE_DIR", str(hardware.root))
    monkeypatch.setenv("FLEETMEDIC_NODE", "node1")
    monkeypatch.setenv("FLEETMEDIC_GPUS", "0,1")
    assert run(RunSettings(20, SEED, 0.0, 6), tmp_path / "checkpoints") == 1
    assert "device 1 of node1 is lost" in capsys.readouterr().err
    assert not list((tmp_path / "checkpoints").glob("*.ckpt"))


def test_it_tells_what_a_step_was_spent_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETMEDIC_JOB_ID", "train-a")
    monkeypatch.setenv("FLEETMEDIC_PROGRESS_DIR", str(tmp_path))
    assert run(RunSettings(3, SEED, 0.01, 2), tmp_path / "checkpoints") == 0
    told = json.loads((tmp_path / "train-a.json").read_text())
    assert told["samples"] == 3 * 64
    assert told["compute_seconds"] == pytest.approx(0.01)
    assert told["compute_seconds"] + told["data_wait_seconds"] == pytest.approx(
        told["step_seconds"], abs=1e-5
    )
