"""Exports the identity and state of NVMe controllers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import names, read_if_there

MAX_DEVICES = 128
_FIELDS = ("firmware_rev", "model", "serial", "state")


class Nvme:
    """Reads `sysfs`/class/nvme.

    SMART health data is not available there, because reading it requires a command to the device.
    """

    name = "nvme"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/class/nvme"

    def collect(self, now: float) -> Iterator[Sample]:
        for device in names(self._root)[:MAX_DEVICES]:
            identity = [read_if_there(f"{self._root}/{device}/{field}") or "" for field in _FIELDS]
            if any(identity):
                yield Sample("node_nvme_info", (device, *identity), 1)
