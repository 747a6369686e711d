"""Exports host events from the kernel log: OOM kills, lockups, machine checks, PCIe, disk and NFS
errors."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.xids.kernel_events import EVENTS
from exporter.xids.kernel_log import KernelLog


class KernelEvents:
    """Exports the counts of the events in xids/kernel_events.py. Each count starts at 0."""

    name = "kernel_events"
    inline = False
    interval = 1.0

    def __init__(self, kernel_log: KernelLog) -> None:
        self._kernel_log = kernel_log

    def collect(self, now: float) -> Iterator[Sample]:
        counted = self._kernel_log.counted(now)
        if counted.failure:
            raise CollectorError(counted.failure)
        for event in EVENTS:
            yield Sample("node_kernel_events_total", (event,), counted.kernel.get(event, 0))
