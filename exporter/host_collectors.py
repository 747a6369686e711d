"""The collectors of the machine, in the order of the page; their families are node_exporter's."""

from __future__ import annotations

from exporter.collectors.filesystem import Filesystem
from exporter.collectors.host import Host
from exporter.collectors.network import Network
from exporter.entry import Entry

HOST: tuple[Entry, ...] = (
    Entry("host", "processor, memory, load, boot", lambda p: Host(p.procfs, p.boot)),
    Entry("filesystem", "space of file systems", lambda _: Filesystem()),
    Entry("network", "network interfaces", lambda _: Network()),
)
