"""Pods that have not ended, from cgroups of both drivers and versions, else from the kubelet's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.owners.pods import MAX_PODS, Pods

UID = "5d2c4b1e-7a0b-4c63-9d6e-1f0c8c3a2b11"
OTHER = "9c1f4c0a-33c5-4f5e-8a53-2f4f3d1b7e02"
UNDERLINED = UID.replace("-", "_")


def pods(tmp_path: Path, *cgroups: str) -> Pods:
    (tmp_path / "kubelet/pods" / OTHER).mkdir(parents=True, exist_ok=True)
    for cgroup in cgroups:
        (tmp_path / "cgroup" / cgroup).mkdir(parents=True)
    return Pods(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "cgroup")


@pytest.mark.parametrize(
    "cgroup",
    [
        f"kubepods.slice/kubepods-pod{UNDERLINED}.slice",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERLINED}.slice",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERLINED}.slice",
        f"kubepods/pod{UID}",
        f"kubepods/burstable/pod{UID}",
        f"memory/kubepods/besteffort/pod{UID}",
        f"systemd/kubepods.slice/kubepods-pod{UNDERLINED}.slice",
    ],
)
def test_a_pod_with_a_cgroup_lives_and_one_with_a_folder_alone_has_ended(
    tmp_path: Path, cgroup: str
) -> None:
    assert pods(tmp_path, cgroup).alive() == {UID}


def test_without_cgroups_of_pods_the_kubelets_folder_tells(tmp_path: Path) -> None:
    assert pods(tmp_path).alive() == {OTHER}


def test_where_nothing_shows_pods_nobody_is_called_gone(tmp_path: Path) -> None:
    assert Pods(tmp_path / "a", tmp_path / "b", tmp_path / "c").alive() is None


def test_other_folders_among_cgroups_are_no_pods(tmp_path: Path) -> None:
    found = pods(
        tmp_path, "kubepods/cgroup.procs", "kubepods/burstable/x", "kubepods/pod a", "kubepods/pod"
    )
    assert found.alive() == set()


def test_too_many_cgroups_are_not_taken_for_a_few(tmp_path: Path) -> None:
    found = pods(tmp_path, *(f"kubepods/pod{number}" for number in range(MAX_PODS + 1)))
    assert found.alive() == {OTHER}


def test_names_are_those_of_folders_of_logs(tmp_path: Path) -> None:
    for name in (f"ml_train-0_{UID}", "a_b", f"ml_x\n_{OTHER}", f"_y_{OTHER}", "z" * 200):
        (tmp_path / "logs" / name).mkdir(parents=True)
    found = pods(tmp_path).names()
    assert found[UID] == ("ml", "train-0")
    assert found.get(OTHER, ("", ""))[1] == ""
