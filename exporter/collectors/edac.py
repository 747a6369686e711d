"""Exports corrected and uncorrected errors of host memory (EDAC)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import integer, names, number

MAX_CONTROLLERS = 128
MAX_ROWS = 64
_KINDS = (("ce", "correctable"), ("ue", "uncorrectable"))


class Edac:
    """Reads `sysfs`/devices/system/edac. Exports nothing if the EDAC driver is not loaded."""

    name = "edac"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/devices/system/edac/mc"

    def collect(self, now: float) -> Iterator[Sample]:
        for controller, folder in _numbered(self._root, "mc", MAX_CONTROLLERS):
            for short, kind in _KINDS:
                value = number(f"{folder}/{short}_count")
                if value is not None:
                    yield Sample(f"node_edac_{kind}_errors_total", (controller,), value)
                value = number(f"{folder}/{short}_noinfo_count")
                if value is not None:
                    labels = (controller, "unknown")
                    yield Sample(f"node_edac_csrow_{kind}_errors_total", labels, value)
            for row, below in _numbered(folder, "csrow", MAX_ROWS):
                for short, kind in _KINDS:
                    value = number(f"{below}/{short}_count")
                    if value is not None:
                        labels = (controller, row)
                        yield Sample(f"node_edac_csrow_{kind}_errors_total", labels, value)


def _numbered(folder: str, prefix: str, most: int) -> Iterator[tuple[str, str]]:
    """Yield (number, path) of each directory entry whose name is `prefix` and a number, such as mc0."""
    found = [name for name in names(folder) if name.startswith(prefix)]
    for name in found[:most]:
        which = name.removeprefix(prefix)
        if integer(which) is not None:
            yield which, f"{folder}/{name}"
