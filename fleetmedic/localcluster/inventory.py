"""List nodes and GPUs, and probe GPUs.

The nodes come from the hardware directory. Without one, the cluster is this host with the GPUs that
the NVIDIA driver lists in procfs or sysfs. Real GPUs are not probed before a job is placed, because
a probe needs the driver's library, which can hang.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import valid_name


@dataclass(frozen=True, slots=True)
class InventoryNode:
    """One node. `boot_id` changes when it reboots; `gpus` contains (index, uuid) pairs."""

    name: str
    boot_id: str
    gpus: tuple[tuple[int, str], ...]


class Inventory:
    """Lists nodes and GPUs from the hardware directory; without this directory, lists this host only."""

    def __init__(
        self, hardware_dir: Path | None, procfs: Path = Path("/proc"), sysfs: Path = Path("/sys")
    ) -> None:
        self._hardware = Hardware(hardware_dir) if hardware_dir and hardware_dir.is_dir() else None
        self._procfs = procfs
        self._sysfs = sysfs

    def nodes(self) -> list[InventoryNode]:
        """Return all nodes. A node with damaged files is skipped."""
        if self._hardware is None:
            return [self._host()]
        found = []
        for name in self._hardware.nodes():
            try:
                gpus = tuple(
                    (i, self._hardware.gpu(name, i).uuid) for i in self._hardware.gpus(name)
                )
                found.append(InventoryNode(name, self._hardware.boot(name).boot_id, gpus))
            except (UserError, OSError, ValueError):
                continue
        return found

    def boot_id(self, node: str) -> str | None:
        """Return the node's current boot id, None if it cannot be read."""
        try:
            return self._hardware.boot(node).boot_id if self._hardware else self._host_boot()
        except (UserError, OSError):
            return None

    def unresponsive_gpus(self, node: str, gpus: tuple[int, ...]) -> tuple[int, ...]:
        """Return the GPUs that do not respond to a probe: lost, hung or unreadable."""
        if self._hardware is None:
            return ()
        return tuple(index for index in gpus if not self._answers(self._hardware, node, index))

    @staticmethod
    def _answers(hardware: Hardware, node: str, index: int) -> bool:
        try:
            state = hardware.gpu(node, index)
        except (UserError, OSError):
            return False
        return not (state.lost or state.hung)

    def _host(self) -> InventoryNode:
        name = socket.gethostname()
        return InventoryNode(
            name if valid_name(name) else "localhost", self._host_boot(), self._host_gpus()
        )

    def _host_boot(self) -> str:
        path = self._procfs / "sys" / "kernel" / "random" / "boot_id"
        return path.read_text().strip() if path.is_file() else ""

    def _host_gpus(self) -> tuple[tuple[int, str], ...]:
        folders = sorted((self._procfs / "driver" / "nvidia" / "gpus").glob("*"))
        if folders:
            return tuple((i, _uuid(folder)) for i, folder in enumerate(folders))
        devices = sorted((self._sysfs / "bus" / "pci" / "drivers" / "nvidia").glob("*:*:*.*"))
        return tuple((i, f"PCI-{device.name}") for i, device in enumerate(devices))


def _uuid(folder: Path) -> str:
    try:
        lines = (folder / "information").read_text(errors="replace").splitlines()[:64]
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "GPU UUID" and value.strip().startswith("GPU-"):
            return value.strip()[:80]
    return f"PCI-{folder.name}"
