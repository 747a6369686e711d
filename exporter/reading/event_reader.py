"""Runs the event process, which waits for driver events, while the GPUs are read.

The process is replaced when it ends or stops responding. There is at most one event process, even
if the previous one cannot be killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from exporter.reading.fork_client import ForkClient
from exporter.reading.worker_handle import ChildHandle
from exporter.sources.base import EventKind, GpuEvent

UP_WITHIN = 5.0  # maximum age of the latest heartbeat; the process sends one every second
SILENCE = 15.0
RESTART_FIRST, RESTART_CAP = 0.25, 60.0
STEADY = 30.0
_KINDS: tuple[EventKind, ...] = get_args(EventKind)


def parse(line: bytes) -> GpuEvent | None:
    """Parse a line of the event process; None if the line is not an event."""
    words = line.decode(errors="replace").split()
    if len(words) != 4 or not (words[1].isascii() and words[1].isdigit()):
        return None
    uuid, address = ("" if word == "-" else word for word in words[2:])
    for kind in _KINDS:
        if words[0] == kind:
            return GpuEvent(uuid, address, kind, int(words[1]))
    return None


class EventReader:
    """The supervisor's handle of the event process.

    `module` is the Python module that yields the driver events. `log(event, **fields)` writes to
    the log.
    """

    def __init__(self, fork_client: ForkClient, module: str, log: Callable[..., None]) -> None:
        self._fork_client = fork_client
        self._module = module
        self._log = log
        self._child: ChildHandle | None = None
        self._ending = False
        self._started = 0.0
        self._start_at = 0.0
        self._wait = RESTART_FIRST
        self._starts = 0

    @property
    def restarts(self) -> int:
        return max(0, self._starts - 1)

    @property
    def child(self) -> ChildHandle | None:
        """The handle of the event process; None if the process does not run or is ending."""
        return None if self._ending else self._child

    @property
    def stopped(self) -> bool:
        """Whether the event process has ended completely."""
        return self._child is None

    def up(self, now: float) -> bool:
        """Return whether the event process is waiting for driver events."""
        if self._child is None or self._ending:
            return False
        beat = self._child.beat()
        return beat.group is None and now - beat.at <= UP_WITHIN

    def step(self, now: float, wanted: bool) -> list[GpuEvent]:
        """Start or end the event process, depending on `wanted`.

        Returns the driver events since the last step.
        """
        events = self._read_events() if self.child is not None else []
        child = self._child
        if child is None:
            if wanted and now >= self._start_at:
                self._child = ChildHandle(
                    self._fork_client, "exporter.reading.events", [self._module]
                )
                self._started, self._ending = now, False
                self._starts += 1
        elif child.poll(now):
            self._child_ended(now, expected=self._ending and not wanted)
        elif not self._ending and (not wanted or child.ended or now - child.beat().at > SILENCE):
            self._ending = True
            child.terminate()
            if child.reap(0.02):
                self._child_ended(now, expected=not wanted)
        return events

    def restart(self, now: float) -> None:
        """Replace the event process, because another driver was loaded."""
        if self.child is not None:
            self.child.terminate()
            self._ending, self._wait = True, RESTART_FIRST
            self._start_at = now

    def stop(self) -> None:
        """Kill the event process."""
        if self._child is not None:
            self._child.kill()
            self._child.reap(0.3)
            self._child.close()
            self._child = None

    def _child_ended(self, now: float, *, expected: bool) -> None:
        assert self._child is not None  # noqa: S101 - the caller checks this
        self._child.close()
        self._child, self._ending = None, False
        if expected:
            self._start_at, self._wait = now, RESTART_FIRST
            return
        if now - self._started > STEADY:
            self._wait = RESTART_FIRST
        self._start_at = now + self._wait
        self._log("event_process_ended", retry_in=self._wait)
        self._wait = min(RESTART_CAP, self._wait * 2)

    def _read_events(self) -> list[GpuEvent]:
        assert self._child is not None  # noqa: S101 - the caller checks this
        found: list[GpuEvent] = []
        for line in self._child.lines():
            if line.startswith(b"log "):
                self._log("event_process", says=line[4:].decode(errors="replace"))
            elif (event := parse(line)) is not None:
                found.append(event)
        return found
