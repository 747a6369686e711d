"""The instrument of an alert: what the alert observes, as its label `instrument` declares.

The remediator counts independent signals by instrument. Pure.
"""

from __future__ import annotations

from enum import StrEnum

LABEL = "instrument"


class Instrument(StrEnum):
    """The valid values of the label `instrument`."""

    DRIVER = "driver"
    KERNEL_LOG = "kernel_log"
    PEERS = "peers"
    LIVENESS = "liveness"
    STALENESS = "staleness"
    EXPORTER = "exporter"
    NODE = "node"
    JOB = "job"
    SERVICE = "service"
    PIPELINE = "pipeline"
    CAPACITY = "capacity"
    MONITORING = "monitoring"


_EXPORTER_FAULT = "an unavailable exporter"

# The source of each instrument's signals, in words for people. Instruments with the same source share a
# fault: this fault alone can raise alerts of each of them, so all these alerts are one signal.
SOURCES: dict[Instrument, str] = {
    Instrument.DRIVER: "the GPU's driver",
    Instrument.KERNEL_LOG: "the kernel log",
    Instrument.PEERS: "a comparison with peers",
    Instrument.LIVENESS: _EXPORTER_FAULT,
    Instrument.STALENESS: _EXPORTER_FAULT,
    Instrument.EXPORTER: _EXPORTER_FAULT,
    Instrument.NODE: "the node's metrics",
    Instrument.JOB: "the job",
    Instrument.SERVICE: "the service",
    Instrument.PIPELINE: "the data pipeline",
    Instrument.CAPACITY: "demand and capacity",
    Instrument.MONITORING: "the monitoring itself",
}
# The source of all alerts without a valid label `instrument`.
UNKNOWN_SOURCE = "an alert from an unknown source"
# One exporter reads these for a GPU. They are independent only if the inventory identifies the GPU; otherwise
# the exporter may report another machine's GPU.
OF_ONE_EXPORTER = frozenset({Instrument.DRIVER, Instrument.KERNEL_LOG, Instrument.PEERS})


def source(label: str) -> str:
    """Return the source of the signals of an alert, given the value of its label `instrument`."""
    try:
        return SOURCES[Instrument(label)]
    except ValueError:
        return UNKNOWN_SOURCE
