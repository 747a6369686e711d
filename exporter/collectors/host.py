"""Processor, memory, load and boot of the node, named as node_exporter names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from exporter.boot import BootReader
from exporter.exposition import Sample

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_MEMORY = ("MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree")
_VMSTAT = ("oom_kill", "pgmajfault")
_STAT = {
    "ctxt": "node_context_switches_total",
    "processes": "node_forks_total",
    "procs_running": "node_procs_running",
    "procs_blocked": "node_procs_blocked",
}


class Host:
    """Reads `procfs`; the boot time comes from where the node's boot is known."""

    name = "host"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path, boot: BootReader) -> None:
        self._procfs = procfs
        self._boot = boot
        psutil.PROCFS_PATH = str(procfs)

    def collect(self, now: float) -> Iterator[Sample]:
        yield Sample("node_boot_time_seconds", (), self._boot.read().at)
        yield Sample("node_time_seconds", (), round(now, 3))
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            for mode in _MODES:
                labels = (str(number), mode)
                yield Sample("node_cpu_seconds_total", labels, getattr(times, mode, 0.0))
        loads = (self._procfs / "loadavg").read_text().split()
        for minutes, text in zip((1, 5, 15), loads, strict=False):
            yield Sample(f"node_load{minutes}", (), float(text))
        memory = self._table("meminfo")
        for field in _MEMORY:
            if field in memory:
                yield Sample(f"node_memory_{field}_bytes", (), memory[field] * 1024)
        vmstat = self._table("vmstat")
        for field in _VMSTAT:
            if field in vmstat:
                yield Sample(f"node_vmstat_{field}", (), vmstat[field])
        counts = self._table("stat")
        for field, name in _STAT.items():
            if field in counts:
                yield Sample(name, (), counts[field])

    def _table(self, name: str) -> dict[str, int]:
        """The first number of each line `key[:] number ...` of a file below procfs."""
        found = {}
        for line in (self._procfs / name).read_text().splitlines():
            parts = line.split(None, 2)
            if len(parts) > 1 and parts[1].isdigit():
                found[parts[0].rstrip(":")] = int(parts[1])
        return found
