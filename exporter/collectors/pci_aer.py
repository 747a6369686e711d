"""Exports the PCIe errors (AER) of GPUs and network cards that the kernel counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import names, read_if_there, rows

MAX_DEVICES = 128
_VENDORS = {"0x10de": "nvidia", "0x15b3": "mellanox"}
_FILES = {
    "aer_dev_correctable": ("TOTAL_ERR_COR", "correctable"),
    "aer_dev_nonfatal": ("TOTAL_ERR_NONFATAL", "nonfatal"),
    "aer_dev_fatal": ("TOTAL_ERR_FATAL", "fatal"),
}


class PciAer:
    """Reads `sysfs`/bus/pci/devices.

    The kernel stores these counters, so a lost or hung device cannot block the read. node_exporter
    does not export them.
    """

    name = "pci_aer"
    inline = False
    interval = 30.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/bus/pci/devices"

    def collect(self, now: float) -> Iterator[Sample]:
        count = 0
        for device in names(self._root):
            vendor = _VENDORS.get(read_if_there(f"{self._root}/{device}/vendor") or "")
            if vendor is None:
                continue
            count += 1
            if count > MAX_DEVICES:
                return
            for file, (total, severity) in _FILES.items():
                text = read_if_there(f"{self._root}/{device}/{file}")
                found = dict(rows(text or "")).get(total)
                if found is not None:
                    labels = (device, vendor, severity)
                    yield Sample("node_pci_aer_errors_total", labels, found[0])
