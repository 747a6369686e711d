"""Which pod holds which GPU, from the kubelet's own checkpoint of its device manager.

The file is what the kubelet reads back after a restart, so nothing has to be asked of it. It names pods
by uid; their names are those of the folders in which the kubelet keeps their logs
(NAMESPACE_NAME_UID). An entry of a pod that has ended stays until the next pod with devices is started:
the pod's own cgroup tells (pods.py).
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
from exporter.owners.pods import MAX_PODS, UID, Pods

MAX_BYTES = 8 * 2**20
CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"
_SHARE = re.compile(r"::[0-9]+$")
_FILE = re.compile(r"(nvidia[0-9]{1,3})(?:/.*)?")


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
    """`root` is the kubelet's folder; `resources` are names of GPUs, or beginnings that end in `*`."""

    name = "kubelet"

    def __init__(self, root: Path, pods: Pods, resources: tuple[str, ...]) -> None:
        self._root = root
        self._pods = pods
        self._resources = resources

    def here(self) -> bool:
        return bounded.exists(self._root / CHECKPOINT)

    def holdings(self, now: float) -> Iterator[Holding]:
        entries = self._entries()
        if not entries:
            return
        alive, names = self._pods.alive(), self._pods.names()
        for entry in entries:
            uid = entry.pod_u_i_d
            if not UID.fullmatch(uid) or (alive is not None and uid not in alive):
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


def gpus(devices: object) -> Iterator[str]:
    """The GPUs among the device ids of an entry, each once, as uuid, index or name of the device file.

    `GPU-uuid::3` is a share of that GPU; `nvidia0/gi1/vgpu2` is how GKE names a part of /dev/nvidia0.
    """
    lists = list(devices.values()) if isinstance(devices, dict) else [devices]
    seen = set()
    for each in lists:
        for device in each if isinstance(each, list) else ():
            name = _SHARE.sub("", text(device))
            if match := _FILE.fullmatch(name):
                name = match[1]
            if name and name not in seen:
                seen.add(name)
                yield name
