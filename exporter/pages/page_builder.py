"""Runs the collectors and joins their fragments to the metrics page.

A collector that raises or hangs affects only its own series. If a collector hangs, its latest
fragment is served until it is older than three intervals, and then withheld.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from exporter.catalogue import Catalogue
from exporter.collector import Collector
from exporter.exposition import Renderer, Sample
from exporter.gpu_states import GpuStates, NodeSnapshot
from exporter.pages.collector_runner import CollectorRunner, CollectorState
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment, Page

SETTLE_SECONDS = 3.0
STALE_SECONDS = 15.0
WARM_SECONDS = 120.0  # a format that was not requested for so long is no longer prepared in advance
MAX_SELECTIONS = 16
_STARTED = time.time()


@dataclass(frozen=True, slots=True)
class PageSnapshot:
    """A metrics page, and the data for pages with selected collectors only.

    `own` contains the metrics about each collector by collector name, and those about the exporter
    under "". `made` is a monotonic time.
    """

    page: Page
    fragments: dict[str, Fragment]
    own: dict[str, list[Sample]]
    made: float
    selections: dict[frozenset[str], Page] = field(default_factory=dict)


class PageBuilder:
    """Runs all collectors of an exporter and builds its metrics pages."""

    def __init__(
        self,
        collectors: list[Collector],
        gpu_states: GpuStates,
        catalogue: Catalogue,
        version: str,
        log: Callable[..., None],
    ) -> None:
        self._runners = [CollectorRunner(collector, catalogue, log) for collector in collectors]
        self._gpu_states = gpu_states
        self._renderer = Renderer(catalogue)
        self._selecting = Renderer(catalogue)
        self._lock = threading.Lock()  # guards what scrapes write: selections and requested formats
        self._version = version
        self._log = log
        self._halt = threading.Event()
        self._snapshot: PageSnapshot | None = None
        self._requested: dict[tuple[ExpositionFormat, bool], float] = {}
        self.names = tuple(runner.name for runner in self._runners)

    @property
    def ready(self) -> bool:
        """Whether a metrics page exists that is recent enough to be served."""
        return self._snapshot is not None and not self.stale

    @property
    def stale(self) -> bool:
        """Whether the latest metrics page is too old to be served."""
        snapshot = self._snapshot
        return snapshot is not None and time.monotonic() - snapshot.made > STALE_SECONDS

    def page(
        self, wanted: frozenset[str] | None, form: ExpositionFormat, gzip: bool
    ) -> bytes | None:
        """Return the metrics page, or its part for the `wanted` collectors; None if no current page exists.

        The metrics about the exporter are always included, those about collectors only for the
        selected ones. Names that are not in `names` are ignored. Thread-safe.
        """
        snapshot = self._snapshot
        if snapshot is None or self.stale:
            return None
        if wanted is not None and not wanted.issuperset(self.names):
            return self._select(snapshot, wanted).body(form, gzip=gzip)
        with self._lock:
            self._requested[form, gzip] = time.monotonic()
        return snapshot.page.body(form, gzip=gzip)

    def states(self, now: float) -> list[CollectorState]:
        """Return the state of each collector at Unix time `now`. Thread-safe."""
        return [runner.state(now) for runner in self._runners]

    def start(self) -> None:
        """Start a thread for each collector that may block, and a thread that builds the metrics page."""
        for runner in self._runners:
            if not runner.inline:
                name = f"collect {runner.name}"
                threading.Thread(
                    target=self._repeat, args=(runner,), name=name, daemon=True
                ).start()
        threading.Thread(target=self._publish, name="publish", daemon=True).start()

    def stop(self) -> None:
        """Stop all collector threads. A hung thread ends with the process."""
        self._halt.set()
        self._gpu_states.changed.set()

    def once(self, now: float) -> Page:
        """Run every collector once in this thread, and return the page."""
        for runner in self._runners:
            runner.run(now)
        return self.snapshot(now)

    def snapshot(self, now: float) -> Page:
        """Assemble the page from the fragments that are valid at Unix time `now`."""
        fragments = {runner.name: runner.fragment(now) for runner in self._runners}
        own = self._own_samples(now)
        own_fragment = Fragment(self._renderer.render(_samples_of(own, self.names)))
        page = Page([*fragments.values(), own_fragment])
        with self._lock:
            requested = list(self._requested.items())
        for (form, gzip), at in requested:
            if time.monotonic() - at < WARM_SECONDS:
                page.prepare(form, gzip=gzip)
        self._snapshot = PageSnapshot(page, fragments, own, time.monotonic())
        return page

    def _select(self, snapshot: PageSnapshot, wanted: frozenset[str]) -> Page:
        names = [name for name in self.names if name in wanted]
        key = frozenset(names)
        with self._lock:
            page = snapshot.selections.get(key)
            if page is None:
                own_fragment = Fragment(self._selecting.render(_samples_of(snapshot.own, names)))
                page = Page([*(snapshot.fragments[name] for name in names), own_fragment])
                if len(snapshot.selections) >= MAX_SELECTIONS:
                    snapshot.selections.clear()
                snapshot.selections[key] = page
        return page

    def _await_round(self) -> None:
        """Wait briefly until all GPUs have been read once.

        The collectors of the kernel log need the GPUs' bus addresses.
        """
        until = time.monotonic() + SETTLE_SECONDS / 2
        while time.monotonic() < until and self._gpu_states.snapshot(time.time()).failure:
            if self._halt.wait(0.02):
                return

    def _repeat(self, runner: CollectorRunner) -> None:
        self._await_round()
        due = time.monotonic()
        while not self._halt.is_set():
            runner.run(time.time())
            due = max(due + runner.collector.interval, time.monotonic())
            self._halt.wait(due - time.monotonic())

    def _await_first_runs(self) -> None:
        """Wait until all collectors have run once, at most SETTLE_SECONDS, so that the first page
        is complete."""
        until = time.monotonic() + SETTLE_SECONDS
        while not self._halt.is_set() and time.monotonic() < until:
            waiting = any(
                not runner.outcome.finished for runner in self._runners if not runner.inline
            )
            if not waiting and not self._gpu_states.snapshot(time.time()).failure:
                return
            self._halt.wait(0.02)

    def _publish(self) -> None:
        """Build the page after each round over the GPUs, after each change of a GPU's status, and
        every 1.5 s."""
        changed = self._gpu_states.changed
        self._await_first_runs()
        while not self._halt.is_set():
            changed.clear()
            now = time.time()
            try:
                for runner in self._runners:
                    if runner.inline:
                        runner.run(now)
                self.snapshot(now)
            except Exception as error:  # noqa: BLE001 - without this thread every page would become stale
                self._log("no_page", why=f"{type(error).__name__}: {error}")
            changed.wait(1.5)

    def _own_samples(self, now: float) -> dict[str, list[Sample]]:
        """Return the metrics about each collector by collector name, and those about the exporter
        under ""."""
        own = {runner.name: list(runner.samples(now)) for runner in self._runners}
        view = self._gpu_states.snapshot(now)
        for (group, code), count in sorted(view.errors.items()):
            name = f"gpu_{group}"
            sample = Sample("gpu_exporter_collector_errors_total", (name, code), count)
            own.setdefault(name, []).append(sample)
        own[""] = list(self._exporter(view))
        return own

    def _exporter(self, view: NodeSnapshot) -> Iterable[Sample]:
        yield Sample("gpu_exporter_simulated", (), view.source == "simulated")
        yield Sample("gpu_exporter_build_info", (self._version, view.source or "none"), 1)
        yield Sample("gpu_exporter_worker_restarts_total", (), view.restarts)
        yield Sample("process_cpu_seconds_total", (), round(time.process_time(), 3))
        yield Sample("process_start_time_seconds", (), round(_STARTED, 3))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        size = os.sysconf("SC_PAGE_SIZE")  # 64 KiB on many ARM machines
        yield Sample("process_resident_memory_bytes", (), pages * size)


def _samples_of(own: dict[str, list[Sample]], names: Iterable[str]) -> Iterable[Sample]:
    for name in (*names, ""):
        yield from own.get(name, ())
