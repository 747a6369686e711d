"""Whose a process is: the pod or job of its cgroup, else the job that its environment names.

A process that cannot be read is nobody's in particular: `UNREADABLE`, and nothing may be concluded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from exporter.owners import bounded

MAX_BYTES = 65_536
MAX_ENVIRON = 256 * 1024
UNREADABLE = "?"
_POD = re.compile(
    rb"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
)
_SLURM = re.compile(rb"/(?:slurm[^/\n]*|[^/\n]*slurmstepd\.scope)/(?:uid_\d+/)?job_(\d{1,10})")
_JOB = re.compile(rb"(?:^|\0)FLEETMEDIC_JOB_ID=([A-Za-z0-9][A-Za-z0-9._-]{0,252})(?:\0|$)")


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its name, when it began (clock ticks since boot), and the keys of who may own it."""

    name: str
    started: int
    keys: frozenset[str]


def look(procfs: Path, pid: int) -> Process | None:
    """What can be seen of a process; None when it has gone."""
    folder = procfs / str(pid)
    try:
        raw = bounded.read(folder / "stat", MAX_BYTES)
        cgroup = bounded.read(folder / "cgroup", MAX_BYTES)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return Process("", 0, frozenset({UNREADABLE}))
    name = raw[raw.find(b"(") + 1 : raw.rfind(b")")].decode("utf-8", "replace")[:64]
    fields = raw[raw.rfind(b")") + 2 :].split()
    started = int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else 0
    keys = {f"slurm:{job.decode()}" for job in _SLURM.findall(cgroup)}
    keys |= {f"pod:{uid(found)}" for found in _POD.findall(cgroup)}
    if not keys:
        keys |= _of_environment(folder)
    return Process(name, started, frozenset(keys))


def uid(found: bytes) -> str:
    """A pod's uid as Kubernetes writes it: systemd's cgroup driver has _ for -, static pods have neither."""
    return found.decode().replace("_", "-")


def _of_environment(folder: Path) -> set[str]:
    try:
        match = _JOB.search(bounded.read(folder / "environ", MAX_ENVIRON))
    except (FileNotFoundError, ProcessLookupError):
        return set()
    except OSError:
        return {UNREADABLE}
    return {f"job:{match[1].decode()}"} if match else set()
