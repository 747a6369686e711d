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

AGAIN_EVERY = 3.0
MAX_THREADS = 4  # for each GPU; the supervisor replaces the process after a while

Target = tuple[int, Group | None]


class _Slow(BaseException):
    """Ends the probe of a GPU that was found to be slow."""


class Timer(threading.local):
    """Measures the driver calls of each thread. `progress` is called before each call.

    One long call may have started during a hang that is over now. A second long call means that the
    GPU is slow, and the probe of this GPU ends.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._long: list[float] = []
        self._asking = False

    def start(self) -> None:
        """Start the measurement for a target."""
        self._at, self._long, self._asking = time.monotonic(), [], True

    def progress(self) -> None:
        now = time.monotonic()
        if now - self._at > DEADLINE:
            self._long.append(now - self._at)
        self._at = now
        if self._asking and len(self._long) > 1:
            raise _Slow

    def slowest(self) -> float:
        """Return the duration of the longest call in seconds; 0 if the GPU is not slow."""
        return round(max(self._long), 3) if len(self._long) > 1 else 0.0


class Probe:
    """Retries the targets that have not responded yet. `source` is open and calls `timer.progress`."""

    def __init__(self, source: Source, timer: Timer, targets: list[Target]) -> None:
        self._source = source
        self._timer = timer
        self._asked = dict.fromkeys(targets, 0)
        self._answers: queue.SimpleQueue[tuple[Target, Message]] = queue.SimpleQueue()

    def run(self, tell: Callable[[Message], None]) -> None:
        """Retry until all targets have responded. Each response is passed to `tell`."""
        while self._asked:
            for target, threads in self._asked.items():
                if threads < MAX_THREADS:
                    self._asked[target] += 1
                    threading.Thread(target=self._ask, args=(target,), daemon=True).start()
            until = time.monotonic() + AGAIN_EVERY
            while self._asked and (left := until - time.monotonic()) > 0:
                try:
                    target, message = self._answers.get(timeout=left)
                except queue.Empty:
                    break
                if self._asked.pop(target, None) is not None:
                    tell(message)

    def _ask(self, target: Target) -> None:
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
            self._answers.put((target, Failed(str(error))))
            return
        except Exception:  # noqa: BLE001, S110 - an invalid value is a response, too
            pass
        self._answers.put((target, Answered(slot, group, self._timer.slowest())))
