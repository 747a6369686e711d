"""Exports the boot time, and the kernel's counters of interrupts, context switches and processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.boot import BootReader
from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read

_NAMES = {
    "intr": "node_intr_total",
    "ctxt": "node_context_switches_total",
    "processes": "node_forks_total",
    "procs_running": "node_procs_running",
    "procs_blocked": "node_procs_blocked",
}


class Stat:
    """Reads `procfs`/stat. The boot time comes from the boot reader."""

    name = "stat"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path, boot: BootReader) -> None:
        self._path = procfs / "stat"
        self._boot = boot

    def collect(self, now: float) -> Iterator[Sample]:
        for line in read(self._path).splitlines():
            key, _, rest = line.partition(" ")
            if key in _NAMES and (value := integer(rest.partition(" ")[0])) is not None:
                yield Sample(_NAMES[key], (), value)
        try:
            yield Sample("node_boot_time_seconds", (), self._boot.read().at)
        except (OSError, ValueError) as error:
            raise CollectorError(f"{self._path}: cannot read the boot time: {error}") from None
