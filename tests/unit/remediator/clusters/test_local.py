"""What the local adapter makes of the embedded cluster beyond the contract."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec
from remediator.clusters.base import Capability, ClusterError, Unsupported, implemented
from remediator.clusters.local import LocalClusterAdapter, LocalSettings

GPU = Target.parse("node1/0")
NODE = Target.parse("node1")
HARDWARE = {Capability.GPU_RESET, Capability.REBOOT, Capability.PROBE}


def local(state: Path, hardware: str | None = None) -> LocalClusterAdapter:
    return LocalClusterAdapter(
        "lab", LocalSettings(str(state / "cluster"), hardware, burn_in="20ms")
    )


def test_without_hardware_repair_and_test_are_unsupported(tmp_path: Path) -> None:
    cluster = local(tmp_path)
    assert cluster.capabilities == implemented(LocalClusterAdapter) - HARDWARE
    calls: list[Coroutine[Any, Any, Any]] = [
        cluster.reset_gpu(GPU, op_id="a"),
        cluster.reset_seen(GPU, op_id="a"),
        cluster.reboot_node(NODE, op_id="a"),
        cluster.reboot_seen(NODE, op_id="a"),
        cluster.probe(GPU),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match="requires simulated GPUs"):
            asyncio.run(call)


def test_a_hardware_folder_that_does_not_exist_counts_as_none(tmp_path: Path) -> None:
    assert not local(tmp_path, str(tmp_path / "none")).capabilities & HARDWARE


def test_with_hardware_every_capability_is_there(tmp_path: Path) -> None:
    Hardware(tmp_path / "hardware").create(1, 1)
    assert local(tmp_path, str(tmp_path / "hardware")).capabilities == implemented(
        LocalClusterAdapter
    )


def test_a_folder_that_cannot_be_used_is_a_cluster_error(tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text("a file")
    with pytest.raises(ClusterError, match="cannot open the cluster"):
        asyncio.run(local(tmp_path).list_nodes())


def test_a_store_that_is_in_trouble_may_recover(tmp_path: Path) -> None:
    cluster = local(tmp_path)
    asyncio.run(cluster.list_nodes())
    with sqlite3.connect(tmp_path / "cluster" / "cluster.db") as db:
        db.execute("DROP TABLE nodes")
    db.close()
    with pytest.raises(ClusterError, match="files") as caught:
        asyncio.run(cluster.list_nodes())
    assert caught.value.transient


def test_a_burn_in_that_is_no_duration_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a duration"):
        LocalClusterAdapter("lab", LocalSettings(str(tmp_path), None, burn_in="long"))


def test_a_node_without_gpus_has_not_passed_a_test(tmp_path: Path) -> None:
    Hardware(tmp_path / "hardware").create(1, 0)
    result = asyncio.run(local(tmp_path, str(tmp_path / "hardware")).probe(NODE))
    assert not result.passed
    assert "no GPU to test" in result.text


@pytest.mark.parametrize("beat", [None, -60.0])
def test_nothing_is_ordered_while_no_controller_would_carry_it_out(
    tmp_path: Path, beat: float | None
) -> None:
    client = LocalCluster(tmp_path / "cluster")
    job = client.submit(JobSpec("train", ("true",), gpus=0))
    if beat is not None:
        with client.store.write() as db:
            db.execute("INSERT INTO facts VALUES ('heartbeat', ?)", (repr(time.time() + beat),))
    cluster = local(tmp_path)
    calls: list[Coroutine[Any, Any, Any]] = [
        cluster.restart(job, op_id="a", exclude=(GPU,), always=True),
        cluster.signal(job, op_id="b"),
        cluster.fail(job, op_id="c", reason="why"),
        cluster.scale("serve", 2, op_id="d"),
    ]
    for call in calls:
        with pytest.raises(ClusterError, match="has not responded") as caught:
            asyncio.run(call)
        assert caught.value.transient
    assert not client.job(job).restart_ops
    client.store.close()
