"""Who uses a GPU without holding it: real processes, told by the stand-in of the driver and by the
simulated source, to a real exporter."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_nvml import firmware
from fake_nvml.build import build

from exporter.collectors.allocation import SETTLE_SECONDS
from fleetmedic.hardware.state import Hardware
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.progress.process import INITIAL_NAMESPACE, pid_namespace

pytestmark = pytest.mark.integration
AT = 1_800_000_000.0


@contextlib.contextmanager
def sleeper(**environment: str) -> Iterator[int]:
    """A process that does nothing, with that environment alone; an orphan of no job's ancestors."""
    child = subprocess.Popen(["sleep", "120"], env=environment)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def exporter(port: int, folder: Path, *arguments: str, **environment: str) -> Iterator[None]:
    command = [
        sys.executable, "-m", "fleetmedic.cli", "exporter", f"--state.dir={folder}/state",
        f"--web.listen-address=127.0.0.1:{port}", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def unowned(port: int) -> dict[str, float]:
    """What the page says by GPU; nothing while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    rows = (line for line in lines if line.startswith("gpu_unowned_processes{"))
    return {row.split('"')[1]: float(row.rpartition(" ")[2]) for row in rows}


def until(wanted: list[dict[str, float]], ports: list[int], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while (found := [unowned(port) for port in ports]) != wanted:
        assert time.monotonic() < limit, found
        time.sleep(0.2)


def test_a_process_that_nobody_answers_for_is_counted_once_it_has_stayed(
    tmp_path: Path, new_port: Callable[[], int]
) -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler for the stand-in of NVML")
    if pid_namespace() != INITIAL_NAMESPACE:
        pytest.skip("in a container the exporter does not trust the driver's list of processes")
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(1, 2)
    notes = tmp_path / "slurm-jobs"
    notes.mkdir()
    (notes / "0").write_text("7\n")
    LocalCluster(tmp_path / "cluster", hardware.root)
    library = build(tmp_path / "library")
    ports = [new_port(), new_port()]
    with sleeper(SLURM_JOB_ID="7") as owned, sleeper() as stray:
        load = f"utilization=0.9\nmemory=0.7\npid={owned}\nat={AT}\n"
        (hardware.root / "node1" / "gpu0.load").write_text(load)
        hardware.change("node1", 1, stray_pid=stray)
        firmware.write(hardware, "node1", AT)
        driver = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML_DIR": f"{hardware.root}/node1"}
        real = ("--source=nvml", f"--collector.allocation.slurm-jobs={notes}")
        simulated = (
            "--source=simulated", f"--hardware.dir={hardware.root}", "--hardware.node=node1",
            f"--cluster.dir={tmp_path}/cluster",
        )  # fmt: skip
        with (
            exporter(ports[0], tmp_path / "one", *real, **driver),
            exporter(ports[1], tmp_path / "two", *simulated),
        ):
            began = time.monotonic()
            until([{"0": 0, "1": 0}] * 2, ports, 15)
            # the embedded cluster has no job: what Slurm's job uses is nobody's there
            until([{"0": 0, "1": 1}, {"0": 1, "1": 1}], ports, SETTLE_SECONDS + 15)
            assert time.monotonic() - began >= SETTLE_SECONDS
