"""Finds the pods on this node and their names, from cgroups and the kubelet's files.

A starting or running pod has a cgroup; an ended pod has none. The kubelet directory of an ended
pod, and its entry in the device checkpoint, may remain until they are cleaned up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exporter.owners import bounded
from exporter.owners.base import text

MAX_PODS = 4096
UID = re.compile(r"[0-9a-zA-Z-]{1,64}")
_HIERARCHIES = ("", "systemd", "memory", "cpu")  # version 2, or a controller of version 1
_TOPS = ("kubepods.slice", "kubepods")  # created by systemd, or by the kubelet itself
_CLASS = re.compile(r"(?:kubepods-)?(?:burstable|besteffort)(?:\.slice)?")
_POD = re.compile(r"(?:kubepods-)?(?:burstable-|besteffort-)?pod([0-9a-zA-Z_-]{1,64})(?:\.slice)?")
_LOGS = re.compile(r"([^_]{1,63})_([^_]{1,253})_([0-9a-zA-Z-]{1,64})")


class Pods:
    """The pods on this node.

    `root` is the kubelet's directory, `logs` the parent of the pods' log directories, and `cgroup`
    the mount point of the cgroups.
    """

    def __init__(self, root: Path, logs: Path, cgroup: Path) -> None:
        self._root = root
        self._logs = logs
        self._cgroup = cgroup

    def alive(self) -> set[str] | None:
        """Return the UIDs of the pods that have not ended; None if this cannot be determined."""
        for hierarchy in _HIERARCHIES:
            for top in _TOPS:
                try:
                    return set(_uids(self._cgroup / hierarchy / top))
                except OSError:
                    continue
        try:
            return set(bounded.names(self._root / "pods", MAX_PODS))
        except OSError:
            return None

    def names(self) -> dict[str, tuple[str, str]]:
        """Return namespace and name of each pod that has a log directory, by UID."""
        try:
            folders = bounded.names(self._logs, MAX_PODS)
        except OSError:
            return {}
        found = (_LOGS.fullmatch(folder) for folder in folders)
        return {match[3]: (text(match[1]), text(match[2])) for match in found if match}


def _uids(top: Path) -> Iterator[str]:
    """Yield the pod UIDs in a top-level cgroup: guaranteed pods first, then the pods of other QoS
    classes."""
    classes = []
    for name in bounded.names(top, MAX_PODS):
        if _CLASS.fullmatch(name):
            classes.append(top / name)
        elif match := _POD.fullmatch(name):
            yield match[1].replace("_", "-")
    for folder in classes:
        for name in bounded.names(folder, MAX_PODS):
            if match := _POD.fullmatch(name):
                yield match[1].replace("_", "-")
