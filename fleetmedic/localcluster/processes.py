"""Start processes that outlive their parent, and identify them later.

Each process belongs to a directory. A pid alone does not identify a process, because the kernel
reuses pids. The pid with the start time in clock ticks and the machine's boot id does.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fleetmedic.localcluster import shim
from fleetmedic.localcluster.retry import ExitStatus

CLAIM_SECONDS = 5.0
MAX_FILE = 65_536
_host_boot = cache(shim.host_boot)


@dataclass(frozen=True, slots=True)
class RecordedProcess:
    """A process that was recorded in a file. `start` is in clock ticks since the boot with the id `boot`."""

    pid: int
    start: int
    boot: str

    @property
    def alive(self) -> bool:
        """Return whether the recorded process still runs.

        Returns False for a zombie, and for a later process with the same pid.
        """
        return (
            self.start > 0
            and self.boot == _host_boot()
            and shim.start_ticks(self.pid) == self.start
        )

    def send(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the recorded process or its process group. Returns False if it has exited."""
        if not self.alive:
            return False
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Started:
    """A started attempt (its command, and the shim as the parent process), or a started replica
    (its process and port)."""

    command: RecordedProcess
    shim: RecordedProcess
    at: float
    port: int = 0


class Launcher:
    """Starts a process for a directory.

    It keeps the handles of its children only to reap them. Another process can manage the started
    processes later.
    """

    def __init__(self) -> None:
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._failed: set[Path] = set()

    def start_attempt(self, folder: Path) -> None:
        """Start the shim in an attempt's directory. Repeating the call is safe, because only the
        first shim runs.
        """
        program = [sys.executable, "-I", "-S", shim.__file__, str(folder)]
        self._start(folder, program, {})

    def start_module(self, folder: Path, module: str, *arguments: str) -> None:
        """Start a module of this package that claims the directory itself, as the shim does."""
        program = [sys.executable, "-P", "-m", module, "--folder", str(folder), *arguments]
        self._start(folder, program, os.environ)

    def _start(self, folder: Path, program: list[str], environment: Mapping[str, str]) -> None:
        with (folder / "start.log").open("ab") as log:
            self._children[folder] = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
            )

    def starting(self, folder: Path) -> bool:
        """Return whether this launcher has a child that still runs for the directory."""
        child = self._children.get(folder)
        return child is not None and child.poll() is None

    def failed(self, folder: Path) -> bool:
        """Return whether a child for the directory exited without claiming the directory."""
        return folder in self._failed

    def reap(self) -> None:
        """Reap the launcher's children that have exited."""
        ended = [folder for folder, child in self._children.items() if child.poll() is not None]
        for folder in ended:
            del self._children[folder]
            if not claimed(folder):
                self._failed.add(folder)


def claimed(folder: Path) -> bool:
    """Return whether any process has claimed the directory so far."""
    return (folder / "lock").exists()


def abandoned(folder: Path) -> bool:
    """Return whether the process that claimed the directory has exited. Always False in the first 5 s."""
    try:
        with (folder / "lock").open("rb") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime < CLAIM_SECONDS:
                return False
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return False  # the lock is held
    return True


def read_started(folder: Path) -> Started | None:
    """Return the process that was started for the directory; None if it has not started."""
    raw = _read(folder / "started.json")
    if raw is None:
        return None
    boot = str(raw["host_boot"])
    command = RecordedProcess(int(raw["pid"]), int(raw["start"]), boot)
    above = RecordedProcess(int(raw.get("shim_pid", 0)), int(raw.get("shim_start", 0)), boot)
    return Started(command, above, float(raw["at"]), int(raw.get("port", 0)))


def read_exit(folder: Path) -> ExitStatus | None:
    """Return the recorded exit status of the directory's command; None if it is not recorded."""
    raw = _read(folder / "exit.json")
    return None if raw is None else ExitStatus(raw["code"], raw["signal"])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(MAX_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return None  # writes are atomic, so the file was damaged by something else
    return raw if isinstance(raw, dict) else None
