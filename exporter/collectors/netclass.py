"""Exports the state of network interfaces: up, carrier, speed, and carrier changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import names, number, read_if_there

MAX_DEVICES = 256
_NUMBERS = {
    "carrier": "node_network_carrier",
    "carrier_changes": "node_network_carrier_changes_total",
    "carrier_up_count": "node_network_carrier_up_changes_total",
    "carrier_down_count": "node_network_carrier_down_changes_total",
    "mtu": "node_network_mtu_bytes",
}
_INFO = ("address", "broadcast", "duplex", "operstate", "ifalias")
_IFF_UP = 1
_MEGABIT_BYTES = 125_000


class Netclass:
    """Reads `sysfs`/class/net. Devices whose name matches `exclude`, and unknown speeds, are
    omitted."""

    name = "netclass"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path, exclude: re.Pattern[str]) -> None:
        self._root = f"{sysfs}/class/net"
        self._exclude = exclude

    def collect(self, now: float) -> Iterator[Sample]:
        wanted = [name for name in names(self._root) if not self._exclude.search(name)]
        for device in wanted[:MAX_DEVICES]:
            folder = f"{self._root}/{device}"
            info = {field: read_if_there(f"{folder}/{field}") or "" for field in _INFO}
            if not info["operstate"]:
                continue  # bonding_masters is a file, and an interface may have been removed
            yield Sample("node_network_up", (device,), info["operstate"] == "up")
            yield Sample("node_network_info", _labels(device, folder, info), 1)
            for field, name in _NUMBERS.items():
                if (value := number(f"{folder}/{field}")) is not None:
                    yield Sample(name, (device,), value)
            speed = number(f"{folder}/speed")
            if speed is not None and speed < 1 << 31:
                yield Sample("node_network_speed_bytes", (device,), speed * _MEGABIT_BYTES)


def _labels(device: str, folder: str, info: dict[str, str]) -> tuple[str, ...]:
    flags = (read_if_there(f"{folder}/flags") or "").removeprefix("0x")
    value = int(flags, 16) if re.fullmatch(r"[0-9a-f]{1,8}", flags) else 0
    admin = "up" if value & _IFF_UP else "down"
    return (
        device,
        info["address"],
        info["broadcast"],
        info["duplex"],
        info["operstate"],
        admin,
        info["ifalias"],
    )
