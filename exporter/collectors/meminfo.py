"""Exports the memory statistics that rules and dashboards of GPU fleets need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import read, rows

FIELDS = (
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "SwapTotal",
    "SwapFree",
    "Active",
    "Inactive",
    "Unevictable",
    "Mlocked",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "Bounce",
    "CommitLimit",
    "Committed_AS",
    "VmallocUsed",
    "Percpu",
    "HardwareCorrupted",
    "AnonHugePages",
    "ShmemHugePages",
    "FileHugePages",
    "Hugepagesize",
    "Hugetlb",
)
COUNTS = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")
_NAMES = {
    **{field: (f"node_memory_{field}_bytes", 1024) for field in FIELDS},
    **{field: (f"node_memory_{field}", 1) for field in COUNTS},
}


class Meminfo:
    """Reads `procfs`/meminfo. The values are in KiB, except the numbers of huge pages."""

    name = "meminfo"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "meminfo"

    def collect(self, now: float) -> Iterator[Sample]:
        seen = False
        for field, (value, *_) in rows(read(self._path)):
            if field in _NAMES:
                seen = True
                name, unit = _NAMES[field]
                yield Sample(name, (), value * unit)
        if not seen:
            raise CollectorError(f"{self._path}: expected lines of memory values")
