"""Reads the kernel's information about the driver and the PCI bus, without calling the driver."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KernelObservation:
    """The kernel's information about driver and bus at one time.

    `driver` is the driver's version string, empty if no driver is loaded.
    """

    driver: str
    gpus: tuple[str, ...]
    bus: tuple[str, ...]


def observe_kernel(procfs: Path, sysfs: Path) -> KernelObservation:
    """Read the driver's version and the GPUs on the bus now. Unreadable files count as missing."""
    driver = procfs / "driver/nvidia"
    try:
        version = (driver / "version").read_text(errors="replace")[:4096]
    except OSError:
        version = ""
    return KernelObservation(version, _names(driver / "gpus"), _names(sysfs / "bus/pci/devices"))


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208 - names only, every second
    except OSError:
        return ()
