"""One collector with its outcome: runs it, measures it, keeps what it showed.

What a run gives is a fragment of the page. A run that gives the same as the one before keeps the
fragment, and with it the bytes that were made of it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import cast

from exporter.board import AHEAD
from exporter.catalogue import Catalogue
from exporter.collectors.base import Collector, CollectorError, TokenCollector
from exporter.pages.exposition import Renderer, Sample
from exporter.pages.page import Fragment
from fleetmedic.kernel.errors import UserError

EMPTY = Fragment()
MAX_CODES = 16
_SLACK = 1.0  # a second, so that a run which is a little late does not make a hole


@dataclass(frozen=True, slots=True)
class Outcome:
    """A collector's latest run, and the fragment of it. Times are Unix seconds."""

    fragment: Fragment = EMPTY
    success: bool = False
    finished: float = 0.0
    seconds: float = 0.0
    last_success: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """How a collector is, for people. `why` it does not work, or empty; `last_success` is Unix time,
    0 when there was none."""

    name: str
    why: str
    interval: float
    last_success: float


class Lane:
    """One collector; `run` never raises."""

    def __init__(
        self, collector: Collector, catalogue: Catalogue, log: Callable[..., None]
    ) -> None:
        self.collector = collector
        self.name = collector.name
        self.inline = collector.inline
        self.outcome = Outcome()
        self._renderer = Renderer(catalogue)
        self._log = log
        self._complaint = ""
        self._token: Hashable = None
        # There from the start, so that the first one is an increase.
        self._errors = {"unavailable": 0}

    def run(self, now: float) -> None:
        """Collect and render once, unless the collector knows that nothing changed."""
        began = time.perf_counter()
        fragment, code, complaint = self.outcome.fragment, "", ""
        try:
            token = self._ask(now)
            if token is not None and token == self._token and self.outcome.success:
                took = time.perf_counter() - began
                self.outcome = replace(self.outcome, finished=now, seconds=took, last_success=now)
                return
            fragment = self._collect(now)
            self._token = token
        except (CollectorError, UserError) as error:
            code, complaint = "unavailable", str(error)
        except OSError as error:
            code, complaint = errno.errorcode.get(error.errno or 0, "OSError"), str(error)
        except Exception as error:  # noqa: BLE001 - one collector's mistake must not cost the others
            code, complaint = type(error).__name__, f"{type(error).__name__}: {error}"
        self._conclude(fragment, code, now, time.perf_counter() - began)
        self._tell(complaint)

    def fragment(self, now: float) -> Fragment:
        """What may be shown at Unix time `now`: nothing of a run that failed, nothing that is old."""
        return EMPTY if self.overdue(now) else self.outcome.fragment

    def overdue(self, now: float) -> bool:
        """Whether it has not come back for three of its intervals, or not since the clock was set
        back: then nobody knows how old it is."""
        return not -AHEAD <= now - self.outcome.finished <= 3 * self.collector.interval + _SLACK

    def state(self, now: float) -> State:
        """How it is at Unix time `now`."""
        outcome, why = self.outcome, ""
        if not outcome.finished:
            why = "it has not come back yet"
        elif now < outcome.finished - AHEAD:
            why = "it has not come back since the clock was set back"
        elif self.overdue(now):
            why = f"it has not come back for {now - outcome.finished:.0f} s"
        elif not outcome.success:
            why = self._complaint or "it failed"
        return State(self.name, why[:500], self.collector.interval, outcome.last_success)

    def samples(self, now: float) -> Iterable[Sample]:
        """The frame's own word on the collector. One that has not come back in time has failed."""
        label, outcome = (self.name,), self.outcome
        prefix = "gpu_exporter_collector"
        yield Sample(f"{prefix}_success", label, outcome.success and not self.overdue(now))
        yield Sample(f"{prefix}_duration_seconds", label, round(outcome.seconds, 6))
        if outcome.last_success:
            stamp = round(outcome.last_success, 3)
            yield Sample(f"{prefix}_last_success_timestamp_seconds", label, stamp)
        yield Sample(f"{prefix}_interval_seconds", label, self.collector.interval)
        for code, count in sorted(self._errors.copy().items()):
            yield Sample(f"{prefix}_errors_total", (self.name, code), count)

    def _ask(self, now: float) -> Hashable:
        """The collector's token, if it has one."""
        if not hasattr(self.collector, "token"):
            return None
        return cast(TokenCollector, self.collector).token(now)

    def _collect(self, now: float) -> Fragment:
        foreign = getattr(self.collector, "foreign", None)
        samples = list(self.collector.collect(now))
        blocks = self._renderer.render(samples, foreign() if foreign else None)
        before = self.outcome.fragment
        return before if blocks == before.blocks else Fragment(blocks)

    def _conclude(self, fragment: Fragment, code: str, now: float, seconds: float) -> None:
        last = self.outcome.last_success if code else now
        self.outcome = Outcome(EMPTY if code else fragment, not code, now, seconds, last)
        if code:
            code = code if code in self._errors or len(self._errors) < MAX_CODES else "other"
            self._errors[code] = self._errors.get(code, 0) + 1

    def _tell(self, complaint: str) -> None:
        """Log a complaint when it begins, changes or ends."""
        if complaint != self._complaint:
            event = "collector_failed" if complaint else "collector_works_again"
            self._log(event, collector=self.name, why=complaint[:500])
            self._complaint = complaint
