"""The processes of the fleet: start, kill, and the end of their logs."""

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

from fleetmedic.stack import binaries, newer_releases

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    """A free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Programs:
    """The commands that start Prometheus and Alertmanager, without options."""

    prometheus: list[str]
    alertmanager: list[str]

    @classmethod
    def found(cls, prometheus: str = "prometheus", alertmanager: str = "alertmanager") -> Programs:
        """Find them by name, such as `prometheus-3`, and fetch missing ones. Raises UserError."""
        for name in {prometheus, alertmanager} & set(newer_releases.PARTS):
            newer_releases.fetch(name)
        return cls(binaries.command(prometheus), binaries.command(alertmanager))


class Processes:
    """Named processes, with logs in `folder`/logs."""

    def __init__(self, folder: Path) -> None:
        self._logs = folder / "logs"
        self._all: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], **environment: str) -> None:
        """Start a process, with additional environment variables."""
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
        """Whether the process was started and not killed by us."""
        return name in self._all

    def kill(self, name: str) -> None:
        """Kill a process and all its children with SIGKILL."""
        process = self._all.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)

    def all_run(self) -> None:
        """Raises AssertionError with the end of the log if a process has exited."""
        for name, process in self._all.items():
            if process.poll() is not None:
                last = (self._logs / f"{name}.log").read_text(errors="replace")[-800:]
                raise AssertionError(f"{name} has exited: {last}")

    def stop_all(self) -> None:
        """Stop all processes, first with SIGTERM."""
        for process in self._all.values():
            process.terminate()
        until = time.monotonic() + 10
        for process in self._all.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
        for name in list(self._all):
            self.kill(name)
