"""Runs the collectors, measures them, and puts their pages together.

One that raises or hangs loses its own series and nothing else: what it last gave is shown until it is
older than three of its intervals, and then withheld.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from exporter.board import Board
from exporter.catalogue import Catalogue
from exporter.collectors.base import Collector, CollectorError
from exporter.exposition import Renderer, Sample
from exporter.page import Page
from fleetmedic.kernel.errors import UserError

SETTLE_SECONDS = 3.0
_STARTED = time.time()
_SLACK = 1.0  # a second, so that a run which is a little late does not make a hole


@dataclass(slots=True)
class Outcome:
    """A collector's latest run, and the latest page that succeeded."""

    text: bytes = b""
    success: bool = False
    finished: float = 0.0
    seconds: float = 0.0
    last_success: float = 0.0


class Lane:
    """One collector with its outcome; `run` never raises."""

    def __init__(
        self, collector: Collector, catalogue: Catalogue, log: Callable[..., None]
    ) -> None:
        self.collector = collector
        self.inline = collector.inline
        self.outcome = Outcome()
        self._renderer = Renderer(catalogue)
        self._log = log
        self._complaint = ""

    def run(self, now: float) -> None:
        """Collect and render once."""
        began = time.perf_counter()
        before = self.outcome
        try:
            text, complaint = self._renderer.render(self.collector.collect(now)), ""
        except (CollectorError, UserError, OSError) as error:
            text, complaint = b"", str(error)
        except Exception as error:  # noqa: BLE001 - one collector's mistake must not cost the others
            text, complaint = b"", f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        good = not complaint
        self.outcome = Outcome(text, good, now, seconds, now if good else before.last_success)
        if complaint != self._complaint:
            event = "collector_failed" if complaint else "collector_works_again"
            self._log(event, collector=self.collector.name, why=complaint[:500])
            self._complaint = complaint

    def page(self, now: float) -> bytes:
        """What may be shown at Unix time `now`."""
        fresh = now - self.outcome.finished <= 3 * self.collector.interval + _SLACK
        return self.outcome.text if fresh else b""

    def samples(self, now: float) -> Iterable[Sample]:
        """The frame's own word on the collector. One that has not come back in time has failed."""
        label, outcome = (self.collector.name,), self.outcome
        overdue = now - outcome.finished > 3 * self.collector.interval + _SLACK
        prefix = "gpu_exporter_collector"
        yield Sample(f"{prefix}_success", label, outcome.success and not overdue)
        yield Sample(f"{prefix}_duration_seconds", label, round(outcome.seconds, 6))
        if outcome.last_success:
            stamp = round(outcome.last_success, 3)
            yield Sample(f"{prefix}_last_success_timestamp_seconds", label, stamp)
        yield Sample(f"{prefix}_interval_seconds", label, self.collector.interval)


class Frame:
    """All collectors of one exporter. `page` is the latest snapshot."""

    def __init__(
        self,
        collectors: list[Collector],
        board: Board,
        catalogue: Catalogue,
        version: str,
        log: Callable[..., None],
    ) -> None:
        self._lanes = [Lane(collector, catalogue, log) for collector in collectors]
        self._board = board
        self._renderer = Renderer(catalogue)
        self._version = version
        self._log = log
        self._halt = threading.Event()
        self.page = Page(b"")

    def start(self) -> None:
        """Give each collector that may wait a thread, and one to the page."""
        for lane in self._lanes:
            if not lane.inline:
                name = f"collect {lane.collector.name}"
                threading.Thread(target=self._repeat, args=(lane,), name=name, daemon=True).start()
        threading.Thread(target=self._publish, name="publish", daemon=True).start()

    def stop(self) -> None:
        """Let every thread end; one that hangs ends with the process."""
        self._halt.set()
        self._board.changed.set()

    def once(self, now: float) -> Page:
        """Run every collector once, here and now, and return the page."""
        for lane in self._lanes:
            lane.run(now)
        return self.snapshot(now)

    def snapshot(self, now: float) -> Page:
        """Put the pages together as they may be shown at Unix time `now`."""
        own = self._renderer.render(self._own(now))
        page = Page(b"".join([*(lane.page(now) for lane in self._lanes), own]))
        self.page = page.succeed(self.page)
        return self.page

    def _await_round(self) -> None:
        """Wait a moment for the first round over the GPUs: the kernel log is read in their terms."""
        until = time.monotonic() + SETTLE_SECONDS / 2
        while time.monotonic() < until and self._board.view(time.time()).failure:
            if self._halt.wait(0.02):
                return

    def _repeat(self, lane: Lane) -> None:
        self._await_round()
        due = time.monotonic()
        while not self._halt.is_set():
            lane.run(time.time())
            due = max(due + lane.collector.interval, time.monotonic())
            self._halt.wait(due - time.monotonic())

    def _settle(self) -> None:
        """Wait for the first values, so that the first page is whole; not for ever."""
        until = time.monotonic() + SETTLE_SECONDS
        while not self._halt.is_set() and time.monotonic() < until:
            waiting = any(not lane.outcome.finished for lane in self._lanes if not lane.inline)
            if not waiting and not self._board.view(time.time()).failure:
                return
            self._halt.wait(0.02)

    def _publish(self) -> None:
        """Make the page whenever the GPUs' round is complete or a verdict changed, and each second."""
        changed = self._board.changed
        self._settle()
        while not self._halt.is_set():
            changed.clear()
            now = time.time()
            for lane in self._lanes:
                if lane.inline:
                    lane.run(now)
            try:
                self.snapshot(now)
            except Exception as error:  # noqa: BLE001 - without this thread every page would be old
                self._log("no_page", why=f"{type(error).__name__}: {error}")
            changed.wait(1.5)

    def _own(self, now: float) -> Iterable[Sample]:
        per_lane = [list(lane.samples(now)) for lane in self._lanes]
        for samples in per_lane:
            yield from samples
        view = self._board.view(now)
        for (group, code), count in sorted(view.errors.items()):
            yield Sample("gpu_exporter_collector_errors_total", (f"gpu_{group}", code), count)
        yield Sample("gpu_exporter_simulated", (), view.source == "simulated")
        yield Sample("gpu_exporter_build_info", (self._version, view.source or "none"), 1)
        yield Sample("gpu_exporter_worker_restarts_total", (), view.restarts)
        yield Sample("process_cpu_seconds_total", (), round(time.process_time(), 3))
        yield Sample("process_start_time_seconds", (), round(_STARTED, 3))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield Sample("process_resident_memory_bytes", (), pages * 4096)
