"""Keeps one worker reading the GPUs, and does not let one GPU that hangs take the others with it.

A call that is overdue costs its GPU: the worker is ended, another goes on without that GPU, and the
GPU is asked again from time to time by a probe of its own, so that the healthy ones are not
disturbed. A worker that cannot be ended (stuck inside the kernel) is left behind, three at most.
"""

from __future__ import annotations

import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from exporter.board import Board
from exporter.protocol import Failed, Round
from exporter.reader import Reader
from exporter.sources.base import Group

# Seconds until a call counts as hung. Connecting to a driver can take long without persistence mode.
DEADLINES: dict[Group, float] = {"open": 15.0, "identify": 2.0, "presence": 0.8}
STARVED_FACTOR = 4.0  # a worker that waits for a processor gets this much more time
SILENCE = 10.0
PROBE_DEADLINE = 3.0
RETRY_FIRST, RETRY_CAP, RETRY_CAP_STUCK = 2.0, 15.0, 600.0
RESTART_FIRST, RESTART_CAP = 0.5, 30.0
GRACE = 0.3
MAX_ABANDONED = 3
_TICK = 0.2


@dataclass(slots=True)
class _Held:
    """A GPU that is left out: when it is asked again, and how long the wait was."""

    retry_at: float
    wait: float


class Supervisor(threading.Thread):
    """The thread that owns the worker. `source` is the worker's own command line for its source.

    `log(event, **fields)` is told what happens.
    """

    def __init__(
        self,
        board: Board,
        source: list[str],
        intervals: Mapping[Group, float],
        log: Callable[..., None],
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._board = board
        self._source = source
        self._every = ",".join(f"{group}={every:g}" for group, every in intervals.items())
        self._log = log
        self._halt = threading.Event()
        self._reader: Reader | None = None
        self._probe: tuple[int, Reader] | None = None
        self._held: dict[int, _Held] = {}
        self._ending: list[Reader] = []
        self._restarts = 0
        self._start_at = 0.0
        self._start_wait = RESTART_FIRST

    def stop(self) -> None:
        """End the worker and the thread."""
        self._halt.set()
        self.join(2.0)

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                try:
                    self._step(time.monotonic())
                except Exception as error:  # noqa: BLE001 - without this thread no GPU is read
                    self._lose(f"{type(error).__name__}: {error}")
        finally:
            for reader in (self._reader, self._probe[1] if self._probe else None, *self._ending):
                if reader is not None:
                    reader.signal(signal.SIGKILL)
                    reader.reap(GRACE)
                    reader.close()

    def _step(self, now: float) -> None:
        if self._reader is None and now >= self._start_at:
            self._start()
        self._start_probe(now)
        self._listen()
        now = time.monotonic()
        self._judge(now)
        self._judge_probe(now)
        self._ending = [reader for reader in self._ending if not self._ended(reader, now)]

    def _start(self) -> None:
        if self._abandoned() >= MAX_ABANDONED:
            self._say(f"{MAX_ABANDONED} processes that read the GPUs are stuck inside the kernel")
            self._start_at = time.monotonic() + RESTART_CAP
            return
        self._reader = Reader("rounds", sorted(self._held), self._every, self._source)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for reader in (self._reader, self._probe[1] if self._probe else None):
                if reader is not None and not reader.ended:
                    selector.register(reader, selectors.EVENT_READ)
            if not selector.get_map():
                self._halt.wait(_TICK)
            elif not selector.select(_TICK):
                return
        if self._reader is not None:
            self._hear(self._reader)
        if self._probe is not None:
            self._probe[1].messages()

    def _hear(self, reader: Reader) -> None:
        failure = ""
        for message in reader.messages():
            if isinstance(message, Failed):
                failure = message.why
            else:
                self._board.apply(message, time.time())
            if isinstance(message, Round):
                self._start_wait = RESTART_FIRST
        if reader.ended:
            self._lose(failure or "the process that reads the GPUs ended")

    def _judge(self, now: float) -> None:
        """End the worker when the call it announced is overdue."""
        reader = self._reader
        if reader is None:
            return
        waited = now - reader.heard
        if reader.pending is None:
            if waited > SILENCE:
                self._lose("the process that reads the GPUs fell silent")
            return
        limit = DEADLINES.get(reader.pending.group, 0.8)
        if waited <= limit or (waited <= limit * STARVED_FACTOR and reader.runs()):
            return
        slot = reader.pending.slot
        if slot is None:
            self._lose(f"the driver did not answer within {limit:g} s")
            return
        self._log("gpu_hung", slot=slot, group=reader.pending.group, waited=round(waited, 2))
        self._held[slot] = _Held(now + RETRY_FIRST, RETRY_FIRST)
        self._restarts += 1
        self._board.hung(slot, time.time())
        self._say()
        self._end(reader)
        self._reader = None
        self._start_at = 0.0

    def _lose(self, why: str) -> None:
        """The worker is of no more use, and no GPU is to blame: another one, after a while."""
        if self._reader is not None:
            self._end(self._reader)
        self._reader = None
        self._restarts += 1
        self._start_at = time.monotonic() + self._start_wait
        self._start_wait = min(RESTART_CAP, self._start_wait * 2)
        self._log("worker_lost", why=why, retry_in=round(self._start_at - time.monotonic(), 1))
        self._say(why)

    def _start_probe(self, now: float) -> None:
        if self._probe is not None or self._abandoned() >= MAX_ABANDONED:
            return
        for slot, held in self._held.items():
            if now >= held.retry_at:
                self._probe = (slot, Reader("probe", [slot], self._every, self._source))
                return

    def _judge_probe(self, now: float) -> None:
        if self._probe is None:
            return
        slot, reader = self._probe
        code = reader.exit_code()
        if code is None and now - reader.started <= PROBE_DEADLINE:
            return
        self._probe = None
        self._end(reader)
        if code == 0:
            self._log("gpu_answers_again", slot=slot)
            del self._held[slot]
            if self._reader is not None:
                self._reader.include(slot)
        else:
            held = self._held[slot]
            cap = RETRY_CAP_STUCK if self._abandoned() else RETRY_CAP
            held.wait = min(cap, held.wait * 2)
            held.retry_at = now + held.wait
        self._say()

    def _end(self, reader: Reader) -> None:
        reader.signal()
        if reader.reap(0.05):
            reader.close()
        else:
            self._ending.append(reader)

    def _ended(self, reader: Reader, now: float) -> bool:
        """Whether a worker that was told to end has; after a grace it is killed."""
        if reader.reap(0):
            reader.close()
            return True
        if now - reader.heard > 2.0 + GRACE:
            reader.signal(signal.SIGKILL)
        return False

    def _abandoned(self) -> int:
        return len(self._ending)

    def _say(self, failure: str | None = None) -> None:
        stuck = bool(self._held or self._ending)
        self._board.supervised(stuck=stuck, restarts=self._restarts, failure=failure)
