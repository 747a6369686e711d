"""What the kernel shows of the driver and of the bus, without asking the driver anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Witness:
    """One look. `driver` is the text of the driver's version file, empty while none is loaded."""

    driver: str
    gpus: tuple[str, ...]
    bus: tuple[str, ...]


def look(procfs: Path, sysfs: Path) -> Witness:
    """What there is now; what cannot be read is not there."""
    driver = procfs / "driver/nvidia"
    try:
        version = (driver / "version").read_text(errors="replace")[:4096]
    except OSError:
        version = ""
    return Witness(version, _names(driver / "gpus"), _names(sysfs / "bus/pci/devices"))


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208 - names alone, and each second
    except OSError:
        return ()
