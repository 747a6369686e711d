"""The owner of a process, from cgroups of container runtimes and Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.owners.processes import UNREADABLE, read_process

UID = "5d2c4b1e-7a0b-4c63-9d6e-1f0c8c3a2b11"
STAT = b"42 (python) a) S 41 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1 1"


def process(tmp_path: Path, cgroup: str, environ: bytes = b"") -> frozenset[str]:
    folder = tmp_path / "42"
    folder.mkdir()
    (folder / "stat").write_bytes(STAT)
    (folder / "cgroup").write_text(cgroup)
    (folder / "environ").write_bytes(environ)
    found = read_process(tmp_path, 42)
    assert found is not None
    return found.keys


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-0123.scope",
        f"0::/kubepods/besteffort/pod{UID}/0123",
        f"11:memory:/kubepods/pod{UID}/0123\n10:cpu:/kubepods/pod{UID}/0123",
        f"0::/../../pod{UID}/cri-0123",
    ],
)
def test_a_process_in_a_container_is_its_pods(tmp_path: Path, cgroup: str) -> None:
    assert process(tmp_path, cgroup) == {f"pod:{UID}"}


def test_a_static_pods_uid_has_no_dashes(tmp_path: Path) -> None:
    assert process(tmp_path, "0::/kubepods/pod0123456789abcdef0123456789abcdef/x") == {
        "pod:0123456789abcdef0123456789abcdef"
    }


@pytest.mark.parametrize(
    "cgroup",
    [
        "6:freezer:/slurm_n0/uid_0/job_7/step_0\n4:memory:/",
        "6:freezer:/slurm/uid_1000/job_7/step_batch",
        "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
        "0::/system.slice/n1_slurmstepd.scope/job_7/step_0/user/task_0",
    ],
)
def test_a_process_of_a_slurm_step_is_its_jobs(tmp_path: Path, cgroup: str) -> None:
    assert process(tmp_path, cgroup) == {"slurm:7"}


def test_a_process_of_the_embedded_cluster_names_its_job(tmp_path: Path) -> None:
    keys = process(tmp_path, "0::/user.slice", b"A=1\0FLEETMEDIC_JOB_ID=train-a\0B=2\0")
    assert keys == {"job:train-a"}


def test_a_process_of_slurm_without_cgroups_names_its_job(tmp_path: Path) -> None:
    environ = b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=0\0"
    assert process(tmp_path, "0::/system.slice/slurmd.service", environ) == {"slurm:7"}


def test_the_cgroup_outweighs_the_environment(tmp_path: Path) -> None:
    assert process(tmp_path, "0::/slurm/uid_0/job_7/step_0", b"SLURM_JOB_ID=8\0") == {"slurm:7"}


def _ancestor(tmp_path: Path, pid: int, parent: int, environ: bytes = b"") -> None:
    folder = tmp_path / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (sh) S {parent} " + "0 " * 40)
    (folder / "environ").write_bytes(environ)


def test_a_process_without_environment_is_of_the_job_that_started_it(tmp_path: Path) -> None:
    _ancestor(tmp_path, 41, 40)
    _ancestor(tmp_path, 40, 39, b"FLEETMEDIC_JOB_ID=a\0")
    _ancestor(tmp_path, 39, 1, b"FLEETMEDIC_JOB_ID=b\0")
    assert process(tmp_path, "0::/") == {"job:a"}


def test_ancestors_that_go_round_in_a_circle_end_the_search(tmp_path: Path) -> None:
    _ancestor(tmp_path, 41, 42)
    assert process(tmp_path, "0::/") == frozenset()


def test_an_ancestor_that_has_gone_names_nobody(tmp_path: Path) -> None:
    _ancestor(tmp_path, 41, 40)
    assert process(tmp_path, "0::/") == frozenset()


@pytest.mark.parametrize("stat", [b"", b"42", b"42 (a", b"42 (a) S", b"42 (a) S x y", b"\xff" * 99])
def test_a_stat_that_makes_no_sense_is_a_process_without_a_beginning(
    tmp_path: Path, stat: bytes
) -> None:
    process(tmp_path, "0::/")
    (tmp_path / "42" / "stat").write_bytes(stat)
    found = read_process(tmp_path, 42)
    assert found is not None
    assert (found.started, found.keys) == (0, frozenset())


@pytest.mark.parametrize(
    "environ",
    [
        b"",
        b"SLURM_JOB_ID=x\0",
        b"SLURM_JOB_ID=12345678901\0",
        b"XFLEETMEDIC_JOB_ID=a\0",
        b"FLEETMEDIC_JOB_ID=\0",
        b"FLEETMEDIC_JOB_ID=a b\0",
        b"\xff",
    ],
)
def test_a_process_of_nobody_has_no_owner(tmp_path: Path, environ: bytes) -> None:
    assert process(tmp_path, "0::/user.slice/user-1000.slice", environ) == frozenset()


def test_a_name_with_brackets_does_not_move_the_start_time(tmp_path: Path) -> None:
    process(tmp_path, "0::/")
    found = read_process(tmp_path, 42)
    assert found is not None
    assert (found.name, found.started) == ("python) a", 98765)


def test_a_process_that_has_gone_is_none(tmp_path: Path) -> None:
    assert read_process(tmp_path, 43) is None


def test_what_cannot_be_read_is_not_called_nobodys(tmp_path: Path) -> None:
    process(tmp_path, "0::/")
    (tmp_path / "42" / "stat").unlink()
    (tmp_path / "42" / "stat").mkdir()
    found = read_process(tmp_path, 42)
    assert found is not None
    assert found.keys == {UNREADABLE}


def test_this_very_process_can_be_looked_at() -> None:
    found = read_process(Path("/proc"), os.getpid())
    assert found is not None
    assert found.started > 0
