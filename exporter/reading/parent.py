"""Functions for the exporter's child processes: exit with the exporter, set the name, exchange lines."""

from __future__ import annotations

import ctypes
import os
import select
import signal

_SET_DEATH_SIGNAL, _SET_NAME = 1, 15


def set_process_name(name: str) -> None:
    """Set the name shown by `ps` and `top`, so that a process stuck in the driver can be
    identified."""
    ctypes.CDLL(None).prctl(_SET_NAME, name.encode()[:15])


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the parent ends. Exits if the parent has already ended."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def write_to_parent(data: bytes) -> None:
    """Write a line to the parent process. Exits if the parent no longer reads."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(0)


def read_commands(wait: float) -> list[str]:
    """Return the parent's commands that arrive within `wait` seconds. Exits if the parent has ended."""
    ready, _, _ = select.select([0], [], [], max(0.0, wait))
    if not ready:
        return []
    text = os.read(0, 65_536)
    if not text:
        os._exit(0)
    return text.decode().splitlines()
