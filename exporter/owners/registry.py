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
        "Folder of the kubelet, with its device checkpoint and claim state.",
        Path,
        "/var/lib/kubelet",
    ),
    Flag(
        _LOGS,
        "Folder with the pods' log folders, from which pod names are read.",
        Path,
        "/var/log/pods",
    ),
    Flag(
        _RESOURCES,
        "Names of GPU resources, separated by commas; a trailing * matches any suffix.",
        str,
        "nvidia.com/gpu,nvidia.com/mig-*",
    ),
    Flag(
        _NOTES,
        "Folder with a file for each GPU that lists its Slurm jobs, one per line.",
        Path,
        "/run/fleetmedic/slurm-jobs",
    ),
    Flag(
        _SERVICES,
        "Programs that may use GPUs without holding them, separated by commas.",
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
    """Return the programs that may use GPUs without an allocation."""
    return _names(str(parts.flags.get(_SERVICES) or ",".join(SERVICES)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))
