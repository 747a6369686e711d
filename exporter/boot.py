"""Reads the boot id and the boot time of the node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetmedic.hardware.state import Hardware


@dataclass(frozen=True, slots=True)
class BootTime:
    """The boot id of a boot of the node, and its Unix time."""

    boot_id: str
    at: float


class BootReader(Protocol):
    """The interface that returns the id and the time of the current boot."""

    def read(self) -> BootTime:
        """Return the id and the time of the current boot. Raises OSError or UserError if they cannot be read."""
        ...


class ProcBoot:
    """Reads the boot time and boot id of this machine from PROCFS/stat and
    PROCFS/sys/kernel/random/boot_id."""

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs

    def read(self) -> BootTime:
        boot_id = (self._procfs / "sys/kernel/random/boot_id").read_text().strip()
        for line in (self._procfs / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return BootTime(boot_id, float(line.split()[1]))
        raise OSError(f"{self._procfs / 'stat'} has no btime")


class SimulatedBoot:
    """Reads the boot time and boot id of a simulated node from the hardware directory."""

    def __init__(self, root: Path, node: str) -> None:
        self._hardware = Hardware(root)
        self._node = node

    def read(self) -> BootTime:
        boot = self._hardware.boot(self._node)
        return BootTime(boot.boot_id, boot.boot_time)
