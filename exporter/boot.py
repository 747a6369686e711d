"""The current boot of the node: its id and its start time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetmedic.hardware.state import Hardware


@dataclass(frozen=True, slots=True)
class BootTime:
    """A boot: its id, and the Unix time at which it started."""

    boot_id: str
    at: float


class BootReader(Protocol):
    """Reads the current boot."""

    def read(self) -> BootTime:
        """Return the current boot. Raises OSError or UserError when it cannot be determined."""
        ...


class ProcBoot:
    """The boot of this machine, from PROCFS/stat and PROCFS/sys/kernel/random/boot_id."""

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs

    def read(self) -> BootTime:
        boot_id = (self._procfs / "sys/kernel/random/boot_id").read_text().strip()
        for line in (self._procfs / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return BootTime(boot_id, float(line.split()[1]))
        raise OSError(f"{self._procfs / 'stat'} has no btime")


class SimulatedBoot:
    """The boot of a simulated node."""

    def __init__(self, root: Path, node: str) -> None:
        self._hardware = Hardware(root)
        self._node = node

    def read(self) -> BootTime:
        boot = self._hardware.boot(self._node)
        return BootTime(boot.boot_id, boot.boot_time)
