"""The heartbeat: a worker process records its current call and GPU in memory shared with the
exporter.

A hung process cannot report anything, so it records each call before it makes the call. The write
takes a microsecond and wakes no other process. The supervisor reads the memory when necessary.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import NamedTuple

from exporter.sources.base import READ_GROUPS, Group

_GROUPS: tuple[Group, ...] = ("open", "identify", "presence", *READ_GROUPS)
# calls, since, at, slot, group. Written in one operation, so that a reader never sees a partial update.
_LAYOUT = struct.Struct("=QddiI")
_NO_SLOT = -1
_IDLE = len(_GROUPS)
SIZE = _LAYOUT.size


class Beat(NamedTuple):
    """The content of a heartbeat. Times are monotonic, so they are comparable between processes.

    `calls` counts the updates; `at` is the time of the latest. `slot` is the number of the GPU that
    is being read (None: all GPUs). `group` is the group being read (None: the process waits for its
    next round). `since` is when the process began to read this GPU.
    """

    calls: int
    since: float
    at: float
    slot: int | None
    group: Group | None


class Heartbeat:
    """The heartbeat in the process that reads the GPUs; it writes to the shared memory."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        self._calls = 0
        self._slot = _NO_SLOT
        self._group = 0
        self._since = self._at = time.monotonic()
        self._slowest = 0.0
        self._write()

    @classmethod
    def shared(cls, descriptor: int) -> Heartbeat:
        """Create a heartbeat in the memory behind a file descriptor of the parent, and close the
        descriptor."""
        heartbeat = cls(mmap.mmap(descriptor, SIZE))
        os.close(descriptor)
        return heartbeat

    def begin(self, slot: int | None, group: Group) -> None:
        """Record that the next driver calls read this group of this GPU; None stands for all GPUs."""
        number = _NO_SLOT if slot is None else slot
        turned = number != self._slot
        self._slot, self._group, self._slowest = number, _GROUPS.index(group), 0.0
        self._at = time.monotonic()
        if turned:
            self._since = self._at
        self._write()

    def progress(self) -> None:
        """Record that a driver call has returned and the next call starts."""
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._at)
        self._at = now
        self._write()

    def idle(self) -> None:
        """Record that the process makes no driver calls until the next round."""
        self._slot, self._group = _NO_SLOT, _IDLE
        self._at = self._since = time.monotonic()
        self._write()

    def slowest(self) -> float:
        """Return the duration of the longest call since `begin`, in seconds. A call in
        progress counts with its duration so far."""
        self.progress()
        return self._slowest

    def _write(self) -> None:
        self._calls += 1
        self._memory[0:SIZE] = _LAYOUT.pack(
            self._calls, self._since, self._at, self._slot, self._group
        )


class HeartbeatReader:
    """The heartbeat in the supervisor: creates the shared memory and reads it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("heartbeat")
        os.ftruncate(self.descriptor, SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE, prot=mmap.PROT_READ)
        self._started = time.monotonic()

    def close_descriptor(self) -> None:
        """Close the memory's file descriptor after the worker process has received it."""
        os.close(self.descriptor)

    def read(self) -> Beat:
        """Return the current content of the heartbeat.

        Before its first heartbeat, a process counts as connecting to the driver.
        """
        return decode(self._memory[0:SIZE], self._started)

    def close(self) -> None:
        """Unmap the shared memory of the heartbeat."""
        self._memory.close()


def decode(raw: bytes, started: float) -> Beat:
    """Decode the content of the shared memory.

    `started` is the monotonic time at which the process was started.
    """
    calls, since, at, slot, group = _LAYOUT.unpack(raw)
    if not calls:
        return Beat(0, started, started, None, "open")
    number = None if slot == _NO_SLOT else slot
    return Beat(calls, since, at, number, _GROUPS[group] if group < _IDLE else None)
