"""Runs and measures one collector, and keeps the result of its latest run.

Each run renders the collector's part of the metrics page (a fragment). If the samples did not
change, the previous fragment with its rendered bytes is reused.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import cast

from exporter.catalogue import Catalogue
from exporter.collector import Collector, CollectorError, TokenCollector
from exporter.exposition import Renderer, Sample
from exporter.gpu_states import AHEAD
from exporter.pages.page import Fragment
from fleetmedic.kernel.errors import UserError

EMPTY = Fragment()
MAX_CODES = 16
_SLACK = 1.0  # seconds, so that a slightly late run does not cause a gap


@dataclass(frozen=True, slots=True)
class CollectorRun:
    """The result of a collector's latest run. Times are in Unix seconds."""

    fragment: Fragment = EMPTY
    success: bool = False
    finished: float = 0.0
    seconds: float = 0.0
    last_success: float = 0.0


@dataclass(frozen=True, slots=True)
class CollectorState:
    """The state of a collector, for the health endpoint and the landing page.

    `why` is the reason for a failure, or empty. `last_success` is a Unix time, 0 before the first
    success.
    """

    name: str
    why: str
    interval: float
    last_success: float


class CollectorRunner:
    """Runs one collector and keeps its latest result. `run` never raises an exception."""

    def __init__(
        self, collector: Collector, catalogue: Catalogue, log: Callable[..., None]
    ) -> None:
        self.collector = collector
        self.name = collector.name
        self.inline = collector.inline
        self.outcome = CollectorRun()
        self._renderer = Renderer(catalogue)
        self._log = log
        self._logged = ""
        self._token: Hashable = None
        # Present from the start, so that the first error shows in increase().
        self._errors = {"unavailable": 0}

    def run(self, now: float) -> None:
        """Run the collector and render its samples, unless its token shows that they did not
        change."""
        began = time.perf_counter()
        fragment, code, complaint = self.outcome.fragment, "", ""
        try:
            token = self._current_token(now)
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
        except Exception as error:  # noqa: BLE001 - a bug in one collector must not affect the others
            code, complaint = type(error).__name__, f"{type(error).__name__}: {error}"
        self._conclude(fragment, code, now, time.perf_counter() - began)
        self._log_change(complaint)

    def fragment(self, now: float) -> Fragment:
        """Return the page fragment to serve at Unix time `now`; empty if the run failed or is stale."""
        return EMPTY if self.overdue(now) else self.outcome.fragment

    def overdue(self, now: float) -> bool:
        """Return whether the collector finished no run in three intervals, or since the clock was set back.

        After the clock was set back, the age of the fragment is unknown.
        """
        return not -AHEAD <= now - self.outcome.finished <= 3 * self.collector.interval + _SLACK

    def state(self, now: float) -> CollectorState:
        """Return the collector's state at Unix time `now`."""
        outcome, why = self.outcome, ""
        if not outcome.finished:
            why = "the first run has not finished yet"
        elif now < outcome.finished - AHEAD:
            why = "no run has finished since the clock was set back"
        elif self.overdue(now):
            why = f"no run has finished for {now - outcome.finished:.0f} s"
        elif not outcome.success:
            why = self._logged or "the latest run failed"
        return CollectorState(self.name, why[:500], self.collector.interval, outcome.last_success)

    def samples(self, now: float) -> Iterable[Sample]:
        """Yield the metrics about the collector itself. An overdue collector counts as failed."""
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

    def _current_token(self, now: float) -> Hashable:
        """Return the token of the collector's samples; None for a collector without tokens."""
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
        self.outcome = CollectorRun(EMPTY if code else fragment, not code, now, seconds, last)
        if code:
            code = code if code in self._errors or len(self._errors) < MAX_CODES else "other"
            self._errors[code] = self._errors.get(code, 0) + 1

    def _log_change(self, complaint: str) -> None:
        """Log the collector's failure when it begins, changes or ends."""
        if complaint != self._logged:
            event = "collector_failed" if complaint else "collector_works_again"
            self._log(event, collector=self.name, why=complaint[:500])
            self._logged = complaint
