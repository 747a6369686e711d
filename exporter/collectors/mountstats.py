"""Exports bytes, calls, times and timeouts of each NFS mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import integer, read

MAX_MOUNTS = 32
OPERATIONS = ("READ", "WRITE", "GETATTR", "LOOKUP", "ACCESS", "OPEN", "COMMIT")
_DEVICE = re.compile(r"device (\S+) mounted on (\S+) with fstype nfs4?(?: |$)")
_ADDRESS = re.compile(r"(?:^|,)addr=([^,]+)")
_SERVER_READ, _SERVER_WRITE = 4, 5
_PREFIX = "node_mountstats_nfs"
# Columns in the line of an operation.
_CALLS = {
    0: (f"{_PREFIX}_operations_requests_total", 1.0),
    1: (f"{_PREFIX}_operations_transmissions_total", 1.0),
    2: (f"{_PREFIX}_operations_major_timeouts_total", 1.0),
    6: (f"{_PREFIX}_operations_response_time_seconds_total", 0.001),
    7: (f"{_PREFIX}_operations_request_time_seconds_total", 0.001),
}


@dataclass(slots=True)
class _Mount:
    export: str
    mountpoint: str
    protocol: str = ""
    numbers: dict[str, list[int]] = field(default_factory=dict)

    def take(self, key: str, rest: str) -> None:
        """Parse one line of the kernel's statistics of this NFS mount."""
        if key == "xprt":
            self.protocol = self.protocol or rest.split(None, 1)[0]
        elif key in ("age", "bytes") or key in OPERATIONS:
            words = [integer(word) for word in rest.split()]
            self.numbers.setdefault(key, [word for word in words if word is not None])


class Mountstats:
    """Reads `procfs`/self/mountstats, and the server addresses from self/mounts. Calls no server.

    An NFS export that is mounted several times is counted once.
    """

    name = "mountstats"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "self/mountstats"
        self._mounts = procfs / "self/mounts"

    def collect(self, now: float) -> Iterator[Sample]:
        mounts = list(_mounts(read(self._path)))
        addresses = _addresses(read(self._mounts)) if mounts else {}
        exported: set[tuple[str, str, str]] = set()
        for mount in mounts:
            key = (mount.export, mount.protocol, addresses.get(mount.mountpoint, ""))
            if key not in exported and len(exported) < MAX_MOUNTS:
                exported.add(key)
                yield from _samples(key, mount.numbers)


def _mounts(text: str) -> Iterator[_Mount]:
    mount: _Mount | None = None
    for line in text.splitlines():
        if line.startswith("device "):
            if mount is not None:
                yield mount
            found = _DEVICE.match(line)
            mount = _Mount(found[1], found[2]) if found else None
        elif mount is not None:
            key, colon, rest = line.strip().partition(":")
            if colon and rest.strip():
                mount.take(key, rest)
    if mount is not None:
        yield mount


def _addresses(text: str) -> dict[str, str]:
    """Return the server address of each mount, by mount point."""
    lines = (words for line in text.splitlines() if len(words := line.split()) >= 4)
    return {words[1]: found[1] for words in lines if (found := _ADDRESS.search(words[3]))}


def _samples(key: tuple[str, str, str], numbers: dict[str, list[int]]) -> Iterator[Sample]:
    if age := numbers.get("age"):
        yield Sample(f"{_PREFIX}_age_seconds_total", key, age[0])
    moved = numbers.get("bytes", [])
    if len(moved) > _SERVER_WRITE:
        yield Sample(f"{_PREFIX}_total_read_bytes_total", key, moved[_SERVER_READ])
        yield Sample(f"{_PREFIX}_total_write_bytes_total", key, moved[_SERVER_WRITE])
    for operation in OPERATIONS:
        columns = numbers.get(operation, [])
        if len(columns) > max(_CALLS):
            for column, (name, unit) in _CALLS.items():
                value = columns[column]
                yield Sample(name, (*key, operation), value if unit == 1 else value * unit)
