"""Exports the state of software RAID arrays (rebuild, resync, check), and their disks by state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import read_if_there

MAX_ARRAYS = 64
_ARRAY = re.compile(r"(\S{1,64}) : (active|inactive)\b(.{0,4000})")
_BLOCKS = re.compile(r"\s+([0-9]{1,18}) blocks")
_DISKS = re.compile(r"\[([0-9]{1,5})/([0-9]{1,5})\] \[[U_]+\]")
_WORK = re.compile(
    r"\b(recovery|resync|check|reshape)\b\s*=\s*(\S*)(?:.*\(([0-9]{1,18})/[0-9]{1,18}\))?"
)
_STATES = ("active", "inactive", "recovering", "resync", "check")
_DOING = {"recovery": "recovering", "resync": "resync", "check": "check"}


class Mdadm:
    """Reads `procfs`/mdstat. Exports nothing on a machine without arrays."""

    name = "mdadm"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "mdstat"

    def collect(self, now: float) -> Iterator[Sample]:
        lines = (read_if_there(self._path) or "").splitlines()
        count = 0
        for index, line in enumerate(lines):
            if (found := _ARRAY.match(line)) and count < MAX_ARRAYS:
                count += 1
                below: list[str] = []
                for text in lines[index + 1 : index + 6]:
                    if not text.startswith(" "):
                        break
                    below.append(text)
                yield from _samples(found, "\n".join(below))


def _samples(found: re.Match[str], below: str) -> Iterator[Sample]:
    device, state, members = found[1], found[2], found[3]
    has, needs = _disk_counts(state, members, below)
    failed, spare = members.count("(F)"), members.count("(S)")
    yield Sample("node_md_disks_required", (device,), needs)
    for kind, value in (("active", has), ("failed", failed), ("spare", spare)):
        yield Sample("node_md_disks", (device, kind), value)
    blocks = _BLOCKS.match(below)
    work = _WORK.search(below)
    if blocks:
        done = int(blocks[1])
        yield Sample("node_md_blocks", (device,), done)
        if work and work[2] in ("PENDING", "DELAYED"):
            done = 0
        elif work and work[3]:
            done = int(work[3])
        yield Sample("node_md_blocks_synced", (device,), done)
    doing = _DOING.get(work[1], state) if work else state
    for name in _STATES:
        yield Sample("node_md_state", (device, name), name == doing)


def _disk_counts(state: str, members: str, below: str) -> tuple[int, int]:
    """Return the RAID array's number of working disks, and the number of disks that it needs."""
    if " raid0 " in members or " linear " in members:
        return members.count("["), members.count("[")
    disks = _DISKS.search(below)
    if state == "inactive" or not disks:
        return 0, 0
    return int(disks[2]), int(disks[1])
