"""A command of a user puts load on the simulated GPUs of its job."""

import sys
import threading
import time
from pathlib import Path

import pytest

from fleetmedic.hardware import faults, simulated_load
from fleetmedic.hardware.state import Hardware
from fleetmedic.hardware.workload import GpuGroup


@pytest.fixture
def hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hardware:
    found = Hardware(tmp_path)
    found.create(nodes=1, gpus=2)
    # signal handlers can be set in the main thread only
    monkeypatch.setattr(simulated_load.signal, "signal", lambda *_: None)
    return found


def _until(true: object) -> None:
    assert callable(true)
    for _ in range(200):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("not within 4 s")


def test_while_the_command_runs_its_gpus_are_busy(hardware: Hardware, tmp_path: Path) -> None:
    done = tmp_path / "done"
    wait = f"import os, time\nwhile not os.path.exists({str(done)!r}): time.sleep(0.02)\nraise SystemExit(3)"
    codes: list[int] = []
    group = GpuGroup(tmp_path, "node1", [1])
    command = [sys.executable, "-c", wait]
    running = threading.Thread(target=lambda: codes.append(simulated_load.run(command, group)))
    running.start()
    _until(lambda: hardware.load("node1", 1, time.time()).utilization > 0.9)
    assert hardware.load("node1", 0, time.time()).at == 0
    done.touch()
    running.join()
    assert codes == [3]


def test_a_lost_gpu_ends_the_command(
    hardware: Hardware, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.inject(hardware, "node1", 0, "lost")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert simulated_load.run(command, GpuGroup(tmp_path, "node1", [0])) == 1
    assert "CUDA error: device 0 of node1 is lost" in capsys.readouterr().err


def test_a_command_that_does_not_exist_has_the_exit_code_of_a_shell(
    hardware: Hardware, tmp_path: Path
) -> None:
    assert simulated_load.run(["/does/not/exist"], GpuGroup(tmp_path, "node1", [0])) == 127
