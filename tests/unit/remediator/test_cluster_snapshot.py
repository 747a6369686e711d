"""One view of the cluster serves all decisions of a moment, and never one from before an own operation."""

from __future__ import annotations

import asyncio

import pytest

from fleetmedic.kernel.labels import Target
from remediator.cluster_snapshot import ClusterSnapshot, ClusterView
from remediator.clusters.base import ClusterError, GpuFacts, NodeFacts, QuarantineFacts
from remediator.clusters.memory import MemoryCluster


class Counted(MemoryCluster):
    """A cluster that counts how often its nodes were listed, answers slowly, and may be unreachable."""

    def __init__(self) -> None:
        super().__init__(nodes=2)
        self.asked, self.now, self.takes = 0, 100.0, 0.0
        self.error: Exception | None = None

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        self.asked += 1
        await asyncio.sleep(0)
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return await super().list_nodes()


def _view() -> tuple[Counted, ClusterView]:
    cluster = Counted()
    return cluster, ClusterView(cluster, lambda: cluster.now)


def test_decisions_of_one_moment_share_one_query() -> None:
    cluster, view = _view()

    async def story() -> None:
        found = await asyncio.gather(*(view.snapshot(0.1) for _ in range(50)))
        assert len({id(one) for one in found}) == cluster.asked == 1
        cluster.now += 0.2
        await view.snapshot(0.1)
        assert cluster.asked == 2

    asyncio.run(story())


def test_right_before_a_step_the_cluster_is_always_asked() -> None:
    cluster, view = _view()

    async def story() -> None:
        await view.snapshot(0.1)
        cluster.now += 0.001
        await view.snapshot(0.0)
        assert cluster.asked == 2

    asyncio.run(story())


def test_an_own_operation_is_seen_at_once() -> None:
    cluster, view = _view()
    gpu = Target.parse("node1/3")

    async def story() -> None:
        assert (await view.snapshot(1.0)).ours == frozenset()
        await cluster.quarantine(gpu, op_id="o", owner="fleetmedic", reason="x")
        view.changed()
        assert (await view.snapshot(1.0)).ours == {gpu}

    asyncio.run(story())


def test_an_operation_during_a_query_makes_its_result_old() -> None:
    cluster, view = _view()

    async def story() -> None:
        query = asyncio.create_task(view.snapshot(1.0))
        await asyncio.sleep(0)
        view.changed()
        await query
        await view.snapshot(1.0)
        assert cluster.asked == 2

    asyncio.run(story())


def test_a_slow_cluster_is_asked_less_often_and_a_second_old_at_most() -> None:
    cluster, view = _view()
    cluster.takes = 0.02

    async def story() -> None:
        await view.snapshot(0.1)
        cluster.now += 0.3
        await view.snapshot(0.1)
        assert cluster.asked == 1
        cluster.takes = 9.0
        cluster.now += 1.0
        await view.snapshot(0.1)
        assert cluster.asked == 2
        await view.snapshot(0.1)
        assert cluster.asked == 3, "the answer was nine seconds old when it came"

    asyncio.run(story())


def test_those_who_wait_for_an_unreachable_cluster_share_its_error() -> None:
    cluster, view = _view()
    cluster.error = ClusterError("gone.", transient=True)

    async def story() -> None:
        found = await asyncio.gather(
            *(view.snapshot(0.1) for _ in range(20)), return_exceptions=True
        )
        assert cluster.asked == 1
        assert all(isinstance(one, ClusterError) for one in found)
        cluster.error = None
        cluster.now += 1.1
        await view.snapshot(0.1)

    asyncio.run(story())


def test_after_an_unexpected_error_no_older_result_is_used() -> None:
    cluster, view = _view()

    async def story() -> None:
        await view.snapshot(1.0)
        cluster.error = KeyError("node1")
        with pytest.raises(KeyError):
            await view.snapshot(0.0)
        with pytest.raises(KeyError):
            await view.snapshot(1.0)

    asyncio.run(story())


def test_indexes_agree_with_the_nodes() -> None:
    ours, others = (QuarantineFacts(who, "x", "o", 1.0) for who in ("fleetmedic", "alice"))
    gpus = (GpuFacts(0, "GPU-A", ours), GpuFacts(1, "GPU-b", others), GpuFacts(2, ""))
    nodes = (NodeFacts("n1", True, gpus), NodeFacts("n2", True, (), ours, "other"))
    found = ClusterSnapshot(nodes)
    assert (found.node("n2"), found.node("n3")) == (nodes[1], None)
    assert (found.home("gpu-a"), found.home("GPU-B"), found.home("")) == ("n1", "n1", None)
    assert found.ours == {Target.parse("n1/0"), Target.parse("n2")}
    assert sorted(found.pools) == ["default", "other"]
    assert (found.gpus("default"), found.size("default").gpus) == (3, {"n1": 3})
    assert (found.gpus("none"), found.size("none").gpus) == (0, {})


def test_indexes_of_unchanged_nodes_are_kept_and_of_changed_ones_computed_again() -> None:
    ours = QuarantineFacts("fleetmedic", "x", "o", 1.0)
    same, before = NodeFacts("n1", True, (GpuFacts(0, "a", ours),)), NodeFacts("n2", True, ())
    first = ClusterSnapshot((same, before, NodeFacts("n3", True, (GpuFacts(0, "c", ours),))))
    changed = NodeFacts("n2", True, (GpuFacts(1, "b", ours),))
    second = ClusterSnapshot((same, changed), before=first)
    assert second.ours == {Target.parse("n1/0"), Target.parse("n2/1")}
    assert (second.node("n2"), second.node("n3")) == (changed, None)
    assert (second.home("b"), second.home("c")) == ("n2", None)
    assert first.ours == {Target.parse("n1/0"), Target.parse("n3/0")}
