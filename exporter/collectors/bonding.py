"""Exports the configured and the active interfaces of each network bond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import read_if_there

MAX_BONDS = 64


class Bonding:
    """Reads `sysfs`/class/net. Exports nothing on a machine without bonds."""

    name = "bonding"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/class/net"

    def collect(self, now: float) -> Iterator[Sample]:
        bonds = (read_if_there(f"{self._root}/bonding_masters") or "").split()
        for bond in bonds[:MAX_BONDS]:
            below = (read_if_there(f"{self._root}/{bond}/bonding/slaves") or "").split()
            up = sum(self._state(bond, device) == "up" for device in below)
            yield Sample("node_bonding_slaves", (bond,), len(below))
            yield Sample("node_bonding_active", (bond,), up)

    def _state(self, bond: str, device: str) -> str | None:
        path = f"{self._root}/{bond}/lower_{device}/bonding_slave/mii_status"
        return read_if_there(path)
