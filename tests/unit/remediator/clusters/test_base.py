"""The defaults of the interface, and the words that its facts offer."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import (
    Capability,
    Cluster,
    ClusterError,
    GpuFacts,
    JobFacts,
    NodeFacts,
    Unsupported,
    implemented,
    verbs,
)
from remediator.clusters.local import LocalClusterAdapter
from remediator.clusters.memory import MemoryCluster
from tests.unit.remediator.clusters.calls import call


class BareCluster(Cluster):
    name = "bare"
    capabilities: frozenset[Capability] = frozenset()


@pytest.mark.parametrize("verb", sorted(set(verbs()) - {"close"}))
def test_a_verb_that_an_adapter_lacks_says_so(verb: str) -> None:
    with pytest.raises(Unsupported, match=r"the cluster 'bare' cannot .+\.$"):
        asyncio.run(call(BareCluster(), verb))


def test_an_adapter_has_the_capabilities_whose_verbs_it_implements() -> None:
    class Resets(BareCluster):
        async def reset_gpu(self, target: Target, *, op_id: str) -> None:
            return

    class ResetsAndSees(Resets):
        async def reset_seen(self, target: Target, *, op_id: str) -> bool:
            return True

    bare = implemented(BareCluster)
    assert bare == {Capability.GPU_QUARANTINE}
    assert implemented(Resets) == bare
    assert implemented(ResetsAndSees) == bare | {Capability.GPU_RESET}


def test_each_capability_but_the_quarantine_of_a_gpu_has_verbs() -> None:
    assert set(verbs().values()) - {None} == set(Capability) - {Capability.GPU_QUARANTINE}


@pytest.mark.parametrize("adapter", [MemoryCluster, LocalClusterAdapter])
def test_no_shipped_adapter_overrides_a_verb_with_other_parameters(adapter: type[Cluster]) -> None:
    for verb in verbs():
        asked = inspect.signature(getattr(Cluster, verb)).parameters
        assert list(inspect.signature(getattr(adapter, verb)).parameters) == list(asked), verb


def test_closing_is_nothing_by_default() -> None:
    asyncio.run(BareCluster().close())


def test_an_error_is_final_unless_it_says_otherwise() -> None:
    assert not ClusterError("no").transient
    assert ClusterError("later", transient=True).transient
    assert not Unsupported("never").transient


def test_a_node_finds_its_gpu() -> None:
    node = NodeFacts("node1", True, (GpuFacts(0, "a"), GpuFacts(3, "d")))
    assert node.gpu(3) == GpuFacts(3, "d")
    assert node.gpu(1) is None


@pytest.mark.parametrize(
    ("places", "nodes", "uses", "not_uses"),
    [
        (("node1/0", "node1/3"), ("node1",), ("node1", "node1/3"), ("node1/1", "node2")),
        (("node1/0", "node2/0"), ("node1", "node2"), ("node1", "node2/0"), ("node2/1", "node3")),
        (("node1",), ("node1",), ("node1",), ("node1/0", "node2")),
        ((), (), (), ("node1", "node1/0")),
    ],
)
def test_a_job_uses_its_places_and_their_nodes(
    places: tuple[str, ...],
    nodes: tuple[str, ...],
    uses: tuple[str, ...],
    not_uses: tuple[str, ...],
) -> None:
    job = JobFacts("a", "RUNNING", tuple(map(Target.parse, places)))
    assert job.nodes == nodes
    assert all(job.uses(Target.parse(one)) for one in uses)
    assert not any(job.uses(Target.parse(one)) for one in not_uses)
