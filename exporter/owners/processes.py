"""Finds the owner of a process: the pod or job of its cgroup, otherwise the job in its environment.

If neither names a job, the environments of its ancestors are read. A process that cannot be read
has the key `UNREADABLE`: its owner is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from exporter.owners import bounded

MAX_BYTES = 65_536
MAX_ENVIRON = 256 * 1024
MAX_ANCESTORS = 16
UNREADABLE = "?"
# Programs that monitor or serve all GPUs of a node and hold none.
SERVICES: tuple[str, ...] = (
    "nvidia-persistenced",
    "nvidia-fabricmanager",
    "nv-fabricmanager",
    "nvidia-imex",
    "nv-hostengine",
    "dcgm-exporter",
    "dcgmi",
    "nvidia-smi",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "Xorg",
    "fleetmedic",
)
_POD = re.compile(
    rb"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
)
_SLURM = re.compile(rb"/(?:slurm[^/\n]*|[^/\n]*slurmstepd\.scope)/(?:uid_\d+/)?job_(\d{1,10})")
_NAMED = (
    ("job", b"\0FLEETMEDIC_JOB_ID=", re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")),
    # where Slurm keeps no cgroups (proctrack/linuxproc)
    ("slurm", b"\0SLURM_JOB_ID=", re.compile(rb"\d{1,10}")),
)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that uses a GPU: name, start time (clock ticks since boot), keys of its possible owners."""

    name: str
    started: int
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class _ProcessStat:
    name: str
    parent: int
    started: int


def read_process(procfs: Path, pid: int) -> GpuProcess | None:
    """Read the name, start time and owner keys of a process; None if the process has ended."""
    folder = procfs / str(pid)
    try:
        stat = _stat(folder)
        cgroup = bounded.read(folder / "cgroup", MAX_BYTES)
        keys = _of_cgroup(cgroup) or _of_environment(folder)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return GpuProcess("", 0, frozenset({UNREADABLE}))
    return GpuProcess(stat.name, stat.started, frozenset(keys or _of_ancestors(procfs, stat)))


def _stat(folder: Path) -> _ProcessStat:
    raw = bounded.read(folder / "stat", MAX_BYTES)
    name = raw[raw.find(b"(") + 1 : raw.rfind(b")")].decode("utf-8", "replace")[:64]
    fields = raw[raw.rfind(b")") + 2 :].split()
    numbers = [int(field) if field.isdigit() else 0 for field in fields[1:20]]
    return _ProcessStat(name, *(numbers[i] if i < len(numbers) else 0 for i in (0, 18)))


def _of_cgroup(cgroup: bytes) -> set[str]:
    keys = {f"slurm:{job.decode()}" for job in _SLURM.findall(cgroup)}
    return keys | {f"pod:{uid(found)}" for found in _POD.findall(cgroup)}


def _of_ancestors(procfs: Path, stat: _ProcessStat) -> set[str]:
    """Return the job keys of the nearest ancestor process that names a job.

    The search ends without a result at an unreadable ancestor. The process itself is readable, so
    it then counts as a process without an owner.
    """
    for _ in range(MAX_ANCESTORS):
        if stat.parent <= 1:
            break
        folder = procfs / str(stat.parent)
        try:
            stat = _stat(folder)
            if keys := _of_environment(folder):
                return keys
        except OSError:
            break
    return set()


def uid(found: bytes) -> str:
    """Convert a pod's UID in a cgroup name to Kubernetes notation.

    The systemd cgroup driver replaces - with _. UIDs of static pods contain neither character.
    """
    return found.decode().replace("_", "-")


def _of_environment(folder: Path) -> set[str]:
    raw = b"\0" + bounded.read(folder / "environ", MAX_ENVIRON)
    keys = set()
    for kind, name, pattern in _NAMED:
        begin = raw.find(name) + len(name)
        if begin >= len(name):
            value = raw[begin : begin + 300].partition(b"\0")[0]
            if pattern.fullmatch(value):
                keys.add(f"{kind}:{value.decode()}")
    return keys
