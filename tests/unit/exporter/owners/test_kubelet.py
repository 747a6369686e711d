"""The kubelet's checkpoint: written by the kubelets of Kubernetes 1.19 and 1.37 (see tests/real_kubelet),
and invalid data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from exporter.collector import CollectorError
from exporter.owners.base import Holding
from exporter.owners.kubelet import CHECKPOINT, KubeletOwners, gpus
from exporter.owners.pods import Pods

RECORD = Path(__file__).parents[1] / "kubelet"
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
    pods = Pods(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "cgroup")
    return KubeletOwners(tmp_path / "kubelet", pods, RESOURCES)


@pytest.mark.parametrize("version", ["1.19", "1.37"])
def test_what_a_real_kubelet_wrote(tmp_path: Path, version: str) -> None:
    raw = (RECORD / version / Path(CHECKPOINT).name).read_bytes()
    owners = kubelet(tmp_path, raw=raw)
    others = ("9c1f4c0a-33c5-4f5e-8a53-2f4f3d1b7e02", "0f3b7a44-55ad-4c1e-b0ce-6a1de9f0c703")
    for other in others:
        (tmp_path / "kubelet" / "pods" / other).mkdir()
    assert list(owners.holdings(0)) == [
        Holding("GPU-0", f"pod:{UID}", namespace="ml", pod="train-0", container="train"),
        Holding("GPU-1", f"pod:{UID}", namespace="ml", pod="train-0", container="train"),
        Holding("MIG-2", f"pod:{others[0]}", container="serve"),
        Holding("GPU-3", f"pod:{others[1]}", container="notebook"),
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
        (["nvidia0/gi1/vgpu2", "nvidia3"], ["nvidia0", "nvidia3"]),
        (["0", "1"], ["0", "1"]),
        (["nvidia\u0661/gi1", "GPU-a::\u0661"], ["nvidia\u0661/gi1", "GPU-a::\u0661"]),
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
    pods = Pods(tmp_path, tmp_path, tmp_path)
    assert not KubeletOwners(tmp_path, pods, RESOURCES).is_present()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_checkpoint_that_is_no_file_is_here_and_a_failure(tmp_path: Path, kind: str) -> None:
    owners = kubelet(tmp_path, entry(["GPU-a"]))
    path = tmp_path / "kubelet" / CHECKPOINT
    path.rename(tmp_path / "elsewhere")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert owners.is_present()
    with pytest.raises(CollectorError, match="cannot read"):
        list(owners.holdings(0))


def test_an_empty_checkpoint_holds_nothing(tmp_path: Path) -> None:
    raw = b'{"Data": {"PodDeviceEntries": null}, "Checksum": 1}'
    assert list(kubelet(tmp_path, raw=raw).holdings(0)) == []
