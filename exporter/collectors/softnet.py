"""Exports how many received packets each CPU processed, dropped or postponed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import hexadecimal, read

MAX_CPUS = 4096
_FIELDS = (
    "node_softnet_processed_total",
    "node_softnet_dropped_total",
    "node_softnet_times_squeezed_total",
)
_CPU = 12


class Softnet:
    """Reads `procfs`/net/softnet_stat. Each line contains the hexadecimal counters of one CPU."""

    name = "softnet"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "net/softnet_stat"

    def collect(self, now: float) -> Iterator[Sample]:
        for line, text in enumerate(read(self._path).splitlines()[:MAX_CPUS]):
            numbers = [hexadecimal(word) for word in text.split()]
            if len(numbers) < len(_FIELDS):
                raise CollectorError(f"{self._path}: line {line + 1} has too few columns")
            cpu = numbers[_CPU] if len(numbers) > _CPU else line
            for name, value in zip(_FIELDS, numbers, strict=False):
                if value is not None and cpu is not None:
                    yield Sample(name, (str(cpu),), value)
