"""The registry of allocation sources, in reading order, and their settings."""

from __future__ import annotations

from pathlib import Path

from exporter.collector_spec import CollectorContext, Flag
from exporter.owners.base import HoldingSource
from exporter.owners.claims import ClaimOwners
from exporter.owners.kubelet import KubeletOwners
from exporter.owners.local import LocalOwners
from exporter.owners.pods import Pods
from exporter.owners.processes import SERVICES
from exporter.owners.slurm import SlurmNotes, SlurmSteps

_KUBELET = "collector.allocation.kubelet-dir"
_LOGS = "collector.allocation.pod-logs"
_RESOURCES = "collector.allocation.resources"
_NOTES = "collector.allocation.slurm-jobs"
_SERVICES = "collector.allocation.services"

OWNER_FLAGS: tuple[Flag, ...] = (
    Flag(
        _KUBELET,
        "Directory of the kubelet, with its device checkpoint and resource claim state.",
        Path,
        "/var/lib/kubelet",
    ),
    Flag(
        _LOGS,
        "Directory of the pods' logs, from which the exporter reads pod names.",
        Path,
        "/var/log/pods",
    ),
    Flag(
        _RESOURCES,
        "Comma-separated names of GPU resources. A trailing * matches any suffix.",
        str,
        "nvidia.com/gpu,nvidia.com/mig-*",
    ),
    Flag(
        _NOTES,
        "Directory with one file per GPU that lists the GPU's Slurm jobs, one per line.",
        Path,
        "/run/fleetmedic/slurm-jobs",
    ),
    Flag(
        _SERVICES,
        "Comma-separated names of programs that may use GPUs without an allocation.",
        str,
        ",".join(SERVICES),
    ),
)


def owners(parts: CollectorContext) -> tuple[HoldingSource, ...]:
    """Return the allocation sources of this exporter.

    Each source checks at every read whether the node has its scheduler. For simulated GPUs, the
    schedulers of this machine are not read.
    """
    flags = {flag.name: parts.flags.get(flag.name) or flag.default for flag in OWNER_FLAGS}
    local = (LocalOwners(parts.cluster_dir, parts.node),) if parts.cluster_dir else ()
    if parts.simulated:
        return local
    kubelet = Path(flags[_KUBELET])
    pods = Pods(kubelet, Path(flags[_LOGS]), parts.sysfs / "fs" / "cgroup")
    return (
        *local,
        KubeletOwners(kubelet, pods, _names(flags[_RESOURCES])),
        ClaimOwners(kubelet, pods),
        SlurmNotes(Path(flags[_NOTES])),
        SlurmSteps(parts.procfs, parts.sysfs, parts.node),
    )


def services(parts: CollectorContext) -> tuple[str, ...]:
    """Return the names of programs that may use GPUs without an allocation."""
    return _names(str(parts.flags.get(_SERVICES) or ",".join(SERVICES)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))
