"""Functions for child processes: end with the exporter, set the process name, exchange lines with
it."""

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
    """Request SIGKILL at the parent's death. Exits immediately if the parent is already dead."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def write_to_parent(data: bytes) -> None:
    """Write to the parent. Exits if the parent no longer reads."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(0)


def read_commands(wait: float) -> list[str]:
    """Return the commands that arrive within `wait` seconds. Exits if the parent has ended."""
    ready, _, _ = select.select([0], [], [], max(0.0, wait))
    if not ready:
        return []
    text = os.read(0, 65_536)
    if not text:
        os._exit(0)
    return text.decode().splitlines()
