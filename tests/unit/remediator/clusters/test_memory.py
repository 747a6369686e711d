"""What the cluster in memory does beyond the contract: how its scene is set."""

from __future__ import annotations

import asyncio

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import ClusterError
from remediator.clusters.memory import Effect, MemoryCluster

GPU = Target.parse("node1/0")


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(nodes=2, gpus=2, clock=lambda: 1000.0)


def test_jobs_wait_until_there_is_room(cluster: MemoryCluster) -> None:
    for number in range(5):
        cluster.submit(f"job-{number}")
    assert asyncio.run(cluster.job("job-4")).state == "PENDING"  # type: ignore[union-attr]
    cluster.finish("job-1")
    assert asyncio.run(cluster.job("job-4")).gpus == (1,)  # type: ignore[union-attr]


def test_a_release_lets_a_waiting_job_run(cluster: MemoryCluster) -> None:
    async def story() -> tuple[str, str]:
        node = Target.parse("node1")
        await cluster.quarantine(node, op_id="a", owner="me", reason="sick")
        cluster.submit("big", gpus=2)
        cluster.submit("late", gpus=2)
        before = (await cluster.job("late")).state  # type: ignore[union-attr]
        await cluster.release(node, op_id="b", owner="me")
        return before, (await cluster.job("late")).state  # type: ignore[union-attr]

    assert asyncio.run(story()) == ("PENDING", "RUNNING")


def test_nothing_is_placed_on_a_node_that_is_down(cluster: MemoryCluster) -> None:
    cluster.set_alive("node1", False)
    cluster.submit("job")
    assert asyncio.run(cluster.job("job")).node == "node2"  # type: ignore[union-attr]
    assert [node.alive for node in asyncio.run(cluster.list_nodes())] == [False, True]


def test_effects_list_only_what_was_changed(cluster: MemoryCluster) -> None:
    async def story() -> None:
        for op in ("a", "a", "b"):
            await cluster.quarantine(GPU, op_id=op, owner="me", reason="sick")

    asyncio.run(story())
    assert cluster.effects == (Effect("quarantine", "gpu/node1/0", "a"),)


def test_a_quarantine_says_when_it_began(cluster: MemoryCluster) -> None:
    asyncio.run(cluster.quarantine(GPU, op_id="a", owner="me", reason="sick"))
    assert asyncio.run(cluster.quarantined(GPU)).since == 1000.0  # type: ignore[union-attr]


def test_a_reset_of_a_node_is_refused(cluster: MemoryCluster) -> None:
    with pytest.raises(ClusterError, match="done to a gpu"):
        asyncio.run(cluster.reset_gpu(Target.parse("node1"), op_id="a"))


def test_a_node_that_is_down_passes_no_test(cluster: MemoryCluster) -> None:
    cluster.set_alive("node1", False)
    assert not asyncio.run(cluster.probe(GPU)).passed
