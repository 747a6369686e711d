"""The kubelet's checkpoint: as Kubernetes 1.19 and 1.20 and later write it, and as junk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.collectors.base import CollectorError
from exporter.owners.base import Holding
from exporter.owners.kubelet import CHECKPOINT, KubeletOwners, gpus

UID = "5d2c4b1e-7a0b-4c63-9d6e-1f0c8c3a2b11"
RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-*")


def entry(devices: Any, resource: str = "nvidia.com/gpu", uid: str = UID) -> dict[str, Any]:
    return {
        "PodUID": uid, "ContainerName": "train", "ResourceName": resource, "DeviceIDs": devices,
        "AllocResp": "CkIKFk5WSURJQV9WSVNJQkxFX0RFVklDRVM=",
    }  # fmt: skip


def kubelet(tmp_path: Path, *entries: dict[str, Any], raw: bytes | None = None) -> KubeletOwners:
    path = tmp_path / "kubelet" / CHECKPOINT
    path.parent.mkdir(parents=True)
    file = {
        "Data": {
            "PodDeviceEntries": list(entries),
            "RegisteredDevices": {"nvidia.com/gpu": ["GPU-a"]},
        },
        "Checksum": 1462362471,
    }
    path.write_bytes(json.dumps(file).encode() if raw is None else raw)
    (tmp_path / "kubelet" / "pods" / UID).mkdir(parents=True)
    (tmp_path / "logs" / f"ml_train-0_{UID}").mkdir(parents=True)
    return KubeletOwners(tmp_path / "kubelet", tmp_path / "logs", RESOURCES)


@pytest.mark.parametrize(
    ("version", "devices"),
    [("1.19", ["GPU-a", "GPU-b"]), ("1.20", {"0": ["GPU-a"], "-1": ["GPU-b"]})],
)
def test_a_pods_gpus_are_found_with_its_names(tmp_path: Path, version: str, devices: Any) -> None:
    found = list(kubelet(tmp_path, entry(devices)).holdings(0))
    assert found == [
        Holding(gpu, f"pod:{UID}", namespace="ml", pod="train-0", container="train")
        for gpu in ("GPU-a", "GPU-b")
    ]


def test_a_pod_that_the_kubelet_no_longer_has_holds_nothing(tmp_path: Path) -> None:
    gone = "00000000-0000-0000-0000-000000000000"
    found = kubelet(tmp_path, entry(["GPU-a"], uid=gone), entry(["GPU-b"])).holdings(0)
    assert [holding.gpu for holding in found] == ["GPU-b"]


def test_a_pod_without_logs_holds_without_a_name(tmp_path: Path) -> None:
    owners = kubelet(tmp_path, entry(["GPU-a"]))
    (tmp_path / "logs" / f"ml_train-0_{UID}").rmdir()
    (found,) = owners.holdings(0)
    assert (found.namespace, found.pod, found.key) == ("", "", f"pod:{UID}")


def test_other_resources_are_no_gpus(tmp_path: Path) -> None:
    owners = kubelet(tmp_path, entry(["a"], "rdma/hca"), entry(["MIG-1"], "nvidia.com/mig-3g.40gb"))
    assert [holding.gpu for holding in owners.holdings(0)] == ["MIG-1"]


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        (["GPU-a::0", "GPU-a::3"], ["GPU-a"]),
        (["nvidia0/gi1/vgpu2", "nvidia3"], ["0", "3"]),
        (["0", "1"], ["0", "1"]),
        ({"0": None, "1": ["GPU-a", 7, "", "x" * 500, "a\nb"]}, ["GPU-a"]),
        (None, []),
        ("GPU-a", []),
    ],
)
def test_device_ids_of_every_kind(devices: Any, found: list[str]) -> None:
    assert list(gpus(devices)) == found


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"Data": []}',
        b'{"Data": {"PodDeviceEntries": 7}}',
        b'{"Data": {"PodDeviceEntries": [{"PodUID": 7}]}}',
        b"[" * 100_000,
        b'{"Data": {"PodDeviceEntries": [' + b"{}," * 5000 + b"{}]}}",
        b" " * (9 * 2**20),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_a_failure_and_not_nobody(
    tmp_path: Path, raw: bytes
) -> None:
    with pytest.raises(CollectorError) as error:
        list(kubelet(tmp_path, raw=raw).holdings(0))
    assert CHECKPOINT in str(error.value)
    assert "\n" not in str(error.value)


def test_a_uid_that_is_a_path_is_passed_over(tmp_path: Path) -> None:
    assert list(kubelet(tmp_path, entry(["GPU-a"], uid="../../etc")).holdings(0)) == []


def test_a_node_without_a_kubelet_has_none(tmp_path: Path) -> None:
    assert not KubeletOwners(tmp_path, tmp_path, RESOURCES).here()


def test_an_empty_checkpoint_holds_nothing(tmp_path: Path) -> None:
    raw = b'{"Data": {"PodDeviceEntries": null}, "Checksum": 1}'
    assert list(kubelet(tmp_path, raw=raw).holdings(0)) == []
