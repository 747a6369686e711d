"""Exports the allocated and the maximum number of file descriptors of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read


class Filefd:
    """Reads `procfs`/sys/fs/file-nr."""

    name = "filefd"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "sys/fs/file-nr"

    def collect(self, now: float) -> Iterator[Sample]:
        match [integer(word) for word in read(self._path).split()]:
            case [int(allocated), _, int(most)]:
                yield Sample("node_filefd_allocated", (), allocated)
                yield Sample("node_filefd_maximum", (), most)
            case _:
                raise CollectorError(f"{self._path}: expected three numbers")
