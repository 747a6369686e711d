"""Exports reads, writes and I/O time of disks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read

MAX_DEVICES = 256
EXCLUDE = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
_SECTOR, _MS = 512, 0.001
# In the order of the file, with the size of one unit.
_FIELDS: tuple[tuple[str, float], ...] = (
    ("node_disk_reads_completed_total", 1),
    ("node_disk_reads_merged_total", 1),
    ("node_disk_read_bytes_total", _SECTOR),
    ("node_disk_read_time_seconds_total", _MS),
    ("node_disk_writes_completed_total", 1),
    ("node_disk_writes_merged_total", 1),
    ("node_disk_written_bytes_total", _SECTOR),
    ("node_disk_write_time_seconds_total", _MS),
    ("node_disk_io_now", 1),
    ("node_disk_io_time_seconds_total", _MS),
    ("node_disk_io_time_weighted_seconds_total", _MS),
    ("node_disk_discards_completed_total", 1),
    ("node_disk_discards_merged_total", 1),
    ("node_disk_discarded_sectors_total", 1),
    ("node_disk_discard_time_seconds_total", _MS),
    ("node_disk_flush_requests_total", 1),
    ("node_disk_flush_requests_time_seconds_total", _MS),
)
_LEAST = 11


class Diskstats:
    """Reads `procfs`/diskstats. Devices whose name matches `exclude` are omitted."""

    name = "diskstats"
    inline = False
    interval = 10.0

    def __init__(self, procfs: Path, exclude: re.Pattern[str]) -> None:
        self._path = procfs / "diskstats"
        self._exclude = exclude

    def collect(self, now: float) -> Iterator[Sample]:
        lines = read(self._path).splitlines()
        rows = [words for words in map(str.split, lines) if len(words) >= 3 + _LEAST]
        if lines and not rows:
            raise CollectorError(f"{self._path}: expected lines of disk counters")
        wanted = [words for words in rows if not self._exclude.search(words[2])]
        for _, _, device, *numbers in wanted[:MAX_DEVICES]:
            for (name, unit), text in zip(_FIELDS, numbers, strict=False):
                if (value := integer(text)) is not None:
                    yield Sample(name, (device,), value * unit)
