"""The probe process: retries GPUs that did not respond, all in parallel, and reports which ones
respond now.

Each GPU has its own thread, so that one process is enough for any number of hung GPUs. The probe
retries periodically on further threads, because a call that hung may never return, even after the
hang is over.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from exporter.reading.liveness import DEADLINE
from exporter.reading.protocol import Answered, Failed, Message
from exporter.sources.base import Group, Source, SourceFailed, SourceLost

RETRY_EVERY = 3.0
MAX_THREADS = 4  # for each GPU; the supervisor replaces the process after a while

Target = tuple[int, Group | None]


class _Slow(BaseException):
    """The exception that ends the probe of a GPU, because the GPU is slow, not hung."""


class Timer(threading.local):
    """Measures the driver calls of each thread. `progress` is called before each call.

    One long call may have started during a hang that is over now. A second long call means that the
    GPU is slow, and the probe of this GPU ends.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._long: list[float] = []
        self._measuring = False

    def start(self) -> None:
        """Start to measure the driver calls for a target in this thread."""
        self._at, self._long, self._measuring = time.monotonic(), [], True

    def progress(self) -> None:
        now = time.monotonic()
        if now - self._at > DEADLINE:
            self._long.append(now - self._at)
        self._at = now
        if self._measuring and len(self._long) > 1:
            raise _Slow

    def slowest(self) -> float:
        """Return the duration of the thread's longest driver call in seconds; 0 if the GPU is not slow."""
        return round(max(self._long), 3) if len(self._long) > 1 else 0.0


class Probe:
    """Retries the targets that have not responded yet. `source` is open and calls `timer.progress`."""

    def __init__(self, source: Source, timer: Timer, targets: list[Target]) -> None:
        self._source = source
        self._timer = timer
        self._pending = dict.fromkeys(targets, 0)
        self._responses: queue.SimpleQueue[tuple[Target, Message]] = queue.SimpleQueue()

    def run(self, send: Callable[[Message], None]) -> None:
        """Retry the targets until all have responded. Each response is passed to `send`."""
        while self._pending:
            for target, threads in self._pending.items():
                if threads < MAX_THREADS:
                    self._pending[target] += 1
                    threading.Thread(target=self._probe, args=(target,), daemon=True).start()
            until = time.monotonic() + RETRY_EVERY
            while self._pending and (left := until - time.monotonic()) > 0:
                try:
                    target, message = self._responses.get(timeout=left)
                except queue.Empty:
                    break
                if self._pending.pop(target, None) is not None:
                    send(message)

    def _probe(self, target: Target) -> None:
        slot, group = target
        self._timer.start()
        try:
            self._source.presence(slot)
            self._timer.progress()
            self._source.identify(slot)
            self._timer.progress()
            if group is not None:
                self._source.read(slot, group, time.time())
                self._timer.progress()
        except (SourceLost, _Slow):
            pass  # the GPU responds; "lost" is a response, too
        except SourceFailed as error:
            self._responses.put((target, Failed(str(error))))
            return
        except Exception:  # noqa: BLE001, S110 - an invalid value is a response, too
            pass
        self._responses.put((target, Answered(slot, group, self._timer.slowest())))
