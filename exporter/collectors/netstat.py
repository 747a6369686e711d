"""Exports TCP and UDP statistics: traffic, retransmissions, timeouts, errors and drops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer, read, read_if_there

FIELDS = {
    "Tcp": (
        "ActiveOpens",
        "PassiveOpens",
        "CurrEstab",
        "InSegs",
        "OutSegs",
        "RetransSegs",
        "InErrs",
        "OutRsts",
    ),
    "TcpExt": ("ListenDrops", "ListenOverflows", "TCPSynRetrans", "TCPTimeouts"),
    "Udp": ("InDatagrams", "OutDatagrams", "InErrors", "NoPorts", "RcvbufErrors", "SndbufErrors"),
}


class Netstat:
    """Reads `procfs`/net/snmp and `procfs`/net/netstat: pairs of a line of names and a line of
    numbers."""

    name = "netstat"
    inline = False
    interval = 15.0

    def __init__(self, procfs: Path) -> None:
        self._snmp = procfs / "net/snmp"
        self._netstat = procfs / "net/netstat"

    def collect(self, now: float) -> Iterator[Sample]:
        found = _tables(read(self._snmp)) | _tables(read_if_there(self._netstat) or "")
        if not found:
            raise CollectorError(f"{self._snmp}: expected lines of names and numbers")
        for protocol, fields in FIELDS.items():
            for field in fields:
                value = integer(found.get(protocol, {}).get(field, ""))
                if value is not None:
                    yield Sample(f"node_netstat_{protocol}_{field}", (), value)


def _tables(text: str) -> dict[str, dict[str, str]]:
    lines = text.splitlines()
    found = {}
    for above, below in zip(lines[::2], lines[1::2], strict=False):
        protocol, _, names = above.partition(":")
        again, _, numbers = below.partition(":")
        if protocol == again:
            found[protocol] = dict(zip(names.split(), numbers.split(), strict=False))
    return found
