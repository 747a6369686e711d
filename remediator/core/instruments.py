"""Classify alerts by their source (their instrument), to count independent signals.

Several alerts of one instrument count as one signal. All alerts that one unavailable exporter can cause
also count as one signal.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from fleetmedic.kernel.labels import TargetKind


class Instrument(StrEnum):
    """The source of a signal, with its human-readable name."""

    EXPORTER = "an unavailable exporter"
    DRIVER = "the GPU's driver"
    KERNEL_LOG = "the kernel log"
    PEERS = "a comparison with peers"
    NODE = "the node's metrics"
    JOB = "the job"
    UNLISTED = "an alert from an unknown source"


# Liveness, staleness and failures of collectors: an exporter that died explains each of them.
_EXPORTER = frozenset(
    {
        "NodeDown",
        "NodeExporterDown",
        "NodeMassOutage",
        "ExporterDataStale",
        "ExporterCollectorFailing",
        "ExporterAllocationUnknown",
        "ExporterKernelLogDropped",
        "GpuCountMismatch",
        "TargetDown",
    }
)
_KERNEL_LOG = frozenset(
    {
        "GpuXidFatalHardware",
        "GpuXidApplicationRepeated",
        "GpuXidContained",
        "GpuXidStorm",
        "NodeKernelFault",
        "NodeOomKill",
        "NodePcieErrors",
        "NodeHardwareMemoryErrors",
    }
)
_PEERS = frozenset(
    {"GpuPeerOutlier", "GpuAnomalyScoreHigh", "GpuSlowerThanPeers", "TrainingStraggler"}
)
# Instruments that one exporter reads about one GPU: independent only if the GPU is identified.
_OF_ONE_EXPORTER = frozenset({Instrument.DRIVER, Instrument.KERNEL_LOG, Instrument.PEERS})

# Alerts about an event: they fire for a while after it and do not show the current state.
EVENTS = frozenset(
    {
        "GpuXidFatalHardware",
        "GpuXidApplicationRepeated",
        "GpuXidContained",
        "GpuXidStorm",
        "GpuEccUncorrectable",
        "NodeOomKill",
        "NodeKernelFault",
        "NodeRebootUnexpected",
    }
)
# The target does not work at all, so its quarantine costs no capacity. GpuLost is not listed for nodes,
# because the node's other GPUs still work.
LOST_OR_HUNG = {
    TargetKind.GPU: frozenset({"GpuLost", "GpuHung"}),
    TargetKind.NODE: frozenset({"NodeDown"}),
}


def instrument(alertname: str) -> Instrument:
    """Return the instrument of an alert, given the alert's name."""
    if alertname in _EXPORTER:
        return Instrument.EXPORTER
    if alertname in _KERNEL_LOG:
        return Instrument.KERNEL_LOG
    if alertname in _PEERS:
        return Instrument.PEERS
    for prefix, found in (
        ("Exporter", Instrument.EXPORTER),
        ("Gpu", Instrument.DRIVER),
        ("Node", Instrument.NODE),
        ("Training", Instrument.JOB),
        ("Inference", Instrument.JOB),
    ):
        if alertname.startswith(prefix):
            return found
    return Instrument.UNLISTED


def signals(alertnames: Iterable[str], *, identified: bool) -> frozenset[str]:
    """Return the independent signals (instruments) among these alerts.

    `identified`: the inventory confirmed the alert's node and UUID. If not, the exporter may report
    another machine's GPU, so all its alerts about the GPU count as one signal.
    """
    found = {instrument(name) for name in alertnames}
    if not identified and found & _OF_ONE_EXPORTER:
        found = (found - _OF_ONE_EXPORTER) | {Instrument.DRIVER}
    return frozenset(map(str, found))
