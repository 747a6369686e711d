"""Exports pressure stall information (PSI): the time that tasks waited for CPU, memory and I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read_if_there

_LINE = re.compile(r"^(some|full) .*\btotal=([0-9]+)$", re.MULTILINE)
_NAMES = {
    ("cpu", "some"): "node_pressure_cpu_waiting_seconds_total",
    ("io", "some"): "node_pressure_io_waiting_seconds_total",
    ("io", "full"): "node_pressure_io_stalled_seconds_total",
    ("memory", "some"): "node_pressure_memory_waiting_seconds_total",
    ("memory", "full"): "node_pressure_memory_stalled_seconds_total",
    ("irq", "full"): "node_pressure_irq_stalled_seconds_total",
}


class Pressure:
    """Reads `procfs`/pressure, in microseconds. Exports nothing on a kernel without PSI."""

    name = "pressure"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path) -> None:
        self._root = procfs / "pressure"

    def collect(self, now: float) -> Iterator[Sample]:
        for resource in ("cpu", "io", "memory", "irq"):
            path = self._root / resource
            text = read_if_there(path)
            if text is None:
                continue
            found = _LINE.findall(text)
            if not found:
                raise CollectorError(f"{path}: expected a field total=")
            for kind, total in found:
                name, value = _NAMES.get((resource, kind)), integer(total)
                if name is not None and value is not None:
                    yield Sample(name, (), value / 1e6)
