"""Run a command and put load on the simulated GPUs of its job (`fleetmedic run --simulate-load`).

The command itself uses no GPU. While it runs, the metrics of its GPUs show the load, temperature
and power of training. If a GPU is lost, the command is terminated, as CUDA would end it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from fleetmedic.hardware.workload import GpuGroup, GpuLostError

STEP_SECONDS = 0.5
_MODULE = ("-P", "-m", "fleetmedic.hardware.simulated_load")


def with_load(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command of a job that runs `command` and puts load on its simulated GPUs."""
    return (sys.executable, *_MODULE, *command)


def without_load(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return the user's command in a command of `with_load`; None for any other command."""
    wrapped = tuple(command[1:4]) == _MODULE
    return tuple(command[4:]) if wrapped else None


def run(command: list[str], gpus: GpuGroup) -> int:
    """Run the command until it ends or a GPU is lost. Signals are passed to the command.

    Returns the command's exit code, 1 for a lost GPU, or 127 if the command cannot be started.
    """
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    lost: list[str] = []

    def load() -> None:
        try:
            while child.poll() is None:
                gpus.step(STEP_SECONDS)
        except GpuLostError as error:
            lost.append(str(error))
            child.terminate()

    threading.Thread(target=load, name="load", daemon=True).start()
    code = child.wait()
    if lost:
        print(lost[0], file=sys.stderr, flush=True)
        return 1
    return code if code >= 0 else 128 - code


def main(command: list[str]) -> int:
    """Run the command as part of a job on the embedded cluster; returns the exit code."""
    gpus = GpuGroup.of_job()
    if gpus is None:
        print("--simulate-load needs simulated GPUs; these GPUs are real.", file=sys.stderr)
        return 2
    return run(command, gpus)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
