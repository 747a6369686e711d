"""Slurm jobs: from files of the real Slurm (see slurm_22.05/README.md), and from invalid data."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.collector import CollectorError
from exporter.owners.base import UNMATCHED, Holding
from exporter.owners.processes import read_process
from exporter.owners.slurm import SlurmNotes, SlurmSteps

RECORD = Path(__file__).parents[1] / "slurm_22.05"
SCRIPTS = Path(__file__).parents[4] / "deploy" / "slurm"


def _held(found: object) -> list[tuple[str, str]]:
    return sorted((holding.gpu, holding.job_id) for holding in found)  # type: ignore[attr-defined]


ON_NODE = {
    "n0": [("0", "2"), ("1", "2"), ("2", "2"), ("3", "3"), ("4", "3")],
    "n1": [("0", "3"), ("1", "3")],
}


@pytest.mark.parametrize("node", ON_NODE)
def test_the_notes_that_a_real_prolog_and_epilog_left(node: str) -> None:
    notes = SlurmNotes(RECORD / node / "slurm-jobs")
    assert notes.is_present()
    assert _held(notes.holdings(0)) == ON_NODE[node]
    assert {holding.key for holding in notes.holdings(0)} <= {"slurm:2", "slurm:3"}


@pytest.mark.parametrize("node", ON_NODE)
def test_the_jobs_of_a_real_slurm_each_with_its_gpus_of_this_node(node: str) -> None:
    steps = SlurmSteps(RECORD / node / "proc", RECORD / node / "sys", node)
    assert steps.is_present()
    assert _held(steps.holdings(0)) == ON_NODE[node]


def test_the_jobs_of_a_real_slurm_have_users_and_accounts() -> None:
    steps = SlurmSteps(RECORD / "n0/proc", RECORD / "n0/sys", "n0")
    found = sorted(steps.holdings(0), key=lambda holding: holding.gpu)
    assert found[3] == Holding("3", "slurm:3", job_id="3", user="root", account="research")
    assert (found[0].user, found[0].account) == ("nobody", "")


def test_the_processes_of_a_real_step_are_its_jobs() -> None:
    (procs,) = (RECORD / "n1/sys").rglob("step_0/cgroup.procs")
    found = read_process(RECORD / "n1/proc", int(procs.read_text()))
    assert found is not None
    assert (found.name, found.keys) == ("sleep", {"slurm:3"})


def test_a_node_without_slurm_has_none(tmp_path: Path) -> None:
    assert not SlurmNotes(tmp_path / "none").is_present()
    assert not SlurmSteps(tmp_path, tmp_path).is_present()
    assert list(SlurmSteps(tmp_path, tmp_path).holdings(0)) == []


@pytest.mark.parametrize(
    "scope", ["system.slice/slurmstepd.scope", "system.slice/n1_slurmstepd.scope"]
)
def test_jobs_are_found_in_cgroups_of_version_2(tmp_path: Path, scope: str) -> None:
    step = tmp_path / "sys/fs/cgroup" / scope / "job_3/step_0/user/task_0"
    step.mkdir(parents=True)
    (procs,) = (RECORD / "n1/sys").rglob("step_0/cgroup.procs")
    shutil.copy(procs, step)
    steps = SlurmSteps(RECORD / "n1/proc", tmp_path / "sys")
    assert _held(steps.holdings(0)) == [("0", "3"), ("1", "3")]


def _one(
    tmp_path: Path, environ: bytes, job: str = "job_7", step_name: str = "step_batch"
) -> SlurmSteps:
    step = tmp_path / "sys/fs/cgroup/freezer/slurm/uid_0" / job / step_name
    step.mkdir(parents=True)
    (step / "cgroup.procs").write_text("11\n")
    (tmp_path / "proc/11").mkdir(parents=True)
    (tmp_path / "proc/11/environ").write_bytes(environ)
    return SlurmSteps(tmp_path / "proc", tmp_path / "sys")


@pytest.mark.parametrize(
    "environ",
    [
        b"",
        b"\xff\xfe\0=\0==\0",
        b"SLURM_JOB_GPUS=0,1\0",  # of no job
        b"SLURM_JOB_ID=8\0SLURM_JOB_GPUS=0\0",  # of another job than the cgroup's
        b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=a,-1,1000000,\0",
        "SLURM_JOB_ID=7\0SLURM_JOB_GPUS=\u0661,\u0967\0".encode(),
        b"SLURM_JOB_ID=7\0CUDA_VISIBLE_DEVICES=0,1\0",  # numbers of the GPUs visible to the job
        b"SLURM_JOB_ID=7\0CUDA_VISIBLE_DEVICES=MIG-a,0\0",
        b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=" + b"9" * 5000 + b"\0",
        b"X=" + b"x" * 300_000 + b"\0SLURM_JOB_ID=7\0SLURM_JOB_GPUS=0\0",
    ],
)
def test_an_environment_that_makes_no_sense_holds_nothing(tmp_path: Path, environ: bytes) -> None:
    assert list(_one(tmp_path, environ).holdings(0)) == []


def test_what_the_job_holds_on_its_first_node_is_not_read_in_a_step(tmp_path: Path) -> None:
    raw = b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=3,4\0SLURM_STEP_GPUS=0,1\0"
    assert _held(_one(tmp_path, raw, step_name="step_0").holdings(0)) == [("0", "7"), ("1", "7")]


def test_what_the_job_holds_on_its_first_node_is_not_read_in_a_step_without_gpus(
    tmp_path: Path,
) -> None:
    raw = b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=3,4\0"
    assert _held(_one(tmp_path, raw, step_name="step_0").holdings(0)) == []


def test_partitions_are_named_by_uuid(tmp_path: Path) -> None:
    raw = b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=0,9\0CUDA_VISIBLE_DEVICES=MIG-a,MIG-GPU-b/1/0\0"
    found = _held(_one(tmp_path, raw).holdings(0))
    assert found == [("MIG-GPU-b/1/0", "7"), ("MIG-a", "7")]


def test_a_step_is_asked_until_a_process_of_it_knows(tmp_path: Path) -> None:
    steps = _one(tmp_path, b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=2\0")
    (procs,) = (tmp_path / "sys").rglob("cgroup.procs")
    procs.write_text("7\n8\n9\n10\n11\n12\n")
    for pid in (8, 9, 12):
        (tmp_path / f"proc/{pid}").mkdir()
        (tmp_path / f"proc/{pid}/environ").write_bytes(b"SLURM_JOB_ID=7\0")
    assert _held(steps.holdings(0)) == [("2", "7")]


def test_a_user_or_account_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    raw = b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=0\0SLURM_JOB_USER=a\nb\0SLURM_JOB_ACCOUNT=" + b"x" * 300
    (found,) = _one(tmp_path, raw).holdings(0)
    assert (found.user, found.account) == ("", "")


def test_a_process_that_has_gone_is_no_failure(tmp_path: Path) -> None:
    steps = _one(tmp_path, b"SLURM_JOB_ID=7\0SLURM_JOB_GPUS=0\0")
    shutil.rmtree(tmp_path / "proc/11")
    assert list(steps.holdings(0)) == []


def test_a_folder_that_is_called_like_a_job_and_is_none_is_passed_over(tmp_path: Path) -> None:
    assert list(_one(tmp_path, b"SLURM_JOB_ID=x\0SLURM_JOB_GPUS=0\0", "job_x").holdings(0)) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gpu0", b"1\n"),
        ("0.x", b"1\n"),
        ("9999", b"1\n"),
        ("\u0661", b"1\n"),
        ("0.\u0661", b"1\n"),
        ("..", None),
        ("0", b"\xff\xfe\n-1\nrm -rf\n"),
        ("0", b"12345678901\n"),
        ("0", b""),
    ],
)
def test_notes_that_make_no_sense_hold_nothing(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert list(SlurmNotes(tmp_path).holdings(0)) == []


def test_a_note_about_a_partition_is_about_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "2.1").write_text("12\n13_4\n")
    assert _held(SlurmNotes(tmp_path).holdings(0)) == [("2", "12"), ("2", "13_4")]


def test_a_note_in_another_form_than_processes_know_holds_and_matches_nobody(
    tmp_path: Path,
) -> None:
    (tmp_path / "0").write_text("13_4\n12\n")
    keys = {holding.job_id: holding.key for holding in SlurmNotes(tmp_path).holdings(0)}
    assert keys["12"] == "slurm:12"
    assert keys["13_4"].startswith(UNMATCHED)


def test_a_note_that_is_a_link_or_too_long_fails_the_source(tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/etc/passwd")
    with pytest.raises(CollectorError, match="0"):
        list(SlurmNotes(tmp_path).holdings(0))
    (tmp_path / "0").unlink()
    (tmp_path / "0").write_bytes(b"1\n" * 10_000)
    with pytest.raises(CollectorError, match="larger than"):
        list(SlurmNotes(tmp_path).holdings(0))


def _run(script: str, folder: Path, job: str, gpus: str = "") -> None:
    environment = {
        "PATH": os.environ["PATH"], "FLEETMEDIC_SLURM_JOBS": str(folder), "SLURM_JOB_ID": job,
        "SLURM_JOB_GPUS": gpus,
    }  # fmt: skip
    said = subprocess.run(["sh", str(SCRIPTS / script)], env=environment, check=False, timeout=20)
    assert said.returncode == 0


def test_prolog_and_epilog_keep_the_notes(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    _run("prolog.sh", folder, "7", "0,1")
    _run("prolog.sh", folder, "7", "0,1")  # runs twice for a job with two steps
    _run("prolog.sh", folder, "8", "1")
    assert _held(SlurmNotes(folder).holdings(0)) == [("0", "7"), ("1", "7"), ("1", "8")]
    _run("epilog.sh", folder, "7")
    assert _held(SlurmNotes(folder).holdings(0)) == [("1", "8")]
    assert not (folder / "0").exists()


def test_an_epilog_that_cannot_write_forgets_no_other_job(tmp_path: Path) -> None:
    _run("prolog.sh", tmp_path, "7", "0")
    _run("prolog.sh", tmp_path, "8", "0")
    (tmp_path / ".left").symlink_to("/dev/full")
    _run("epilog.sh", tmp_path, "7")
    assert ("0", "8") in _held(SlurmNotes(tmp_path).holdings(0))


def test_a_prolog_writes_nowhere_but_into_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    _run("prolog.sh", folder, "7", "../x,0;rm,3")
    assert {path.name for path in folder.iterdir()} == {".lock", "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["jobs"]
