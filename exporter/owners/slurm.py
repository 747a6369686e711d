"""Reads which GPUs Slurm jobs hold, from the files of a prolog and from the jobs' processes.

The prolog's directory contains one file per GPU (`0`, or `2.1` for a MIG instance) with one job per
line. deploy/slurm/prolog.sh writes these files; dcgm-exporter reads the same format. The processes
of a job are those in its cgroup. Slurm sets GPUs, user and account in their environment.

A step that spans several nodes gets the first node's SLURM_JOB_GPUS on all nodes. On the other
nodes, these numbers may mean other GPUs. So this variable is read only in the batch step, which
runs on the first node. CUDA_VISIBLE_DEVICES is read only for UUIDs of MIG devices, because its
numbers count the GPUs visible to the job, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.collector import CollectorError
from exporter.owners import bounded
from exporter.owners.base import UNMATCHED, Holding, text

MAX_FILES = 512
MAX_NOTE = 16_384
MAX_ENVIRON = 256 * 1024
MAX_JOBS = 1024
MAX_STEPS = 256
MAX_ASKED = 16  # maximum number of processes to read per step
JOB_ID = re.compile(r"[0-9]{1,10}(?:_[0-9]{1,10})?(?:\+[0-9]{1,5})?")
_NOTE = re.compile(r"([0-9]{1,3})(?:\.[0-9]{1,3})?")
_JOB = re.compile(r"job_([0-9]{1,10})")
_INDEX = re.compile(r"[0-9]{1,3}")
_PARTITION = re.compile(r"MIG-[0-9A-Za-z/-]{1,80}")
_NODE_OF_MANY = re.compile(r"slurm(?:_[\w.-]{1,64})?")
_WANTED = (
    "SLURM_JOB_ID",
    "SLURM_JOB_USER",
    "SLURM_JOB_ACCOUNT",
    "SLURM_JOB_GPUS",
    "SLURM_STEP_GPUS",
    "CUDA_VISIBLE_DEVICES",
)


class SlurmNotes:
    """Reads the directory in which Slurm's prolog and epilog record the job of each GPU."""

    name = "slurm_notes"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_present(self) -> bool:
        return bounded.exists(self._folder)

    def holdings(self, now: float) -> Iterator[Holding]:
        try:
            files = bounded.names(self._folder, MAX_FILES)
        except OSError as error:
            raise CollectorError(f"cannot read {self._folder}: {error.strerror}") from None
        for name in sorted(files):
            match = _NOTE.fullmatch(name)
            if match is None:
                continue
            try:
                raw = bounded.read(self._folder / name, MAX_NOTE).decode("ascii", "replace")
            except FileNotFoundError:
                continue  # the job has just ended
            except OSError as error:
                raise CollectorError(
                    f"cannot read {self._folder / name}: {error.strerror}"
                ) from None
            for line in raw.split():
                if JOB_ID.fullmatch(line):
                    key = f"slurm:{line}" if line.isdigit() else f"{UNMATCHED}:{line}"
                    yield Holding(match[1], key, job_id=line)


@dataclass(frozen=True, slots=True)
class _StepEnvironment:
    """The information about its Slurm job in the environment of one process."""

    job: str
    user: str
    account: str
    gpus: tuple[str, ...]


class SlurmSteps:
    """Finds Slurm jobs by their cgroups. `sysfs` and `procfs` are the mount points of /sys and /proc."""

    name = "slurm_steps"

    def __init__(self, procfs: Path, sysfs: Path, node: str = "") -> None:
        self._procfs = procfs
        self._cgroup = sysfs / "fs" / "cgroup"
        self._node = node

    def is_present(self) -> bool:
        return any(True for _ in self._roots())

    def holdings(self, now: float) -> Iterator[Holding]:
        for job, folder in self._jobs():
            environments = list(self._step_environments(folder, job))
            gpus = dict.fromkeys(gpu for each in environments for gpu in each.gpus)
            user = next((each.user for each in environments if each.user), "")
            account = next((each.account for each in environments if each.account), "")
            for gpu in gpus:
                yield Holding(gpu, f"slurm:{job}", job_id=job, user=user, account=account)

    def _roots(self) -> Iterator[Path]:
        """Yield the parent directories of the jobs' cgroups: slurmstepd's scope (cgroup v2),
        otherwise the parent directories of cgroup v1."""
        scope = self._cgroup / "system.slice" / "slurmstepd.scope"
        try:
            later = [scope] if scope.is_dir() else []
            later += sorted(self._cgroup.glob("system.slice/*_slurmstepd.scope"))[:8]
        except OSError:
            later = []
        if later:
            yield from later
            return
        for controller in ("freezer", "memory", "devices", "cpuset", ""):
            base = self._cgroup / controller if controller else self._cgroup
            try:
                found = [n for n in bounded.names(base, MAX_FILES) if _NODE_OF_MANY.fullmatch(n)]
            except OSError:
                continue
            if found:
                mine = [n for n in found if n in ("slurm", f"slurm_{self._node}")]
                yield from (base / name for name in mine or sorted(found)[:1])
                return

    def _jobs(self) -> Iterator[tuple[str, Path]]:
        count = 0
        for root in self._roots():
            for pattern in ("job_*", "uid_*/job_*"):
                for folder in root.glob(pattern):
                    match = _JOB.fullmatch(folder.name)
                    if match is None:
                        continue
                    count += 1
                    if count > MAX_JOBS:
                        raise CollectorError(f"{root} has more than {MAX_JOBS} jobs")
                    yield match[1], folder

    def _step_environments(self, folder: Path, job: str) -> Iterator[_StepEnvironment]:
        """Yield the information about each step of a Slurm job.

        Reads the step's processes until one names GPUs.
        """
        for step, pids in _steps(folder):
            for pid in pids:
                environment = self._environment(pid, job, batch="step_batch" in step.parts)
                if environment is not None:
                    yield environment
                    if environment.gpus:
                        break

    def _environment(self, pid: str, job: str, *, batch: bool) -> _StepEnvironment | None:
        """Return the job information of a process; None if it has ended or belongs to Slurm itself."""
        try:
            raw = bounded.read(self._procfs / pid / "environ", MAX_ENVIRON)
        except PermissionError:
            raise CollectorError(
                "cannot read the environments of other users' jobs; run the exporter as root, in a "
                "container with the capability SYS_PTRACE"
            ) from None
        except OSError:
            return None
        pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
        given = {
            name: text(value.decode("utf-8", "replace"))
            for key, _, value in pairs
            if (name := key.decode("ascii", "replace")) in _WANTED
        }
        if given.get("SLURM_JOB_ID") != job:
            return None
        gpus = _gpus(given, batch=batch)
        return _StepEnvironment(
            job, given.get("SLURM_JOB_USER", ""), given.get("SLURM_JOB_ACCOUNT", ""), gpus
        )


def _gpus(given: dict[str, str], *, batch: bool) -> tuple[str, ...]:
    """Return the GPUs of a Slurm process on the node where the process runs."""
    partitions = given.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(map(_PARTITION.fullmatch, partitions)):
        return tuple(partitions)
    listed = given.get("SLURM_JOB_GPUS" if batch else "SLURM_STEP_GPUS", "")
    return tuple(gpu for gpu in listed.split(",") if _INDEX.fullmatch(gpu))


def _steps(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the cgroups below a job's cgroup, each with some of its processes.

    A few processes are enough, because all processes of a step have the same GPUs.
    """
    for count, procs in enumerate(folder.rglob("cgroup.procs")):
        if count >= MAX_STEPS:
            return
        try:
            with procs.open("rb") as file:
                first = file.read(4096).split()
        except OSError:
            continue
        # A job's cgroup also has Slurm's own processes, which have no GPUs.
        pids = [pid.decode() for pid in first[:MAX_ASKED] if pid.isdigit()]
        yield procs.parent.relative_to(folder), pids
