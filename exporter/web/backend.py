"""The data and functions behind the HTTP routes: metrics pages, health, release of the GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from exporter.gpu_states import GpuStates
from exporter.pages.collector_runner import CollectorState
from exporter.pages.dcgm import dcgm
from exporter.pages.openmetrics import ExpositionFormat
from exporter.web import health
from exporter.xids.kernel_log import KernelLog


class PageSource(Protocol):
    """Provides the metrics pages. `names` are the collectors; `ready` says whether a page can be
    served."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def ready(self) -> bool: ...

    def page(
        self, wanted: frozenset[str] | None, form: ExpositionFormat, gzip: bool
    ) -> bytes | None:
        """Return the metrics page in this format; None if no current page exists."""
        ...

    def states(self, now: float) -> list[CollectorState]:
        """Return the state of each collector at Unix time `now`."""
        ...


class GpuReleaser(Protocol):
    """The interface to the supervisor, which reads the GPUs and can release them."""

    @property
    def released_for(self) -> float: ...

    def release(self, seconds: float, wait: float = 0.0) -> bool:
        """Release the GPUs for this number of seconds. Returns whether this is done within `wait`
        seconds."""
        ...


@dataclass(frozen=True, slots=True)
class WebBackend:
    """The data and functions of the HTTP routes.

    `reader` is None if no GPUs are read, `kernel_log` if the kernel log is not read. `summaries`
    contains a short description of each collector. `dcgm` enables the page with dcgm-exporter's
    names.
    """

    pages: PageSource
    gpu_states: GpuStates
    node: str
    version: str
    reader: GpuReleaser | None = None
    kernel_log: KernelLog | None = None
    summaries: Mapping[str, str] = field(default_factory=dict)
    metrics_path: str = "/metrics"
    dcgm: bool = False
    clock: Callable[[], float] = time.time

    def health(self) -> health.HealthResponse:
        """Return the health of all monitored components of the node.

        May block on the reader of the kernel log, so do not call it in the event loop.
        """
        now = self.clock()
        view = self.gpu_states.snapshot(now)
        wishes = self.kernel_log.recommendations(view, now) if self.kernel_log else {}
        parts = [health.gpu(view, one, wishes.get(one.uuid)) for one in view.gpus]
        released_for = 0.0
        if self.reader is not None:
            released_for = self.reader.released_for
            parts += health.driver(view, released_for)
        if self.kernel_log is not None:
            log = self.kernel_log
            parts.append(health.kernel_log(log.failure, read=log.read_lately(now)))
        parts += health.collectors(self.pages.states(now))
        recent = self.kernel_log.recent() if self.kernel_log else ()
        return health.HealthResponse(
            node=self.node,
            version=self.version,
            source=view.source or "none",
            at=round(now, 3),
            state=health.worst(parts),
            released_seconds=round(released_for, 1),
            components=parts,
            events=health.events(recent, view),
        )

    def dcgm_page(self, gzip: bool) -> bytes | None:
        """Return the page with dcgm-exporter's names; None if there is no data.

        Do not call it in the event loop.
        """
        view = self.gpu_states.snapshot(self.clock())
        if view.failure:
            return None
        xids = self.kernel_log.latest() if self.kernel_log else None
        return dcgm(view, self.node, xids).body(ExpositionFormat.TEXT, gzip=gzip)
