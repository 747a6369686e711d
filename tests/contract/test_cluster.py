"""What every cluster must do, whatever stands behind it.

`cluster_bench` is a cluster at rest, `busy_bench` one on which the job `train` runs; each is given
once for every adapter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import Cluster, ClusterError, JobFacts, QuarantineConflict

GPU = Target.parse("node1/0")
OTHER = Target.parse("node1/1")
NODE = Target.parse("node1")
NOWHERE = (Target.parse("node9"), Target.parse("node1/7"), Target.parse("job/train"))


def quarantine(cluster: Cluster, target: Target, op_id: str, owner: str = "us") -> None:
    asyncio.run(cluster.quarantine(target, op_id=op_id, owner=owner, reason=f"{target} is sick"))


def release(cluster: Cluster, target: Target, op_id: str, owner: str = "us") -> None:
    asyncio.run(cluster.release(target, op_id=op_id, owner=owner))


def owner_of(cluster: Cluster, target: Target) -> str | None:
    held = asyncio.run(cluster.quarantined(target))
    return held.owner if held else None


def train(cluster: Cluster) -> JobFacts:
    job = asyncio.run(cluster.job("train"))
    assert job is not None
    return job


def wait(question: Callable[[], Awaitable[bool]]) -> None:
    async def ask() -> None:
        deadline = time.monotonic() + 15
        while not await question():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.05)

    asyncio.run(ask())


# ---- what is


def test_nodes_come_sorted_with_their_gpus(cluster_bench: Any) -> None:
    nodes = asyncio.run(cluster_bench.cluster.list_nodes())
    assert [(node.name, node.alive, [gpu.index for gpu in node.gpus]) for node in nodes] == [
        ("node1", True, [0, 1]),
        ("node2", True, [0, 1]),
    ]
    assert len({gpu.uuid for node in nodes for gpu in node.gpus}) == 4


@pytest.mark.parametrize("target", NOWHERE, ids=str)
def test_a_target_that_is_not_there_is_an_error(cluster_bench: Any, target: Target) -> None:
    cluster = cluster_bench.cluster
    for call in (
        cluster.quarantined(target),
        cluster.quarantine(target, op_id="a", owner="us", reason="sick"),
        cluster.release(target, op_id="b", owner="us"),
        cluster.jobs_on(target),
        cluster.probe(target),
    ):
        with pytest.raises(ClusterError) as caught:
            asyncio.run(call)
        assert not caught.value.transient


def test_an_unknown_job_is_none_and_cannot_be_treated(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    assert asyncio.run(cluster.job("ghost")) is None
    for call in (
        cluster.signal("ghost", op_id="a"),
        cluster.signalled("ghost", op_id="a"),
        cluster.restarted("ghost", op_id="a"),
        cluster.restart("ghost", op_id="b", exclude=()),
        cluster.fail("ghost", op_id="c", reason="no"),
        cluster.failed("ghost", op_id="c"),
    ):
        with pytest.raises(ClusterError):
            asyncio.run(call)


def test_an_unknown_workload_is_none_and_cannot_be_scaled(cluster_bench: Any) -> None:
    assert asyncio.run(cluster_bench.cluster.workload("ghost")) is None
    with pytest.raises(ClusterError):
        asyncio.run(cluster_bench.cluster.scale("ghost", 1, op_id="a"))


# ---- quarantine


@pytest.mark.parametrize("target", [GPU, NODE], ids=str)
def test_a_quarantine_is_seen_with_its_owner_and_reason(cluster_bench: Any, target: Target) -> None:
    cluster, before = cluster_bench.cluster, time.time()
    quarantine(cluster, target, "a")
    held = asyncio.run(cluster.quarantined(target))
    assert held is not None
    assert (held.owner, held.reason, held.op_id) == ("us", f"{target} is sick", "a")
    assert before - 1 <= held.since <= time.time() + 1
    node = asyncio.run(cluster.list_nodes())[0]
    assert (node.quarantine if target == NODE else node.gpus[0].quarantine) == held


def test_a_quarantine_is_of_exactly_its_target(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a")
    assert (owner_of(cluster, OTHER), owner_of(cluster, NODE)) == (None, None)
    quarantine(cluster, NODE, "b")
    release(cluster, GPU, "c")
    assert (owner_of(cluster, GPU), owner_of(cluster, NODE)) == (None, "us")


def test_the_same_operation_again_changes_nothing(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a")
    first = asyncio.run(cluster.quarantined(GPU))
    quarantine(cluster, GPU, "a")
    assert asyncio.run(cluster.quarantined(GPU)) == first


def test_an_operation_is_not_done_again_after_it_was_undone(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a")
    release(cluster, GPU, "b")
    quarantine(cluster, GPU, "a")
    assert owner_of(cluster, GPU) is None


def test_a_second_operation_of_the_same_owner_leaves_the_quarantine(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a")
    quarantine(cluster, GPU, "b")
    assert owner_of(cluster, GPU) == "us"
    release(cluster, GPU, "c")
    assert owner_of(cluster, GPU) is None


def test_what_another_owner_quarantined_is_left_alone(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a", owner="ops")
    with pytest.raises(QuarantineConflict, match="ops"):
        quarantine(cluster, GPU, "b")
    with pytest.raises(QuarantineConflict, match="ops"):
        release(cluster, GPU, "c")
    assert owner_of(cluster, GPU) == "ops"


def test_a_release_of_nothing_is_no_error(cluster_bench: Any) -> None:
    release(cluster_bench.cluster, GPU, "a")
    assert owner_of(cluster_bench.cluster, GPU) is None


def test_an_operation_id_belongs_to_one_verb_on_one_target(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    quarantine(cluster, GPU, "a")
    with pytest.raises(ClusterError, match="a"):
        quarantine(cluster, OTHER, "a")
    assert owner_of(cluster, OTHER) is None


# ---- repair and test


def test_a_healthy_gpu_and_a_healthy_node_pass_their_test(cluster_bench: Any) -> None:
    for target in (GPU, NODE):
        result = asyncio.run(cluster_bench.cluster.probe(target))
        assert result.passed
        assert result.text


def test_a_sick_gpu_fails_its_test_and_that_of_its_node(cluster_bench: Any) -> None:
    cluster_bench.make_unhealthy(GPU, "reset")
    for target, passed in ((GPU, False), (NODE, False), (OTHER, True)):
        assert asyncio.run(cluster_bench.cluster.probe(target)).passed is passed


@pytest.mark.parametrize(
    ("heals_by", "after_reset", "after_reboot"),
    [("reset", True, True), ("reboot", False, True), ("none", False, False)],
)
def test_a_repair_heals_what_it_can(
    cluster_bench: Any, heals_by: Any, after_reset: bool, after_reboot: bool
) -> None:
    cluster = cluster_bench.cluster
    cluster_bench.make_unhealthy(GPU, heals_by)
    asyncio.run(cluster.reset_gpu(GPU, op_id="a"))
    assert asyncio.run(cluster.probe(GPU)).passed is after_reset
    asyncio.run(cluster.reboot_node(NODE, op_id="b"))
    assert asyncio.run(cluster.probe(GPU)).passed is after_reboot


def test_a_repair_is_seen_by_its_operation_alone(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    assert not asyncio.run(cluster.reset_seen(GPU, op_id="a"))
    asyncio.run(cluster.reset_gpu(GPU, op_id="a"))
    assert asyncio.run(cluster.reset_seen(GPU, op_id="a"))
    assert not asyncio.run(cluster.reset_seen(GPU, op_id="x"))
    assert not asyncio.run(cluster.reboot_seen(NODE, op_id="b"))
    asyncio.run(cluster.reboot_node(NODE, op_id="b"))
    assert asyncio.run(cluster.reboot_seen(NODE, op_id="b"))


@pytest.mark.parametrize(("verb", "target"), [("reset_gpu", GPU), ("reboot_node", NODE)])
def test_a_repair_is_done_once(cluster_bench: Any, verb: str, target: Target) -> None:
    cluster = cluster_bench.cluster
    repair = getattr(cluster, verb)
    asyncio.run(repair(target, op_id="a"))
    cluster_bench.make_unhealthy(GPU, "reset")
    asyncio.run(repair(target, op_id="a"))
    assert not asyncio.run(cluster.probe(GPU)).passed
    asyncio.run(repair(target, op_id="b"))
    assert asyncio.run(cluster.probe(GPU)).passed


def test_only_gpus_are_reset_and_only_nodes_rebooted(cluster_bench: Any) -> None:
    with pytest.raises(ClusterError):
        asyncio.run(cluster_bench.cluster.reset_gpu(NODE, op_id="a"))
    with pytest.raises(ClusterError):
        asyncio.run(cluster_bench.cluster.reboot_node(GPU, op_id="b"))


# ---- jobs


def test_a_running_job_is_found_where_it_runs(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    job = train(cluster)
    assert (job.running, job.finished, len(job.places)) == (True, False, 1)
    (place,) = job.places
    assert asyncio.run(cluster.jobs_on(place)) == (job,)
    assert asyncio.run(cluster.jobs_on(Target.parse(place.name))) == (job,)
    nodes = asyncio.run(cluster.list_nodes())
    holders = {(n.name, g.index): g.job_id for n in nodes for g in n.gpus}
    assert [at for at, holder in holders.items() if holder == "train"] == [(place.name, place.gpu)]
    idle = next(Target.parse(f"{name}/{index}") for (name, index), h in holders.items() if not h)
    assert asyncio.run(cluster.jobs_on(idle)) == ()


def test_a_job_without_gpus_is_on_its_node_alone(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    busy_bench.start("prepare", gpus=0)
    job = asyncio.run(cluster.job("prepare"))
    (place,) = job.places
    assert place == Target.parse(job.nodes[0])
    assert job in asyncio.run(cluster.jobs_on(place))
    for index in (0, 1):
        on_gpu = asyncio.run(cluster.jobs_on(Target.parse(f"{job.nodes[0]}/{index}")))
        assert job not in on_gpu


def test_a_quarantine_leaves_the_running_job(busy_bench: Any) -> None:
    (place,) = train(busy_bench.cluster).places
    quarantine(busy_bench.cluster, place, "a")
    assert train(busy_bench.cluster).places == (place,)


def test_a_signal_reaches_the_job_and_leaves_it_running(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    assert not asyncio.run(cluster.signalled("train", op_id="a"))
    asyncio.run(cluster.signal("train", op_id="a"))
    wait(lambda: cluster.signalled("train", op_id="a"))
    asyncio.run(cluster.signal("train", op_id="a"))
    assert not asyncio.run(cluster.signalled("train", op_id="x"))
    assert train(cluster).running


def test_a_restart_moves_the_job_off_what_is_excluded(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    before = train(cluster)
    away = Target.parse(before.nodes[0])
    assert not asyncio.run(cluster.restarted("train", op_id="a"))
    asyncio.run(cluster.restart("train", op_id="a", exclude=(away,)))
    wait(lambda: cluster.restarted("train", op_id="a"))
    after = train(cluster)
    assert after.running
    assert after.nodes != before.nodes
    assert (after.attempts, after.restarts) == (before.attempts, before.restarts + 1)
    assert asyncio.run(cluster.jobs_on(away)) == ()


def test_a_restart_is_done_once_even_with_a_longer_list(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    (here,) = train(cluster).places
    asyncio.run(cluster.restart("train", op_id="a", exclude=(here,)))
    wait(lambda: cluster.restarted("train", op_id="a"))
    after = train(cluster)
    asyncio.run(cluster.restart("train", op_id="a", exclude=(here, *after.places)))
    assert train(cluster) == after


def test_a_job_on_nothing_excluded_is_left_alone(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    before = train(cluster)
    elsewhere = "node2" if before.nodes == ("node1",) else "node1"
    asyncio.run(cluster.restart("train", op_id="a", exclude=(Target.parse(elsewhere),)))
    assert asyncio.run(cluster.restarted("train", op_id="a"))
    assert train(cluster) == before


def test_a_job_on_nothing_excluded_is_restarted_if_it_must_be(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    before = train(cluster)
    elsewhere = "node2" if before.nodes == ("node1",) else "node1"
    away = (Target.parse(elsewhere),)
    asyncio.run(cluster.restart("train", op_id="a", exclude=away, always=True))
    wait(lambda: cluster.restarted("train", op_id="a"))
    after = train(cluster)
    assert (after.running, after.restarts) == (True, before.restarts + 1)
    assert after.nodes == before.nodes
    assert after.places != before.places


def test_a_restarted_job_is_not_placed_on_what_is_quarantined(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    before = train(cluster)
    (here,) = before.places
    spare = Target.parse(f"{here.name}/{1 - (here.gpu or 0)}")
    quarantine(cluster, spare, "a")
    asyncio.run(cluster.restart("train", op_id="b", exclude=(here,)))
    wait(lambda: cluster.restarted("train", op_id="b"))
    assert train(cluster).nodes != (here.name,)


def test_a_failed_job_has_ended_and_says_why(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    (here,) = train(cluster).places
    assert not asyncio.run(cluster.failed("train", op_id="a"))
    asyncio.run(cluster.fail("train", op_id="a", reason="no GPU is left for it"))

    async def finished() -> bool:
        job = await cluster.job("train")
        return job is not None and job.finished

    wait(finished)
    job = train(cluster)
    assert asyncio.run(cluster.failed("train", op_id="a"))
    assert "no GPU is left for it" in job.reason
    asyncio.run(cluster.fail("train", op_id="a", reason="repeated"))
    assert train(cluster) == job
    assert job.places == ()
    assert asyncio.run(cluster.jobs_on(here)) == ()


def test_a_finished_job_is_left_alone(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    asyncio.run(cluster.fail("train", op_id="a", reason="over"))

    async def finished() -> bool:
        job = await cluster.job("train")
        return job is not None and job.finished

    wait(finished)
    ended = train(cluster)
    asyncio.run(cluster.signal("train", op_id="b"))
    asyncio.run(cluster.restart("train", op_id="c", exclude=()))
    asyncio.run(cluster.fail("train", op_id="d", reason="again"))
    assert asyncio.run(cluster.restarted("train", op_id="c"))
    assert [asyncio.run(cluster.failed("train", op_id=op)) for op in ("a", "d")] == [True, False]
    assert train(cluster) == ended


def test_what_is_in_use_is_neither_reset_nor_rebooted(busy_bench: Any) -> None:
    cluster = busy_bench.cluster
    (here,) = train(cluster).places
    for call in (
        cluster.reset_gpu(here, op_id="a"),
        cluster.reboot_node(Target.parse(here.name), op_id="b"),
    ):
        with pytest.raises(ClusterError, match="in use by train") as caught:
            asyncio.run(call)
        assert caught.value.transient
    assert not asyncio.run(cluster.reset_seen(here, op_id="a"))
    assert train(cluster).running
