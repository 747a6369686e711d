"""Exports the space and state of mounted file systems. A hung mount does not affect the others."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import read, read_if_there

MAX_MOUNTS = 200
MAX_LINES = 5000
STAT_DEADLINE = 2.0
TYPES_EXCLUDE = (
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs"
    r"|iso9660|mqueue|nsfs|proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
)
MOUNTS_EXCLUDE = (
    r"^/(dev|proc|sys|run/credentials|run/user|var/lib/(docker|containerd|containers|kubelet))(/|$)"
)
_NETWORK = re.compile(r"nfs|cifs|smb|lustre|ceph|fuse|beegfs|gpfs|9p|glusterfs|wekafs")
_ESCAPE = re.compile(r"\\([0-7]{3})")

Key = tuple[str, str, str]


def _statvfs(mountpoint: str) -> os.statvfs_result:
    return os.statvfs(mountpoint)


class Filesystem:
    """Calls statvfs(2) for each mount of `procfs`/1/mounts below `rootfs`.

    Each network mount has its own thread, because the call may hang. The next call starts only
    after the previous call has returned. Mounts that match `mounts` or `types`, and container
    overlays, are excluded.
    """

    name = "filesystem"
    inline = False
    interval = 15.0

    def __init__(
        self,
        procfs: Path,
        rootfs: Path,
        mounts: re.Pattern[str],
        types: re.Pattern[str],
        stat: Callable[[str], os.statvfs_result] = _statvfs,
    ) -> None:
        self._procfs = procfs
        self._rootfs = "" if str(rootfs) == "/" else str(rootfs)
        self._mounts = mounts
        self._types = types
        self._stat = stat
        self._stuck: dict[str, threading.Thread] = {}

    def collect(self, now: float) -> Iterator[Sample]:
        seen: set[str] = set()
        for key in self._listed():
            _, fstype, mountpoint = key
            if mountpoint in seen or self._ignored(fstype, mountpoint):
                continue
            if len(seen) >= MAX_MOUNTS:
                return
            seen.add(mountpoint)
            status = self._ask(mountpoint, network=bool(_NETWORK.match(fstype)))
            yield Sample("node_filesystem_device_error", key, status is None)
            if status is not None:
                yield from _samples(key, status)

    def _listed(self) -> Iterator[Key]:
        text = read_if_there(self._procfs / "1/mounts") or read(self._procfs / "self/mounts")
        lines = text.splitlines()
        mounts_read = [words for words in map(str.split, lines[:MAX_LINES]) if len(words) >= 4]
        if lines and not mounts_read:
            raise CollectorError(f"{self._procfs}/1/mounts: expected a list of mounts")
        for device, mountpoint, fstype, *_ in mounts_read:
            inside = _unescaped(mountpoint)
            if self._rootfs:
                if not f"{inside}/".startswith(f"{self._rootfs}/"):
                    continue
                inside = inside.removeprefix(self._rootfs) or "/"
            yield _unescaped(device), fstype, inside

    def _ignored(self, fstype: str, mountpoint: str) -> bool:
        if self._types.search(fstype) or self._mounts.search(mountpoint):
            return True
        return fstype == "overlay" and mountpoint != "/"

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
            return self._stat(f"{self._rootfs}{mountpoint}")
        except (OSError, ValueError):
            return None


def _unescaped(text: str) -> str:
    """Return a mount path with the kernel's octal escapes, such as \040 for a space, decoded."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _samples(key: Key, status: os.statvfs_result) -> Iterator[Sample]:
    size = status.f_frsize
    yield Sample("node_filesystem_size_bytes", key, status.f_blocks * size)
    yield Sample("node_filesystem_free_bytes", key, status.f_bfree * size)
    yield Sample("node_filesystem_avail_bytes", key, status.f_bavail * size)
    yield Sample("node_filesystem_files", key, status.f_files)
    yield Sample("node_filesystem_files_free", key, status.f_ffree)
    yield Sample("node_filesystem_readonly", key, bool(status.f_flag & os.ST_RDONLY))
