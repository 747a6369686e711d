"""Exports CPU time by mode, and thermal throttling of CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, names, number, read, rows

MAX_CPUS = 4096
MAX_LINE = 400
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE = _MODES.index("idle")
_HOTPLUG_SECONDS = 3


class Cpu:
    """Reads `procfs`/stat. Guest time is included in user and nice, and not exported separately.

    Some of the kernel's counters can decrease slightly, which rate() would treat as a counter
    reset. So exported values never decrease, unless the idle time decreased by 3 s, as after a CPU
    hotplug.
    """

    name = "cpu"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "stat"
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._shown: dict[str, list[int]] = {}

    def collect(self, now: float) -> Iterator[Sample]:
        seen = False
        text = read(self._path)
        for key, times in rows(text[: text.rfind("\ncpu") + MAX_LINE]):
            if not key.startswith("cpu") or integer(key[3:]) is None:
                continue
            if len(self._shown) >= MAX_CPUS and key not in self._shown:
                continue
            seen = True
            for mode, ticks in zip(_MODES, self._steady(key, times), strict=False):
                yield Sample("node_cpu_seconds_total", (key[3:], mode), ticks / self._ticks)
        if not seen:
            raise CollectorError(f"{self._path}: expected lines of CPU times")

    def _steady(self, cpu: str, times: list[int]) -> list[int]:
        before = self._shown.get(cpu)
        if before is not None and len(before) == len(times) > _IDLE:
            fell = before[_IDLE] - times[_IDLE]
            if fell < _HOTPLUG_SECONDS * self._ticks:
                times = [max(pair) for pair in zip(times, before, strict=True)]
        self._shown[cpu] = times
        return times


class CpuThrottles:
    """Reads the throttle counters of each core and package from `sysfs`/devices/system/cpu."""

    name = "cpu_throttles"
    inline = False
    interval = 60.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/devices/system/cpu"

    def collect(self, now: float) -> Iterator[Sample]:
        cores: dict[tuple[str, str], int] = {}
        packages: dict[tuple[str], int] = {}
        found = [
            name for name in names(self._root) if integer(name.removeprefix("cpu")) is not None
        ]
        for cpu in found[:MAX_CPUS]:
            folder = f"{self._root}/{cpu}"
            package = number(f"{folder}/topology/physical_package_id")
            if package is None:
                continue
            count = number(f"{folder}/thermal_throttle/package_throttle_count")
            if count is not None and (str(package),) not in packages:
                packages[str(package),] = count
            core = number(f"{folder}/topology/core_id")
            if core is None or (str(core), str(package)) in cores:
                continue
            count = number(f"{folder}/thermal_throttle/core_throttle_count")
            if count is not None:
                cores[str(core), str(package)] = count
        for labels, count in cores.items():
            yield Sample("node_cpu_core_throttles_total", labels, count)
        for label, count in packages.items():
            yield Sample("node_cpu_package_throttles_total", label, count)
