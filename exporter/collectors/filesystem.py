"""Space and state of mounted file systems. A mount that does not answer costs itself alone."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator

import psutil

from exporter.exposition import Sample

MAX_MOUNTS = 200
STAT_DEADLINE = 2.0
_IGNORED_TYPES = frozenset(
    [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "iso9660",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
    ]
)
_IGNORED_MOUNTS = re.compile(
    r"/(dev|proc|sys|run/credentials|run/user|var/lib/(docker|containerd|containers|kubelet))(/|$)"
)
_NETWORK = re.compile(r"nfs|cifs|smb|lustre|ceph|fuse|beegfs|gpfs|9p|glusterfs|wekafs")


def _statvfs(mountpoint: str) -> os.statvfs_result:
    return os.statvfs(mountpoint)


class Filesystem:
    """Asks each mount; those of a network in a thread of their own, which may hang and is then
    not asked again until it comes back."""

    name = "filesystem"
    inline = False
    interval = 15.0

    def __init__(self, stat: Callable[[str], os.statvfs_result] = _statvfs) -> None:
        self._stat = stat
        self._stuck: dict[str, threading.Thread] = {}

    def collect(self, now: float) -> Iterator[Sample]:
        seen: set[str] = set()
        for mount in psutil.disk_partitions(all=True)[:2000]:
            if mount.mountpoint in seen or _ignored(mount.fstype, mount.mountpoint):
                continue
            if len(seen) >= MAX_MOUNTS:
                return
            seen.add(mount.mountpoint)
            key = (mount.device, mount.fstype, mount.mountpoint)
            status = self._ask(mount.mountpoint, network=bool(_NETWORK.match(mount.fstype)))
            yield Sample("node_filesystem_device_error", key, status is None)
            if status is not None:
                yield from _samples(key, status)

    def _ask(self, mountpoint: str, *, network: bool) -> os.statvfs_result | None:
        if not network:
            return self._try(mountpoint)
        if mountpoint in self._stuck:
            if self._stuck[mountpoint].is_alive():
                return None
            del self._stuck[mountpoint]
        answers: list[os.statvfs_result | None] = []
        thread = threading.Thread(
            target=lambda: answers.append(self._try(mountpoint)), name="statvfs", daemon=True
        )
        thread.start()
        thread.join(STAT_DEADLINE)
        if thread.is_alive():
            self._stuck[mountpoint] = thread
        return answers[0] if answers else None

    def _try(self, mountpoint: str) -> os.statvfs_result | None:
        try:
            return self._stat(mountpoint)
        except OSError:
            return None


def _ignored(fstype: str, mountpoint: str) -> bool:
    if fstype in _IGNORED_TYPES or _IGNORED_MOUNTS.match(mountpoint):
        return True
    return fstype == "overlay" and mountpoint != "/"


def _samples(key: tuple[str, str, str], status: os.statvfs_result) -> Iterator[Sample]:
    size = status.f_frsize
    yield Sample("node_filesystem_size_bytes", key, status.f_blocks * size)
    yield Sample("node_filesystem_free_bytes", key, status.f_bfree * size)
    yield Sample("node_filesystem_avail_bytes", key, status.f_bavail * size)
    yield Sample("node_filesystem_files", key, status.f_files)
    yield Sample("node_filesystem_files_free", key, status.f_ffree)
    yield Sample("node_filesystem_readonly", key, bool(status.f_flag & os.ST_RDONLY))
