"""The kubelet's claim state: written by the kubelet of Kubernetes 1.37, and invalid data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.collector import CollectorError
from exporter.owners.base import Holding
from exporter.owners.claims import STATE, ClaimOwners
from exporter.owners.pods import Pods

RECORD = Path(__file__).parents[1] / "kubelet" / "1.37" / STATE
ONE = "5d2c4b1e-7a0b-4c63-9d6e-1f0c8c3a2b11"
TWO = "9c1f4c0a-33c5-4f5e-8a53-2f4f3d1b7e02"
GONE = "0f3b7a44-55ad-4c1e-b0ce-6a1de9f0c703"


def claims(tmp_path: Path, raw: bytes) -> ClaimOwners:
    for uid in (ONE, TWO):
        (tmp_path / "cgroup/kubepods" / f"pod{uid}").mkdir(parents=True)
    (tmp_path / "logs" / f"ml_train-0_{ONE}").mkdir(parents=True)
    (tmp_path / STATE).write_bytes(raw)
    return ClaimOwners(tmp_path, Pods(tmp_path, tmp_path / "logs", tmp_path / "cgroup"))


def inner(*found: Any) -> bytes:
    return json.dumps({"Data": json.dumps({"ClaimInfoStateList": found}), "Checksum": 1}).encode()


def claim(device: Any, uid: str = ONE) -> dict[str, Any]:
    drivers = {"gpu.nvidia.com": {"Devices": [{"DeviceName": device}]}}
    return {"Namespace": "ml", "PodUIDs": {uid: {}}, "DriverState": drivers}


def test_what_a_real_kubelet_wrote(tmp_path: Path) -> None:
    owners = claims(tmp_path, RECORD.read_bytes())
    assert owners.is_present()
    # a pod of a shared claim that has ended holds nothing, and a channel is not a GPU
    assert list(owners.holdings(0)) == [
        Holding("nvidia0", f"pod:{ONE}", namespace="ml", pod="train-0"),
        Holding("nvidia2", f"pod:{ONE}", namespace="ml", pod="train-0"),
        Holding("nvidia3", f"pod:{TWO}", namespace="ml"),
    ]


def test_a_node_without_claims_has_none(tmp_path: Path) -> None:
    assert list(claims(tmp_path, inner()).holdings(0)) == []
    assert not ClaimOwners(tmp_path / "x", Pods(tmp_path, tmp_path, tmp_path)).is_present()


def test_a_uid_that_is_a_path_is_passed_over(tmp_path: Path) -> None:
    assert list(claims(tmp_path, inner(claim("gpu-0", "../../etc"))).holdings(0)) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"Data": {}}',
        b'{"Data": "{"}',
        b'{"Data": "{}"}',
        b'{"version":"v1","entries":[],"checksum":1}',  # of Kubernetes 1.31 and before
        inner(7),
        inner(claim(7)),
        inner(claim("gpu-x")),
        inner(claim("gpu-\u0661")),
        inner(claim("gpu-0\n")),
        inner(claim("g" * 1000)),
        inner(*[{}] * 5000),
        b" " * (9 * 2**20),
    ],
)
def test_a_state_that_makes_no_sense_is_a_failure_and_not_nobody(
    tmp_path: Path, raw: bytes
) -> None:
    with pytest.raises(CollectorError) as error:
        list(claims(tmp_path, raw).holdings(0))
    assert STATE in str(error.value)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)
