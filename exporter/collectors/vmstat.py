"""Exports paging, swapping and OOM kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import read, rows

FIELDS = ("oom_kill", "pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout")


class Vmstat:
    """Reads `procfs`/vmstat. Fields that the kernel does not provide are omitted."""

    name = "vmstat"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "vmstat"

    def collect(self, now: float) -> Iterator[Sample]:
        found = {key: values[0] for key, values in rows(read(self._path))}
        if not found:
            raise CollectorError(f"{self._path}: expected counters")
        for field in FIELDS:
            if field in found:
                yield Sample(f"node_vmstat_{field}", (), found[field])
