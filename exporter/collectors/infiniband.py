"""Exports the state, rate and counters of InfiniBand and RoCE ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.exposition import Sample
from exporter.kernel_files import integer, names, read_if_there

MAX_PORTS = 128
_GIGABIT_BYTES = 125_000_000
_STATE = re.compile(r"([0-9]{1,3}): ")
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) Gb/sec")
# By folder of a port: the kernel's name, and our name without node_infiniband_.
_COUNTERS = {
    "excessive_buffer_overrun_errors": "excessive_buffer_overrun_errors_total",
    "link_downed": "link_downed_total",
    "link_error_recovery": "link_error_recovery_total",
    "local_link_integrity_errors": "local_link_integrity_errors_total",
    "multicast_rcv_packets": "multicast_packets_received_total",
    "multicast_xmit_packets": "multicast_packets_transmitted_total",
    "port_rcv_constraint_errors": "port_constraint_errors_received_total",
    "port_xmit_constraint_errors": "port_constraint_errors_transmitted_total",
    "port_rcv_data": "port_data_received_bytes_total",
    "port_xmit_data": "port_data_transmitted_bytes_total",
    "port_rcv_discards": "port_discards_received_total",
    "port_xmit_discards": "port_discards_transmitted_total",
    "port_rcv_errors": "port_errors_received_total",
    "port_rcv_packets": "port_packets_received_total",
    "port_xmit_packets": "port_packets_transmitted_total",
    "port_xmit_wait": "port_transmit_wait_total",
    "port_rcv_remote_physical_errors": "port_receive_remote_physical_errors_total",
    "port_rcv_switch_relay_errors": "port_receive_switch_relay_errors_total",
    "symbol_error": "symbol_error_total",
    "unicast_rcv_packets": "unicast_packets_received_total",
    "unicast_xmit_packets": "unicast_packets_transmitted_total",
    "VL15_dropped": "vl15_dropped_total",
}
_HARDWARE = {
    "duplicate_request": "duplicate_requests_packets_total",
    "implied_nak_seq_err": "implied_nak_seq_errors_total",
    "local_ack_timeout_err": "local_ack_timeout_errors_total",
    "np_cnp_sent": "np_cnp_packets_sent_total",
    "np_ecn_marked_roce_packets": "np_ecn_marked_roce_packets_received_total",
    "out_of_buffer": "out_of_buffer_drops_total",
    "out_of_sequence": "out_of_sequence_packets_received_total",
    "packet_seq_err": "packet_sequence_errors_total",
    "req_cqe_error": "req_cqes_errors_total",
    "req_cqe_flush_error": "req_cqes_flush_errors_total",
    "req_remote_access_errors": "req_remote_access_errors_total",
    "req_remote_invalid_request": "req_remote_invalid_request_errors_total",
    "resp_cqe_error": "resp_cqes_errors_total",
    "resp_cqe_flush_error": "resp_cqes_flush_errors_total",
    "resp_local_length_error": "resp_local_length_errors_total",
    "resp_remote_access_errors": "resp_remote_access_errors_total",
    "rnr_nak_retry_err": "rnr_nak_retry_packets_received_total",
    "roce_adp_retrans": "roce_adp_retransmits_total",
    "roce_adp_retrans_to": "roce_adp_retransmits_timeout_total",
    "roce_slow_restart": "roce_slow_restart_used_total",
    "roce_slow_restart_cnps": "roce_slow_restart_cnps_total",
    "roce_slow_restart_trans": "roce_slow_restart_total",
    "rp_cnp_handled": "rp_cnp_packets_handled_total",
    "rp_cnp_ignored": "rp_cnp_ignored_packets_received_total",
    "rx_atomic_requests": "rx_atomic_requests_total",
    "rx_icrc_encapsulated": "rx_icrc_encapsulated_errors_total",
    "rx_read_requests": "rx_read_requests_total",
    "rx_write_requests": "rx_write_requests_total",
}
# The adapter counts these per lane, in units of four bytes.
_WORDS = frozenset({"port_rcv_data", "port_xmit_data"})


class Infiniband:
    """Reads `sysfs`/class/infiniband. Counters that an adapter does not support are omitted."""

    name = "infiniband"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path) -> None:
        self._root = f"{sysfs}/class/infiniband"

    def collect(self, now: float) -> Iterator[Sample]:
        count = 0
        for device in names(self._root):
            folder = f"{self._root}/{device}"
            identity = [
                read_if_there(f"{folder}/{f}") or "" for f in ("board_id", "fw_ver", "hca_type")
            ]
            yield Sample("node_infiniband_info", (device, *identity), 1)
            for port in names(f"{folder}/ports"):
                count += 1
                if count > MAX_PORTS:
                    return
                yield from _port((device, port), f"{folder}/ports/{port}")


def _port(labels: tuple[str, str], folder: str) -> Iterator[Sample]:
    for field, name in (("state", "state_id"), ("phys_state", "physical_state_id")):
        if found := _STATE.match(read_if_there(f"{folder}/{field}") or ""):
            yield Sample(f"node_infiniband_{name}", labels, int(found[1]))
    if found := _RATE.match(read_if_there(f"{folder}/rate") or ""):
        rate = int(float(found[1]) * _GIGABIT_BYTES)
        yield Sample("node_infiniband_rate_bytes_per_second", labels, rate)
    for below, table in (("counters", _COUNTERS), ("hw_counters", _HARDWARE)):
        for field in names(f"{folder}/{below}"):
            if field not in table:
                continue
            value = integer(read_if_there(f"{folder}/{below}/{field}") or "")
            if value is not None:
                unit = 4 if field in _WORDS else 1
                yield Sample(f"node_infiniband_{table[field]}", labels, value * unit)
