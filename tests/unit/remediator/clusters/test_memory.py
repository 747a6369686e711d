"""What the cluster in memory does beyond the contract: how its scene is set."""

from __future__ import annotations

import asyncio

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import Capability, ClusterError, Unsupported, verbs
from remediator.clusters.memory import ExecutedOperation, MemoryCluster
from tests.unit.remediator.clusters.calls import GPU, NODE, call

OF_ONE_GPU = ((Capability.GPU_QUARANTINE, "quarantine"), (Capability.GPU_QUARANTINE, "release"))
NEEDS = [*OF_ONE_GPU, *((needed, verb) for verb, needed in verbs().items() if needed)]


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(nodes=2, gpus=2, clock=lambda: 1000.0)


def test_jobs_wait_until_there_is_room(cluster: MemoryCluster) -> None:
    for number in range(5):
        cluster.submit(f"job-{number}")
    assert asyncio.run(cluster.job("job-4")).state == "PENDING"  # type: ignore[union-attr]
    cluster.finish("job-1")
    assert [one.gpu for one in asyncio.run(cluster.job("job-4")).places] == [1]  # type: ignore[union-attr]


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
    assert asyncio.run(cluster.job("job")).nodes == ("node2",)  # type: ignore[union-attr]
    assert [node.alive for node in asyncio.run(cluster.list_nodes())] == [False, True]


def test_effects_list_only_what_was_changed(cluster: MemoryCluster) -> None:
    async def story() -> None:
        for op in ("a", "a", "b"):
            await cluster.quarantine(GPU, op_id=op, owner="me", reason="sick")

    asyncio.run(story())
    assert cluster.effects == (ExecutedOperation("quarantine", "gpu/node1/0", "a"),)


def test_a_quarantine_says_when_it_began(cluster: MemoryCluster) -> None:
    asyncio.run(cluster.quarantine(GPU, op_id="a", owner="me", reason="sick"))
    assert asyncio.run(cluster.quarantined(GPU)).since == 1000.0  # type: ignore[union-attr]


def test_a_reset_of_a_node_is_refused(cluster: MemoryCluster) -> None:
    with pytest.raises(ClusterError, match="expected a gpu"):
        asyncio.run(cluster.reset_gpu(Target.parse("node1"), op_id="a"))


def test_a_node_that_is_down_passes_no_test(cluster: MemoryCluster) -> None:
    cluster.set_alive("node1", False)
    assert not asyncio.run(cluster.probe(GPU)).passed


@pytest.mark.parametrize(("needed", "verb"), NEEDS)
def test_a_verb_needs_its_capability_and_no_other(needed: Capability, verb: str) -> None:
    def scene(capabilities: frozenset[Capability]) -> MemoryCluster:
        cluster = MemoryCluster(capabilities=capabilities)
        cluster.submit("train", on=Target.parse("node2/0"))
        cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
        return cluster

    poor, rich = scene(frozenset(Capability) - {needed}), scene(frozenset({needed}))
    with pytest.raises(Unsupported, match=r"the cluster 'memory' cannot .+\.$"):
        asyncio.run(call(poor, verb))
    assert poor.effects == ()
    asyncio.run(call(rich, verb))


def test_without_gpu_quarantine_a_node_is_quarantined_all_the_same() -> None:
    cluster = MemoryCluster(capabilities=frozenset())
    asyncio.run(cluster.quarantine(NODE, op_id="a", owner="me", reason="sick"))
    assert asyncio.run(cluster.quarantined(GPU)) is None
    assert asyncio.run(cluster.quarantined(NODE)) is not None
    asyncio.run(cluster.release(NODE, op_id="b", owner="me"))


def test_a_board_can_be_exchanged(cluster: MemoryCluster) -> None:
    cluster.set_uuid(GPU, "GPU-new")
    first, second = asyncio.run(cluster.list_nodes())[0].gpus
    assert (first.uuid, second.uuid) == ("GPU-new", "GPU-1-1")
    with pytest.raises(ValueError, match="expected a GPU"):
        cluster.set_uuid(NODE, "GPU-new")


@pytest.mark.parametrize(("passed", "holder"), [(59.0, "one"), (60.0, "two"), (-1e6, "one")])
def test_a_lock_expires_by_the_clusters_clock(passed: float, holder: str) -> None:
    now = [1e9]
    cluster = MemoryCluster(clock=lambda: now[0])

    def holder_for_two() -> str:
        return asyncio.run(cluster.lock("two", ttl=60, host="host-2")).installation

    asyncio.run(cluster.lock("one", ttl=60, host="host-1"))
    now[0] += passed
    assert holder_for_two() == holder
    now[0] += 60
    assert holder_for_two() == "two", "the clock was set back, and the lock expires from there"
