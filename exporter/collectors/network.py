"""Traffic and errors of the network interfaces, without those that containers come and go with."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psutil

from exporter.exposition import Sample

MAX_DEVICES = 256
_IGNORED = re.compile(r"(veth|cali|lxc|tap|br-|dummy)")
_COUNTERS = {
    "node_network_receive_bytes_total": "bytes_recv",
    "node_network_transmit_bytes_total": "bytes_sent",
    "node_network_receive_packets_total": "packets_recv",
    "node_network_transmit_packets_total": "packets_sent",
    "node_network_receive_errs_total": "errin",
    "node_network_transmit_errs_total": "errout",
    "node_network_receive_drop_total": "dropin",
    "node_network_transmit_drop_total": "dropout",
}


class Network:
    """The kernel's own counters of each interface."""

    name = "network"
    inline = False
    interval = 5.0

    def collect(self, now: float) -> Iterator[Sample]:
        states = psutil.net_if_stats()
        devices = psutil.net_io_counters(pernic=True, nowrap=False)
        names = [name for name in sorted(devices) if not _IGNORED.match(name)]
        for device in names[:MAX_DEVICES]:
            for name, field in _COUNTERS.items():
                yield Sample(name, (device,), getattr(devices[device], field))
            if device in states:
                yield Sample("node_network_up", (device,), states[device].isup)
