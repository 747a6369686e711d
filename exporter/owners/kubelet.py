"""Which pod holds which GPU, from the kubelet's own checkpoint of its device manager.

The file is what the kubelet reads back after a restart, so nothing has to be asked of it. It names pods
by uid; their names are those of the folders in which the kubelet keeps their logs
(NAMESPACE_NAME_UID). An entry of a pod that has ended may stay until the next pod is started: the pod's
own folder tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from exporter.collectors.base import CollectorError
from exporter.owners import bounded
from exporter.owners.base import Holding, text

MAX_BYTES = 8 * 2**20
MAX_PODS = 4096
CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"
_UID = re.compile(r"[0-9a-zA-Z-]{1,64}")
_LOGS = re.compile(r"([^_]{1,63})_([^_]{1,253})_([0-9a-zA-Z-]{1,64})")
_SHARE = re.compile(r"::\d+$")
_MINOR = re.compile(r"nvidia(\d{1,3})(?:/.*)?")


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    pod_u_i_d: str = msgspec.field(name="PodUID", default="")
    container_name: str = ""
    resource_name: str = ""
    # a list up to Kubernetes 1.19, by NUMA node since
    device_i_ds: Any = msgspec.field(name="DeviceIDs", default=None)


class _Data(msgspec.Struct, frozen=True):
    entries: list[_Entry] | None = msgspec.field(name="PodDeviceEntries", default=None)


class _File(msgspec.Struct, frozen=True):
    data: _Data = msgspec.field(name="Data")


class KubeletOwners:
    """`root` is the kubelet's folder, `logs` the one with a folder of logs for each pod."""

    name = "kubelet"

    def __init__(self, root: Path, logs: Path, resources: tuple[str, ...]) -> None:
        self._root = root
        self._logs = logs
        self._resources = resources

    def here(self) -> bool:
        return (self._root / CHECKPOINT).exists()

    def holdings(self, now: float) -> Iterator[Holding]:
        entries = self._entries()
        if not entries:
            return
        alive, names = self._alive(), self._names()
        for entry in entries:
            uid = entry.pod_u_i_d
            if not _UID.fullmatch(uid) or (alive is not None and uid not in alive):
                continue
            namespace, pod = names.get(uid, ("", ""))
            for gpu in gpus(entry.device_i_ds):
                yield Holding(
                    gpu, f"pod:{uid}", namespace=namespace, pod=pod,
                    container=text(entry.container_name),
                )  # fmt: skip

    def _entries(self) -> list[_Entry]:
        path = self._root / CHECKPOINT
        try:
            raw = bounded.read(path, MAX_BYTES)
            file = msgspec.convert(json.loads(raw), _File)
        except OSError as error:
            raise CollectorError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise CollectorError(f"{path} is no checkpoint: {str(error)[:120]}") from None
        entries = file.data.entries or []
        if len(entries) > MAX_PODS:
            raise CollectorError(f"{path} has more than {MAX_PODS} entries")
        return [entry for entry in entries if self._is_gpu(entry.resource_name)]

    def _is_gpu(self, resource: str) -> bool:
        return any(
            resource.startswith(name[:-1]) if name.endswith("*") else resource == name
            for name in self._resources
        )

    def _alive(self) -> set[str] | None:
        """The uids of pods that the kubelet has; None when it does not show them."""
        try:
            return set(bounded.names(self._root / "pods", MAX_PODS))
        except OSError:
            return None

    def _names(self) -> dict[str, tuple[str, str]]:
        try:
            folders = bounded.names(self._logs, MAX_PODS)
        except OSError:
            return {}
        found = (_LOGS.fullmatch(folder) for folder in folders)
        return {match[3]: (text(match[1]), text(match[2])) for match in found if match}


def gpus(devices: object) -> Iterator[str]:
    """The GPUs among the device ids of an entry, each once, as uuid or index.

    `GPU-uuid::3` is a share of that GPU; `nvidia0/gi1/vgpu2` is how GKE names a part of GPU 0.
    """
    lists = list(devices.values()) if isinstance(devices, dict) else [devices]
    seen = set()
    for each in lists:
        for device in each if isinstance(each, list) else ():
            name = _SHARE.sub("", text(device))
            if match := _MINOR.fullmatch(name):
                name = match[1]
            if name and name not in seen:
                seen.add(name)
                yield name
