"""A dry run shows the plan to its end and leaves the cluster as it was."""

from __future__ import annotations

import asyncio

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import ClusterError, QuarantineConflict
from remediator.clusters.dryrun import DryRunCluster
from remediator.clusters.memory import MemoryCluster

GPU = Target.parse("node1/0")
NODE = Target.parse("node1")


@pytest.fixture
def real() -> MemoryCluster:
    cluster = MemoryCluster(nodes=2, gpus=2)
    cluster.submit("train", on=GPU)
    cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
    cluster.make_unhealthy(GPU)
    return cluster


@pytest.fixture
def dry(real: MemoryCluster) -> DryRunCluster:
    return DryRunCluster(real, clock=lambda: 5.0)


def test_a_whole_plan_is_recorded_and_nothing_is_done(
    real: MemoryCluster, dry: DryRunCluster
) -> None:
    async def plan() -> None:
        before = await real.list_nodes()
        await dry.quarantine(GPU, op_id="1", owner="me", reason="lost")
        await dry.signal("train", op_id="2")
        assert await dry.signalled("train", op_id="2")
        await dry.restart("train", op_id="3", exclude=(GPU,))
        assert await dry.restarted("train", op_id="3")
        await dry.reset_gpu(GPU, op_id="4")
        assert await dry.reset_seen(GPU, op_id="4")
        await dry.reboot_node(NODE, op_id="5")
        assert await dry.reboot_seen(NODE, op_id="5")
        await dry.fail("train", op_id="6", reason="no way")
        assert await dry.failed("train", op_id="6")
        assert not await dry.failed("train", op_id="other")
        await dry.scale("serve", 3, op_id="7")
        await dry.release(GPU, op_id="8", owner="me")
        assert await real.list_nodes() == before

    asyncio.run(plan())
    assert real.effects == ()
    assert [(entry.verb, entry.subject) for entry in dry.recorded] == [
        ("quarantine", "gpu/node1/0"),
        ("signal", "train"),
        ("restart", "train"),
        ("reset", "gpu/node1/0"),
        ("reboot", "node/node1"),
        ("fail", "train"),
        ("scale", "serve"),
        ("release", "gpu/node1/0"),
    ]
    assert dry.recorded[6].text == "from 2 to 3 replicas"


def test_a_recorded_quarantine_is_seen_through_the_wrapper_alone(
    real: MemoryCluster, dry: DryRunCluster
) -> None:
    async def story() -> None:
        await dry.quarantine(GPU, op_id="1", owner="me", reason="lost")
        seen = await dry.quarantined(GPU)
        assert seen is not None
        assert (seen.owner, seen.op_id, seen.since) == ("me", "1", 5.0)
        assert (await dry.list_nodes())[0].gpus[0].quarantine == seen
        assert await real.quarantined(GPU) is None
        await dry.release(GPU, op_id="2", owner="me")
        assert await dry.quarantined(GPU) is None

    asyncio.run(story())


def test_a_real_quarantine_of_another_owner_is_respected(
    real: MemoryCluster, dry: DryRunCluster
) -> None:
    async def story() -> None:
        await real.quarantine(GPU, op_id="1", owner="ops", reason="mine")
        await dry.quarantine(GPU, op_id="2", owner="me", reason="lost")

    with pytest.raises(QuarantineConflict, match="by ops"):
        asyncio.run(story())


def test_an_operation_is_recorded_once(dry: DryRunCluster) -> None:
    async def story() -> None:
        for _ in range(3):
            await dry.signal("train", op_id="1")
            await dry.quarantine(GPU, op_id="2", owner="me", reason="lost")

    asyncio.run(story())
    assert len(dry.recorded) == 2


def test_what_was_not_recorded_is_asked_of_the_cluster(dry: DryRunCluster) -> None:
    async def story() -> list[bool]:
        return [
            await dry.signalled("train", op_id="x"),
            await dry.restarted("train", op_id="x"),
            await dry.reset_seen(GPU, op_id="x"),
            await dry.reboot_seen(NODE, op_id="x"),
        ]

    assert asyncio.run(story()) == [False] * 4


def test_facts_pass(dry: DryRunCluster) -> None:
    async def story() -> None:
        assert [job.job_id for job in await dry.jobs_on(GPU)] == ["train"]
        assert (await dry.job("train")).running  # type: ignore[union-attr]
        assert (await dry.workload("serve")).wanted == 2  # type: ignore[union-attr]

    asyncio.run(story())


def test_no_test_is_run_and_none_is_passed(dry: DryRunCluster) -> None:
    result = asyncio.run(dry.probe(Target.parse("node2/0")))
    assert not result.passed
    assert "dry run" in result.text


def test_an_unknown_workload_is_refused_as_it_would_be(dry: DryRunCluster) -> None:
    with pytest.raises(ClusterError, match="workload 'nothing' not found"):
        asyncio.run(dry.scale("nothing", 1, op_id="1"))


def test_a_dry_run_gets_a_lock_and_leaves_that_of_the_cluster(
    real: MemoryCluster, dry: DryRunCluster
) -> None:
    async def story() -> None:
        held = await real.lock("one", ttl=60, host="host-1")
        lock = await dry.lock("two", ttl=60, host="host-2", take_over="to see")
        assert (lock.installation, lock.host, lock.since) == ("two", "host-2", 5.0)
        seen = await real.lock("three", ttl=60, host="host-3")
        assert (seen.installation, seen.since) == ("one", held.since)

    asyncio.run(story())
