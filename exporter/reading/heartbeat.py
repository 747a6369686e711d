"""What a process is doing about which GPU, in memory that it shares with the exporter.

A process that hangs can say nothing any more, so it says what it is about to do before it does it:
a write to memory costs it a microsecond and wakes nobody. The supervisor looks when it wants to.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import NamedTuple

from exporter.sources.base import READ_GROUPS, Group

_GROUPS: tuple[Group, ...] = ("open", "identify", "presence", *READ_GROUPS)
# calls, since, at, slot, group. Written in one piece, so that a look sees all or nothing of it.
_LAYOUT = struct.Struct("=QddiI")
_NO_SLOT = -1
_IDLE = len(_GROUPS)
SIZE = _LAYOUT.size


class Beat(NamedTuple):
    """One look. Times are monotonic, which all processes share.

    `calls` counts signs of life; the latest was at `at`. `slot` is the GPU that the present call is
    about (None: all of them), `group` what is read (None: nothing, the process waits for its next
    round), `since` when it turned to this GPU.
    """

    calls: int
    since: float
    at: float
    slot: int | None
    group: Group | None


class Heartbeat:
    """The writing end: belongs to the process that reads the GPUs."""

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
        """On the memory behind a file descriptor that the parent gave."""
        heartbeat = cls(mmap.mmap(descriptor, SIZE))
        os.close(descriptor)
        return heartbeat

    def begin(self, slot: int | None, group: Group) -> None:
        """What comes next is about this GPU and this group."""
        number = _NO_SLOT if slot is None else slot
        turned = number != self._slot
        self._slot, self._group, self._slowest = number, _GROUPS.index(group), 0.0
        self._at = time.monotonic()
        if turned:
            self._since = self._at
        self._write()

    def progress(self) -> None:
        """A call came back, and another one is about to be made."""
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._at)
        self._at = now
        self._write()

    def idle(self) -> None:
        """Nothing is asked until the next round."""
        self._slot, self._group = _NO_SLOT, _IDLE
        self._at = self._since = time.monotonic()
        self._write()

    def slowest(self) -> float:
        """Seconds of the longest call since `begin`, the one that has just come back included."""
        self.progress()
        return self._slowest

    def _write(self) -> None:
        self._calls += 1
        self._memory[0:SIZE] = _LAYOUT.pack(
            self._calls, self._since, self._at, self._slot, self._group
        )


class HeartbeatReader:
    """The reading end: makes the memory, and looks at it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("heartbeat")
        os.ftruncate(self.descriptor, SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE, prot=mmap.PROT_READ)
        self._started = time.monotonic()

    def given(self) -> None:
        """The process has the descriptor: it is not needed here any more."""
        os.close(self.descriptor)

    def look(self) -> Beat:
        """What the process is doing now; until it has begun, it opens its source."""
        return decode(self._memory[0:SIZE], self._started)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def decode(raw: bytes, started: float) -> Beat:
    """The beat in these bytes. `started` is when the process was started."""
    calls, since, at, slot, group = _LAYOUT.unpack(raw)
    if not calls:
        return Beat(0, started, started, None, "open")
    number = None if slot == _NO_SLOT else slot
    return Beat(calls, since, at, number, _GROUPS[group] if group < _IDLE else None)
