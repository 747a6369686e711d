"""The processes of the fleet: started, ended as a power cut does, and their last words."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.stack import binaries, later

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    """A port of loopback that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Programs:
    """The beginnings of the commands that start them."""

    prometheus: list[str]
    alertmanager: list[str]

    @classmethod
    def found(cls, prometheus: str = "prometheus", alertmanager: str = "alertmanager") -> Programs:
        """By their names, such as `prometheus-3`, which is fetched where it is not there. Raises
        UserError."""
        for name in {prometheus, alertmanager} & set(later.PARTS):
            later.fetch(name)
        return cls(binaries.command(prometheus), binaries.command(alertmanager))


class Processes:
    """Each has a name, and a log of that name below `folder`/logs."""

    def __init__(self, folder: Path) -> None:
        self._logs = folder / "logs"
        self._all: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], **environment: str) -> None:
        """Start one, with these variables besides our own."""
        self._logs.mkdir(parents=True, exist_ok=True)
        known = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join([str(ROOT), *([known] if known else [])])
        with (self._logs / f"{name}.log").open("ab") as output:
            self._all[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                env={**os.environ, "PYTHONPATH": path, **environment}, start_new_session=True,
            )  # fmt: skip

    def ours(self, name: str, *arguments: str, **environment: str) -> None:
        """Start `fleetmedic` with these arguments."""
        self.start(name, [sys.executable, "-P", "-m", "fleetmedic.cli", *arguments], **environment)

    def runs(self, name: str) -> bool:
        """Whether it was started and not ended by us."""
        return name in self._all

    def kill(self, name: str) -> None:
        """End a process as a power cut does, with all that it started."""
        process = self._all.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)

    def all_run(self) -> None:
        """Raises AssertionError, with its last words, when one has ended by itself."""
        for name, process in self._all.items():
            if process.poll() is not None:
                last = (self._logs / f"{name}.log").read_text(errors="replace")[-800:]
                raise AssertionError(f"{name} has ended: {last}")

    def stop_all(self) -> None:
        """End all of them, gently first."""
        for process in self._all.values():
            process.terminate()
        until = time.monotonic() + 10
        for process in self._all.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
        for name in list(self._all):
            self.kill(name)
