"""The registry of collectors, in the order of the metrics page. Only the composition root reads it.

To add a collector, add one file in collectors/, its families in catalogue.yml, and one line here.
"""

from __future__ import annotations

from pathlib import Path

from exporter.catalogue import catalogue
from exporter.collector import Collector
from exporter.collector_spec import CollectorContext, CollectorSpec, Flag
from exporter.collectors.allocation import AllocationCollector
from exporter.collectors.gpu import GpuReadings
from exporter.collectors.gpu_action import GpuAction
from exporter.collectors.gpu_presence import GpuPresence
from exporter.collectors.kernel_events import KernelEvents
from exporter.collectors.progress import ProgressCollector
from exporter.collectors.textfile import Textfile
from exporter.collectors.xid import XidErrors
from exporter.host_collectors import HOST
from exporter.owners.registry import OWNER_FLAGS, owners, services
from exporter.reports.cluster import LocalJobs
from exporter.sources.base import Group
from exporter.web.counters import WebCollector
from exporter.xids.kernel_log import KernelLog
from exporter.xids.kmsg import KmsgReader
from exporter.xids.xid_catalogue import Codes
from exporter.xids.xid_ledger import XidLedger
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.registry import Registry
from fleetmedic.progress.process import INITIAL_NAMESPACE, pid_namespace

_PER_PROCESS = Flag(
    "gpu.processes",
    "Export memory and SM utilisation of each GPU process. This adds series for each process.",
    bool,
    False,
)
_OF_A_PROCESS = frozenset({"gpu_process_memory_bytes", "gpu_process_sm_ratio"})


def _gpu(group: Group, summary: str, flags: tuple[Flag, ...] = ()) -> CollectorSpec:
    def make(parts: CollectorContext) -> Collector | None:
        if not parts.has_gpus:
            return None
        hidden = frozenset() if parts.flags.get(_PER_PROCESS.name) else _OF_A_PROCESS
        return GpuReadings(parts.gpu_states, group, parts.intervals[group], hidden)

    return CollectorSpec(f"gpu_{group}", summary, make, flags=flags)


_SOCKET = Flag(
    "progress.socket",
    "Path of a Unix socket that the exporter creates for the progress reports of jobs without access to "
    "--progress.dir.",
    Path,
)


_TEXTFILES = Flag(
    "collector.textfile.directory",
    "Directory, or glob pattern of directories, with *.prom files to export. Can be repeated.",
    str,
    many=True,
)


def _textfile(parts: CollectorContext) -> Collector | None:
    folders = parts.flags.get(_TEXTFILES.name) or ()
    return Textfile(folders, catalogue(), parts.log) if folders else None


def _progress(parts: CollectorContext) -> Collector | None:
    socket = parts.flags.get(_SOCKET.name)
    if socket is None and parts.progress_dir is None:
        return None
    cluster = LocalJobs(parts.cluster_dir, parts.node) if parts.cluster_dir else None
    return ProgressCollector(parts.progress_dir, socket, cluster)


def _allocation(parts: CollectorContext) -> Collector | None:
    if not parts.has_gpus:
        return None
    unseen = not parts.simulated and pid_namespace() not in (0, INITIAL_NAMESPACE)
    if unseen:
        parts.log(
            "unowned_processes_unknown",
            why="in a container, the driver reports only the container's own processes",
        )
    return AllocationCollector(
        parts.gpu_states, owners(parts), parts.procfs, services(parts), parts.log, unseen=unseen
    )


def kernel_log(parts: CollectorContext) -> KernelLog:
    """Create the shared reader of the kernel log. Raises UserError for invalid overrides."""
    if "kernel_log" not in parts.shared:
        codes = Codes.of_site(parts.flags.get("collector.xid.overrides"))
        ledger = XidLedger(parts.state_dir / "xid.json", codes)
        try:
            lookback = parse_duration(parts.flags.get("collector.xid.lookback") or "1h")
        except UserError as error:
            raise UserError(f"--collector.xid.lookback: {error}") from None
        parts.shared["kernel_log"] = KernelLog(
            parts.gpu_states, KmsgReader(parts.kmsg), parts.boot, ledger, parts.log, lookback
        )
    found: KernelLog = parts.shared["kernel_log"]
    return found


__all__ = ["COLLECTORS", "CollectorContext", "CollectorSpec", "Flag"]

_XID_FLAGS = (
    Flag(
        "collector.xid.overrides",
        "YAML file with your overrides of the severities and actions of XIDs and SXIDs.",
        Path,
    ),
    Flag(
        "collector.xid.lookback",
        "Time for which an XID affects the recommended action.",
        str,
        "1h",
    ),
)


COLLECTORS = Registry(
    "collector",
    (
        CollectorSpec(
            "gpu_presence",
            "number of present, lost and hung GPUs",
            lambda p: GpuPresence(p.gpu_states),
        ),
        _gpu("load", "GPU load, clocks, power, temperature"),
        _gpu("gpm", "GPU profiling metrics: activity of SMs, pipes and links (Hopper and later)"),
        _gpu("health", "ECC errors, row remaps, the driver's recommended action"),
        _gpu("links", "NVLink and PCIe: state, errors, bytes"),
        _gpu("mig", "MIG partitions of GPUs"),
        _gpu("processes", "processes that use GPUs", (_PER_PROCESS,)),
        _gpu("limits", "GPU limits, thresholds and modes"),
        CollectorSpec(
            "xid",
            "XID errors, from the kernel log and the driver's events",
            lambda p: XidErrors(p.gpu_states, kernel_log(p)) if p.has_gpus else None,
            flags=_XID_FLAGS,
        ),
        CollectorSpec(
            "gpu_action",
            "recommended action for each GPU",
            lambda p: GpuAction(p.gpu_states, kernel_log(p)) if p.has_gpus else None,
        ),
        CollectorSpec(
            "kernel_events",
            "host events in the kernel log: OOM kills, lockups, machine checks, PCIe, disks, NFS",
            lambda p: KernelEvents(kernel_log(p)),
        ),
        CollectorSpec(
            "allocation",
            "jobs to which each GPU is allocated, and processes that use a GPU without an allocation",
            _allocation,
            flags=OWNER_FLAGS,
        ),
        CollectorSpec(
            "progress",
            "progress reports of jobs, pipelines and servers",
            _progress,
            flags=(_SOCKET,),
        ),
        CollectorSpec(
            "textfile",
            "metrics from *.prom files of other programs",
            _textfile,
            flags=(_TEXTFILES,),
        ),
        *HOST,
        CollectorSpec(
            "web",
            "HTTP requests to this exporter, authentication failures, web configuration reloads",
            lambda p: WebCollector(p.shared["web"]) if "web" in p.shared else None,
        ),
    ),
)
