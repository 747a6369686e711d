"""Exports the load average."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import decimal, read

_NAMES = ("node_load1", "node_load5", "node_load15")


class Loadavg:
    """Reads `procfs`/loadavg."""

    name = "loadavg"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "loadavg"

    def collect(self, now: float) -> Iterator[Sample]:
        values = [decimal(word) for word in read(self._path).split()[:3]]
        if len(values) < len(_NAMES) or None in values:
            raise CollectorError(f"{self._path}: expected three numbers at the start")
        for name, value in zip(_NAMES, values, strict=True):
            if value is not None:
                yield Sample(name, (), value)
