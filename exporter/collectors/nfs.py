"""Exports calls and retransmissions of the NFS client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import read_if_there, rows


class Nfs:
    """Reads `procfs`/net/rpc/nfs. Exports nothing on a machine that never mounted NFS."""

    name = "nfs"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "net/rpc/nfs"

    def collect(self, now: float) -> Iterator[Sample]:
        text = read_if_there(self._path)
        if text is None:
            return
        found = dict(rows(text))
        match found.get("rpc"):
            case [calls, again, refreshed, *_]:
                yield Sample("node_nfs_rpcs_total", (), calls)
                yield Sample("node_nfs_rpc_retransmissions_total", (), again)
                yield Sample("node_nfs_rpc_authentication_refreshes_total", (), refreshed)
            case _:
                raise CollectorError(f"{self._path}: expected a line with RPC counters")
        match found.get("net"):
            case [_, udp, tcp, connections, *_]:
                yield Sample("node_nfs_packets_total", ("udp",), udp)
                yield Sample("node_nfs_packets_total", ("tcp",), tcp)
                yield Sample("node_nfs_connections_total", (), connections)
