"""Reads which GPUs pods hold, from the checkpoint of the kubelet's device manager.

The kubelet itself restores its state from this file, so no request to the kubelet is necessary. The
file identifies pods by UID. Their names come from the kubelet's log directories
(NAMESPACE_NAME_UID). The entry of an ended pod stays until the next pod with devices starts, so the
pod's cgroup is checked too (pods.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from exporter.collector import CollectorError
from exporter.owners import bounded
from exporter.owners.base import Holding, text
from exporter.owners.pods import MAX_PODS, UID, Pods

MAX_BYTES = 8 * 2**20
CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"
_SHARE = re.compile(r"::[0-9]+$")
_FILE = re.compile(r"(nvidia[0-9]{1,3})(?:/.*)?")


class _CheckpointEntry(msgspec.Struct, frozen=True, rename="pascal"):
    pod_u_i_d: str = msgspec.field(name="PodUID", default="")
    container_name: str = ""
    resource_name: str = ""
    # a list up to Kubernetes 1.19, grouped by NUMA node since then
    device_i_ds: Any = msgspec.field(name="DeviceIDs", default=None)


class _CheckpointData(msgspec.Struct, frozen=True):
    entries: list[_CheckpointEntry] | None = msgspec.field(name="PodDeviceEntries", default=None)


class _DeviceCheckpoint(msgspec.Struct, frozen=True):
    data: _CheckpointData = msgspec.field(name="Data")


class KubeletOwners:
    """Reads the device checkpoint below `root`, the kubelet's directory.

    `resources` are the names of GPU resources, or prefixes that end with `*`.
    """

    name = "kubelet"

    def __init__(self, root: Path, pods: Pods, resources: tuple[str, ...]) -> None:
        self._root = root
        self._pods = pods
        self._resources = resources

    def is_present(self) -> bool:
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
                    gpu,
                    f"pod:{uid}",
                    namespace=namespace,
                    pod=pod,
                    container=text(entry.container_name),
                )

    def _entries(self) -> list[_CheckpointEntry]:
        path = self._root / CHECKPOINT
        try:
            raw = bounded.read(path, MAX_BYTES)
            file = msgspec.convert(json.loads(raw), _DeviceCheckpoint)
        except OSError as error:
            raise CollectorError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise CollectorError(
                f"{path}: expected a kubelet checkpoint: {str(error)[:120]}"
            ) from None
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
    """Yield the GPUs in the device ids of an entry, without duplicates, as UUID, index or device
    file name.

    `GPU-uuid::3` is a share of that GPU; `nvidia0/gi1/vgpu2` is GKE's name for a part of
    /dev/nvidia0.
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
