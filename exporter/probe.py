"""Asks GPUs that did not answer once more, all at the same time, and says which answer and how fast.

Each is asked on a thread of its own, so that one process is enough however many hang, and again on
another thread from time to time: a call that began in a hang may stay in it when it is over.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from exporter.judge import DEADLINE
from exporter.protocol import Answered, Failed, Message
from exporter.sources.base import Group, Source, SourceFailed, SourceLost

AGAIN_EVERY = 3.0
MAX_THREADS = 4  # for each GPU; the supervisor replaces the process after a while

Target = tuple[int, Group | None]


class Timer(threading.local):
    """The longest call of this thread. `progress` is called before each."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._at = time.monotonic()
        self._slowest = 0.0

    def progress(self) -> None:
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._at)
        self._at = now

    def slowest(self) -> float:
        """Seconds; the call that has just come back included."""
        self.progress()
        return round(self._slowest, 3)


class Probe:
    """The questions still open. `source` is open, and was made with `timer.progress`.

    An answer that took long may come from a hang that is over now: what counts is the next one.
    """

    def __init__(self, source: Source, timer: Timer, targets: list[Target]) -> None:
        self._source = source
        self._timer = timer
        self._asked = dict.fromkeys(targets, 0)
        self._since = dict.fromkeys(targets, 0)  # answers to earlier questions do not count
        self._answers: queue.SimpleQueue[tuple[Target, int, Message]] = queue.SimpleQueue()

    def run(self, tell: Callable[[Message], None]) -> None:
        """Ask until every one has answered."""
        while self._asked:
            for target, threads in list(self._asked.items()):
                if threads < MAX_THREADS:
                    self._ask(target)
            until = time.monotonic() + AGAIN_EVERY
            while self._asked and (left := until - time.monotonic()) > 0:
                try:
                    answer = self._answers.get(timeout=left)
                except queue.Empty:
                    break
                self._take(*answer, tell)

    def _take(
        self, target: Target, number: int, message: Message, tell: Callable[[Message], None]
    ) -> None:
        if target not in self._asked or number < self._since[target]:
            return
        slow = isinstance(message, Answered) and message.slowest > DEADLINE
        if slow and not self._since[target]:
            self._since[target] = self._asked[target] + 1
            self._ask(target)
            return
        del self._asked[target]
        tell(message)

    def _ask(self, target: Target) -> None:
        self._asked[target] += 1
        threading.Thread(
            target=self._question, args=(target, self._asked[target]), daemon=True
        ).start()

    def _question(self, target: Target, number: int) -> None:
        slot, group = target
        self._timer.start()
        try:
            self._source.identify(slot)
            self._timer.progress()
            self._source.presence(slot)
            if group is not None:
                self._timer.progress()
                self._source.read(slot, group, time.time())
        except SourceLost:
            pass  # it answers: it says that it is gone
        except SourceFailed as error:
            self._answers.put((target, number, Failed(str(error))))
            return
        except Exception:  # noqa: BLE001, S110 - a value that makes no sense is an answer, too
            pass
        self._answers.put((target, number, Answered(slot, group, self._timer.slowest())))
