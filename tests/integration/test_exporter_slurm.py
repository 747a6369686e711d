"""Who holds a GPU, told by a real Slurm of two nodes on this machine (tests/real_slurm)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import firmware
from fake_nvml.build import build
from real_slurm import cluster as real_slurm

from exporter.owners.processes import read_process
from exporter.owners.slurm import SlurmNotes, SlurmSteps
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError

pytestmark = pytest.mark.integration
PROC, SYS = Path("/proc"), Path("/sys")
NODES = (f"t{os.getpid()}a", f"t{os.getpid()}b")
ON_NODES = [[("0", "2"), ("1", "2"), ("2", "2"), ("3", "3"), ("4", "3")], [("0", "3"), ("1", "3")]]


def lay_over() -> str:
    """Why this machine cannot lay folders over others, or nothing."""
    if os.geteuid() != 0:
        return "Slurm needs root, for namespaces and device files"
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "overlay", "overlay", "-olowerdir=/usr:/etc", "/usr"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return tried.stderr.strip()[-200:] if tried.returncode else ""


@pytest.fixture(scope="module")
def unpacked() -> None:
    """Slurm's programs, or a skip: a machine that cannot have them is no fault of the exporter."""
    if why := lay_over():
        pytest.skip(why)
    try:
        real_slurm.unpack()
    except UserError as error:
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def slurm(request: pytest.FixtureRequest, unpacked: None) -> Iterator[Any]:
    """Job 1 has ended, 2 holds three GPUs of the first node, 3 two of each with a step on both."""
    cgroups: bool = request.param
    if cgroups and not real_slurm.FREEZER.is_dir():
        pytest.skip("this machine has no control groups of version 1")
    # not below pytest's folders, which are root's alone: a job of another user starts there
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        real_slurm.running(real_slurm.Slurm(Path(folder), NODES, cgroups=cgroups)) as cluster,
    ):
        ended = cluster.submit("true", "--gres=gpu:4", f"-w{NODES[0]}")
        cluster.wait("job 1 ends", lambda: ended not in cluster.run("squeue", "-h"))
        one = cluster.submit("sleep 300", "--gres=gpu:3", f"-w{NODES[0]}", user="nobody")
        cluster.wait("job 2 runs", lambda: cluster.runs(one))
        two = cluster.submit("srun --overlap sleep 300 &\nsleep 300", "--gres=gpu:2", "-N2")
        cluster.wait("job 3 runs", lambda: cluster.runs(two, 2))
        yield cluster


def held(source: Any) -> list[tuple[str, str]]:
    return sorted((holding.gpu, holding.job_id) for holding in source.holdings(0))


def soon(cluster: Any, tell: Callable[[], Any], wanted: Any) -> None:
    """Wait for that: a step is listed a moment before its processes have begun."""
    cluster.wait(f"{wanted} is told", lambda: tell() == wanted, 20)


@pytest.mark.parametrize("slurm", [True], indirect=True)
def test_notes_and_processes_tell_of_every_nodes_own_gpus(slurm: Any, tmp_path: Path) -> None:
    for node, wanted in zip(NODES, ON_NODES, strict=True):
        notes, steps = SlurmNotes(slurm.notes(node)), SlurmSteps(PROC, SYS, node)
        soon(slurm, lambda notes=notes: held(notes), wanted)
        soon(slurm, lambda steps=steps: held(steps), wanted)
    users = {
        holding.job_id: holding.user for holding in SlurmSteps(PROC, SYS, NODES[0]).holdings(0)
    }
    assert users == {"2": "nobody", "3": "root"}

    page = exporter_page(tmp_path, slurm.notes(NODES[1]), NODES[1])
    rows = [line for line in page.splitlines() if line.startswith("gpu_allocation_info{")]
    assert len(rows) == 2
    assert all('job_id="3"' in row and 'user="root"' in row for row in rows), rows

    slurm.run("scancel", "2", "3")
    for node in NODES:
        soon(slurm, lambda node=node: held(SlurmNotes(slurm.notes(node))), [])
        soon(slurm, lambda node=node: held(SlurmSteps(PROC, SYS, node)), [])


@pytest.mark.parametrize("slurm", [False], indirect=True)
def test_without_cgroups_notes_tell_and_processes_name_their_job(slurm: Any) -> None:
    for node, wanted in zip(NODES, ON_NODES, strict=True):
        soon(slurm, lambda node=node: held(SlurmNotes(slurm.notes(node))), wanted)
        assert not (real_slurm.FREEZER / f"slurm_{node}").exists()
    found = [read_process(PROC, pid) for pid in started_here()]
    mine = [process for process in found if process and "slurm:3" in process.keys]
    assert {"sleep", "slurm_script"} <= {process.name for process in mine}


def started_here() -> Iterator[int]:
    """Processes of this Slurm's jobs: another one may run beside it."""
    for path in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SLURM_JOB_NODELIST={NODES[0]},".encode() in (path / "environ").read_bytes():
                yield int(path.name)


def exporter_page(folder: Path, notes: Path, node: str) -> str:
    """What the exporter of a node with two GPUs says, on the stand-in of their driver."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler for the stand-in of NVML")
    hardware = Hardware(folder / "hardware")
    hardware.create(1, 2)
    library = build(folder / "library")
    firmware.write(hardware, "node1", 1_800_000_000.0)
    environment = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_DIR": str(hardware.root / "node1"),
    }  # fmt: skip
    printed = subprocess.run(
        [
            sys.executable, "-m", "fleetmedic.cli", "exporter", "--once", "--source=nvml",
            f"--state.dir={folder}/state", f"--hardware.node={node}",
            f"--collector.allocation.slurm-jobs={notes}",
        ],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return printed.stdout
