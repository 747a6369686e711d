"""Exports the size of the connection tracking table, and the connections dropped because it was
full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import hexadecimal, number, read_if_there

_FIELDS = ("insert_failed", "drop", "early_drop")


class Conntrack:
    """Reads `procfs`/sys/net/netfilter and `procfs`/net/stat/nf_conntrack (one line per CPU).

    Exports nothing if the kernel has no connection tracking.
    """

    name = "conntrack"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._limits = procfs / "sys/net/netfilter"
        self._stat = procfs / "net/stat/nf_conntrack"

    def collect(self, now: float) -> Iterator[Sample]:
        entries = number(self._limits / "nf_conntrack_count")
        limit = number(self._limits / "nf_conntrack_max")
        if entries is not None:
            yield Sample("node_nf_conntrack_entries", (), entries)
        if limit is not None:
            yield Sample("node_nf_conntrack_entries_limit", (), limit)
        header, *lines = (read_if_there(self._stat) or "").splitlines() or [""]
        columns = header.split()
        for field in _FIELDS:
            if field in columns and lines:
                column = columns.index(field)
                words = [words[column] for words in map(str.split, lines) if len(words) > column]
                total = sum(value for value in map(hexadecimal, words) if value is not None)
                yield Sample(f"node_nf_conntrack_stat_{field}", (), total)
