"""The host collectors, in the order of the metrics page. Their metrics are compatible with node_exporter's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from exporter.collector import Collector
from exporter.collector_spec import CollectorContext, CollectorSpec, Flag
from exporter.collectors import diskstats, filesystem, kernel_modules, netdev, systemd
from exporter.collectors.bonding import Bonding
from exporter.collectors.clock import Time, Timex
from exporter.collectors.conntrack import Conntrack
from exporter.collectors.cpu import Cpu, CpuThrottles
from exporter.collectors.edac import Edac
from exporter.collectors.filefd import Filefd
from exporter.collectors.infiniband import Infiniband
from exporter.collectors.loadavg import Loadavg
from exporter.collectors.mdadm import Mdadm
from exporter.collectors.meminfo import Meminfo
from exporter.collectors.mountstats import Mountstats
from exporter.collectors.netclass import Netclass
from exporter.collectors.netstat import Netstat
from exporter.collectors.nfs import Nfs
from exporter.collectors.nvme import Nvme
from exporter.collectors.pci_aer import PciAer
from exporter.collectors.pressure import Pressure
from exporter.collectors.processes import Processes
from exporter.collectors.softnet import Softnet
from exporter.collectors.stat import Stat
from exporter.collectors.system_info import OsRelease, Uname
from exporter.collectors.vmstat import Vmstat
from fleetmedic.kernel.errors import UserError


def _proc(name: str, summary: str, kind: Callable[[Path], Collector]) -> CollectorSpec:
    return CollectorSpec(name, summary, lambda parts: kind(parts.procfs))


def _sys(name: str, summary: str, kind: Callable[[Path], Collector]) -> CollectorSpec:
    return CollectorSpec(name, summary, lambda parts: kind(parts.sysfs))


def _flag_pattern(parts: CollectorContext, flag: str, default: str) -> re.Pattern[str]:
    """Return the compiled regular expression of a flag. Raises UserError if it is invalid."""
    text = str(parts.flags.get(flag) or default)
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"--{flag}: invalid regular expression {text[:80]!r} ({error}).") from None


_DISABLE = "collector.disable-host"
_OURS_ALONE = frozenset({"pci_aer", "kernel_modules"})  # node_exporter has none of their families
_ROOTFS = "path.rootfs"
_DISKS = "collector.diskstats.device-exclude"
_MOUNTS = "collector.filesystem.mount-points-exclude"
_TYPES = "collector.filesystem.fs-types-exclude"
_NETDEV = "collector.netdev.device-exclude"
_NETCLASS = "collector.netclass.ignored-devices"
_UNITS = "collector.systemd.unit-include"
_MODULES = "collector.kernel_modules.names"


def _filesystem(parts: CollectorContext) -> Collector:
    return filesystem.Filesystem(
        parts.procfs,
        _rootfs(parts),
        _flag_pattern(parts, _MOUNTS, filesystem.MOUNTS_EXCLUDE),
        _flag_pattern(parts, _TYPES, filesystem.TYPES_EXCLUDE),
    )


def _rootfs(parts: CollectorContext) -> Path:
    return Path(parts.flags.get(_ROOTFS) or "/")


def _modules(parts: CollectorContext) -> Collector:
    modules = str(parts.flags.get(_MODULES) or kernel_modules.MODULES).split(",")
    names = [name.strip().replace("-", "_") for name in modules]
    if bad := next((name for name in names if not re.fullmatch(r"\w{1,64}", name)), None):
        raise UserError(
            f"--{_MODULES}: expected module names separated by commas, got {bad[:80]!r}."
        )
    return kernel_modules.KernelModules(parts.sysfs, names)


def _regex(name: str, help_text: str, default: str) -> tuple[Flag, ...]:
    return (Flag(name, help_text, str, default),)


def _off_if_disabled(entry: CollectorSpec) -> CollectorSpec:
    """Return the specification of a collector that --collector.disable-host disables.

    Collectors without an equivalent in node_exporter stay enabled.
    """

    def make(parts: CollectorContext) -> Collector | None:
        if parts.flags.get(_DISABLE) and entry.name not in _OURS_ALONE:
            return None
        return entry.make(parts)

    return replace(entry, make=make)


_ALL: tuple[CollectorSpec, ...] = (
    CollectorSpec(
        "cpu",
        "CPU time in each mode",
        lambda p: Cpu(p.procfs),
        flags=(
            Flag(
                _DISABLE,
                "Disable the collectors that node_exporter also provides. Use this on nodes that run node_exporter.",
                bool,
                False,
            ),
        ),
    ),
    _sys("cpu_throttles", "thermal throttling of CPUs", CpuThrottles),
    _proc("loadavg", "load average", Loadavg),
    _proc("meminfo", "memory", Meminfo),
    _proc("vmstat", "paging, swapping, OOM kills", Vmstat),
    _proc("pressure", "pressure stall information (PSI) of CPU, memory and I/O", Pressure),
    CollectorSpec(
        "stat", "interrupts, context switches, boot time", lambda p: Stat(p.procfs, p.boot)
    ),
    _proc("processes", "processes by state, and uninterruptible processes by command", Processes),
    _proc("filefd", "file descriptors", Filefd),
    CollectorSpec(
        "diskstats",
        "disk reads and writes",
        lambda p: diskstats.Diskstats(p.procfs, _flag_pattern(p, _DISKS, diskstats.EXCLUDE)),
        flags=_regex(_DISKS, "Regular expression for the disks to exclude.", diskstats.EXCLUDE),
    ),
    _sys("nvme", "NVMe controllers and their state", Nvme),
    _proc("mdadm", "software RAID", Mdadm),
    CollectorSpec(
        "filesystem",
        "file system space and inodes",
        _filesystem,
        flags=(
            Flag(_ROOTFS, "Mount point of the host's root file system.", Path, Path("/")),
            Flag(
                _MOUNTS,
                "Regular expression for the mount points to exclude.",
                str,
                filesystem.MOUNTS_EXCLUDE,
            ),
            Flag(
                _TYPES,
                "Regular expression for the file system types to exclude.",
                str,
                filesystem.TYPES_EXCLUDE,
            ),
        ),
    ),
    _proc("nfs", "calls of the NFS client", Nfs),
    _proc("mountstats", "calls, bytes and timeouts of each NFS mount", Mountstats),
    CollectorSpec(
        "netdev",
        "traffic and errors of network interfaces",
        lambda p: netdev.Netdev(p.procfs, _flag_pattern(p, _NETDEV, netdev.EXCLUDE)),
        flags=_regex(_NETDEV, "Regular expression for the interfaces to exclude.", netdev.EXCLUDE),
    ),
    CollectorSpec(
        "netclass",
        "state and speed of network interfaces",
        lambda p: Netclass(p.sysfs, _flag_pattern(p, _NETCLASS, netdev.EXCLUDE)),
        flags=_regex(
            _NETCLASS, "Regular expression for the interfaces to exclude.", netdev.EXCLUDE
        ),
    ),
    _sys("bonding", "bonded network interfaces", Bonding),
    _sys("infiniband", "InfiniBand and RoCE ports", Infiniband),
    _proc("netstat", "TCP and UDP traffic, retransmissions and errors", Netstat),
    _proc("softnet", "packets processed and dropped by CPUs", Softnet),
    _proc("conntrack", "connection tracking table", Conntrack),
    _sys("edac", "host memory errors (EDAC)", Edac),
    _sys("pci_aer", "PCIe errors of GPUs and network cards", PciAer),
    _sys("timex", "clock synchronisation (NTP/PTP) and offset", Timex),
    CollectorSpec("time", "current time of the node", lambda _: Time()),
    CollectorSpec(
        "systemd",
        "states of the systemd units that a GPU node needs",
        lambda p: systemd.Systemd(_flag_pattern(p, _UNITS, systemd.INCLUDE)),
        flags=_regex(
            _UNITS,
            "Regular expression for the systemd units to export. It must match the whole name.",
            systemd.INCLUDE,
        ),
    ),
    CollectorSpec(
        "kernel_modules",
        "kernel modules that GPU jobs need",
        _modules,
        flags=(
            Flag(
                _MODULES,
                "Comma-separated names of kernel modules to export.",
                str,
                kernel_modules.MODULES,
            ),
        ),
    ),
    _proc("uname", "kernel release and architecture", Uname),
    CollectorSpec("os", "operating system distribution", lambda p: OsRelease(_rootfs(p))),
)

HOST: tuple[CollectorSpec, ...] = tuple(_off_if_disabled(entry) for entry in _ALL)
