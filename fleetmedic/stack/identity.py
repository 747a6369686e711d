"""Identify processes by pid and start time, because the kernel reuses pids.

Every process of a stack has the stack's identifier in an environment variable. Child processes
inherit this variable, so the processes of a stack can be found after its supervisor has ended.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.progress.process import start_ticks

VARIABLE = "FLEETMEDIC_SUPERVISOR"
Identity = tuple[int, int]


def identity(pid: int) -> Identity | None:
    """Return (pid, start time in clock ticks since boot), or None if no such process runs."""
    start = start_ticks(pid)
    return (pid, start) if start else None


def own_identity() -> Identity:
    """Return the identity of this process."""
    found = identity(os.getpid())
    if found is None:
        raise RuntimeError("/proc is not mounted")
    return found


def alive(who: Identity | None) -> bool:
    """Return whether the process with this pid and start time still runs."""
    return who is not None and identity(who[0]) == who


@dataclass(frozen=True, slots=True)
class Mark:
    """Identifies a stack by its supervisor process and a checksum of the path of its state directory."""

    supervisor: Identity
    stack: int

    @classmethod
    def of(cls, supervisor: Identity, state: Path) -> Mark:
        """Return the identifier of the stack with that supervisor and state directory."""
        return cls(supervisor, zlib.crc32(str(state).encode()))

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Parse a stack identifier as formatted by `str()`. Raises ValueError if it is invalid."""
        pid, start, stack = (int(part) for part in text.split(":"))
        return cls((pid, start), stack)

    def __str__(self) -> str:
        return f"{self.supervisor[0]}:{self.supervisor[1]}:{self.stack}"


def marked_processes(mark: Mark) -> list[Identity]:
    """Return every process of the stack with this identifier, except the caller."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            carries = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if carries and pid != os.getpid() and (one := identity(pid)):
            found.append(one)
    return found
