"""Exports traffic and errors of network interfaces, without the virtual interfaces of containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read

MAX_DEVICES = 256
EXCLUDE = r"^(veth|cali|cilium_|lxc|tap|tun\d|br-|dummy|ifb|flannel|kube-)"
# The columns of the file, in order.
_FIELDS = tuple(
    f"node_network_{way}_{field}_total"
    for way, fields in (
        ("receive", "bytes packets errs drop fifo frame compressed multicast"),
        ("transmit", "bytes packets errs drop fifo colls carrier compressed"),
    )
    for field in fields.split()
)


class Netdev:
    """Reads `procfs`/net/dev. Devices whose name matches `exclude` are omitted."""

    name = "netdev"
    inline = False
    interval = 5.0

    def __init__(self, procfs: Path, exclude: re.Pattern[str]) -> None:
        self._path = procfs / "net/dev"
        self._exclude = exclude

    def collect(self, now: float) -> Iterator[Sample]:
        header, _, text = read(self._path).partition("\n")
        if "Receive" not in header:
            raise CollectorError(f"{self._path}: expected column names at the start")
        count = 0
        for line in text.splitlines():
            device, colon, rest = line.strip().rpartition(":")
            numbers = rest.split()
            if not colon or len(numbers) < len(_FIELDS) or self._exclude.search(device):
                continue
            count += 1
            if count > MAX_DEVICES:
                return
            for name, word in zip(_FIELDS, numbers, strict=False):
                if (value := integer(word)) is not None:
                    yield Sample(name, (device,), value)
