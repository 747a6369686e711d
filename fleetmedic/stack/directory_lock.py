"""Lock a state directory for one stack, and tell which process starts or runs a stack in it.

The lock file contains the identity of this process from the first moment of a start. The description
of the stack in stack.json is only written after the preparations.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

from fleetmedic.stack.identity import Identity, alive, own_identity

# it also marks the directory as fleetmedic's
MARK = ".fleetmedic.lock"


class DirectoryLock:
    """The lock of a state directory, held by the process that starts or runs its stack."""

    def __init__(self, state: Path) -> None:
        """Take the lock. Raises OSError if the file cannot be written, BlockingIOError if another process has the lock."""
        self._file: TextIO = (state / MARK).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(own_identity())
        except OSError:
            self._file.close()
            raise

    def release(self) -> None:
        """Release the lock, also if the disk is full."""
        try:
            self._file.truncate(0)
        finally:
            self._file.close()

    def _write(self, who: Identity) -> None:
        self._file.truncate(0)
        self._file.write(f"{who[0]} {who[1]}\n")
        self._file.flush()


def announce(state: Path, who: Identity | None) -> None:
    """Record a process that is about to take the lock, unless another one has it."""
    if who is not None and holder(state) is None:
        (state / MARK).write_text(f"{who[0]} {who[1]}\n")


def holder(state: Path) -> Identity | None:
    """Return the process that starts or runs a stack in the directory; None if there is none."""
    try:
        pid, start = map(int, (state / MARK).read_text().split())
    except (OSError, ValueError):
        return None
    return (pid, start) if alive((pid, start)) else None
