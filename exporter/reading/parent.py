"""What a process owes the exporter that started it: it dies when the exporter does, and it says in the
list of processes what it is."""

from __future__ import annotations

import ctypes
import os
import select
import signal

_SET_DEATH_SIGNAL, _SET_NAME = 1, 15


def be_called(name: str) -> None:
    """The name that `ps` and `top` show: who looks at a process stuck in the driver sees whose it is."""
    ctypes.CDLL(None).prctl(_SET_NAME, name.encode()[:15])


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL at the parent's death; leave now if it is dead already."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def tell(data: bytes) -> None:
    """Write to the parent; ends the process when nobody reads."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(0)


def orders(wait: float) -> list[str]:
    """The lines of orders that came within `wait` seconds. Ends the process when there is no parent."""
    ready, _, _ = select.select([0], [], [], max(0.0, wait))
    if not ready:
        return []
    text = os.read(0, 65_536)
    if not text:
        os._exit(0)
    return text.decode().splitlines()
