"""The collectors, in the order of the page. Read by the composition root alone.

A new collector is one file in collectors/, its families in catalogue.yml, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.board import Board, Intervals
from exporter.boot import BootReader
from exporter.collectors.allocation import Allocation
from exporter.collectors.base import Collector
from exporter.collectors.filesystem import Filesystem
from exporter.collectors.gpu_health import GpuHealth
from exporter.collectors.gpu_load import GpuLoad
from exporter.collectors.gpu_presence import GpuPresence
from exporter.collectors.host import Host
from exporter.collectors.network import Network
from exporter.collectors.progress import Progress
from exporter.collectors.xid import XidErrors
from exporter.kmsg import KmsgReader
from exporter.xid_ledger import Ledger
from fleetmedic.kernel.registry import Registry


@dataclass(frozen=True, slots=True)
class Parts:
    """What collectors are made of. A folder that is None was not given."""

    board: Board
    intervals: Intervals
    boot: BootReader
    procfs: Path
    kmsg: Path
    state_dir: Path
    node: str
    cluster_dir: Path | None
    progress_dir: Path | None
    has_gpus: bool
    log: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Entry:
    """How a collector is made; None when this exporter was given nothing for it to read."""

    name: str
    summary: str
    make: Callable[[Parts], Collector | None]


def _xid(parts: Parts) -> Collector | None:
    if not parts.has_gpus:
        return None
    ledger = Ledger(parts.state_dir / "xid.json")
    return XidErrors(parts.board, KmsgReader(parts.kmsg), parts.boot, ledger, parts.log)


COLLECTORS = Registry(
    "collector",
    (
        Entry("gpu_presence", "GPUs present, lost, hung", lambda p: GpuPresence(p.board)),
        Entry(
            "gpu_load",
            "GPU load, clocks, power, temperature",
            lambda p: GpuLoad(p.board, p.intervals) if p.has_gpus else None,
        ),
        Entry(
            "gpu_health",
            "ECC errors and row remaps",
            lambda p: GpuHealth(p.board, p.intervals) if p.has_gpus else None,
        ),
        Entry("xid", "XID errors in the kernel log", _xid),
        Entry(
            "allocation",
            "which job holds which GPU",
            lambda p: Allocation(p.cluster_dir, p.node) if p.cluster_dir else None,
        ),
        Entry(
            "progress",
            "training jobs' own reports",
            lambda p: Progress(p.progress_dir) if p.progress_dir else None,
        ),
        Entry("host", "processor, memory, load, boot", lambda p: Host(p.procfs, p.boot)),
        Entry("filesystem", "space of file systems", lambda _: Filesystem()),
        Entry("network", "network interfaces", lambda _: Network()),
    ),
)
