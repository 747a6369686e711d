"""Progress reports of an inference server that has no /metrics endpoint of its own."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from types import TracebackType

from fleetmedic.progress.sender import Place, Sender, ThrottledSender, environment

# The same for every service, so that buckets can be summed over services.
BUCKETS = (0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MAX_CODES = 16


class Serving:
    """Reports the progress of one replica of a service. Thread-safe.

    `replica` is a small number or a name. The default is FLEETMEDIC_REPLICA if it is set, otherwise
    0. It must be unique on the node and stay the same after a restart.
    """

    def __init__(
        self,
        service: str,
        replica: str | None = None,
        directory: Place = None,
        *,
        socket: Place = None,
    ) -> None:
        self._replica = replica or environment("REPLICA", "0")
        self._service = service
        self._began = time.time()
        self._load: dict[str, int] = {}
        self._codes: dict[str, int] = {"200": 0}
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._timed = True
        self._tokens: int | None = None
        self._running = True
        stem = f"{service}@serving@{self._replica}" if service else ""
        self._sender = ThrottledSender(Sender(stem, directory, socket), self._report)
        self._sender.changed(at_once=True)

    def load(self, *, waiting: int, running: int) -> None:
        """Report the number of waiting requests and of requests being served."""
        try:
            load = {"waiting": max(0, int(waiting)), "answering": max(0, int(running))}
        except (TypeError, ValueError, OverflowError):
            return
        with self._sender.state:
            self._load = load
        self._sender.changed()

    def answered(
        self, code: int = 200, *, seconds: float | None = None, tokens: int | None = None
    ) -> None:
        """Report a response with this HTTP status, `seconds` after the request arrived.

        If any response lacks `seconds`, the server has no duration series. If no response has
        `tokens`, it has no token series. A 0 would be wrong.
        """
        try:
            word = f"{int(code):03d}"
            more = None if tokens is None else max(0, int(tokens))
            took = math.nan if seconds is None else max(0.0, float(seconds))
        except (TypeError, ValueError, OverflowError):
            return
        with self._sender.state:
            if word in self._codes or len(self._codes) < MAX_CODES:
                self._codes[word] = self._codes.get(word, 0) + 1
            self._add(more)
            if math.isfinite(took):
                self._counts[bisect_left(BUCKETS, took)] += 1
                self._seconds += took
            else:
                self._timed = False
        self._sender.changed()

    def tokens(self, more: int) -> None:
        """Add generated tokens of a response that is not complete yet."""
        try:
            count = max(0, int(more))
        except (TypeError, ValueError, OverflowError):
            return
        with self._sender.state:
            self._add(count)
        self._sender.changed()

    def close(self) -> None:
        """Report the end of the replica, so that its series are removed."""
        with self._sender.state:
            self._running = False
        self._sender.changed(at_once=True)

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, tokens: int | None) -> None:
        if tokens is not None:
            self._tokens = (self._tokens or 0) + tokens

    def _report(self) -> dict[str, object]:
        with self._sender.state:
            optional: dict[str, object] = {}
            if self._timed:
                counts = {"counts": list(self._counts), "sum": round(self._seconds, 6)}
                optional["durations"] = counts
            if self._tokens is not None:
                optional["tokens"] = self._tokens
            return {
                "kind": "serving",
                "service": self._service,
                "replica": self._replica,
                "began": self._began,
                **self._load,
                "requests": dict(self._codes),
                "running": self._running,
                **optional,
            }
