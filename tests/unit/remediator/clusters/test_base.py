"""The defaults of the interface, and the words that its facts offer."""

from __future__ import annotations

import asyncio

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
)


class BareCluster(Cluster):
    name = "bare"
    capabilities: frozenset[Capability] = frozenset()


GPU = Target.parse("node1/0")
VERBS = {
    "list_nodes": ((), {}),
    "quarantine": ((GPU,), {"op_id": "a", "owner": "me", "reason": "sick"}),
    "quarantined": ((GPU,), {}),
    "release": ((GPU,), {"op_id": "a", "owner": "me"}),
    "jobs_on": ((GPU,), {}),
    "job": (("job",), {}),
    "signal": (("job",), {"op_id": "a"}),
    "signalled": (("job",), {"op_id": "a"}),
    "restart": (("job",), {"op_id": "a", "exclude": ()}),
    "restarted": (("job",), {"op_id": "a"}),
    "fail": (("job",), {"op_id": "a", "reason": "sick"}),
    "failed": (("job",), {"op_id": "a"}),
    "reset_gpu": ((GPU,), {"op_id": "a"}),
    "reset_seen": ((GPU,), {"op_id": "a"}),
    "reboot_node": ((GPU,), {"op_id": "a"}),
    "reboot_seen": ((GPU,), {"op_id": "a"}),
    "probe": ((GPU,), {}),
    "scale": (("serve", 1), {"op_id": "a"}),
    "workload": (("serve",), {}),
    "lock": (("me",), {"ttl": 60.0, "host": "here"}),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_an_adapter_lacks_says_so(verb: str) -> None:
    positional, named = VERBS[verb]
    with pytest.raises(Unsupported, match=r"the cluster 'bare' cannot .+\.$"):
        asyncio.run(getattr(BareCluster(), verb)(*positional, **named))


def test_every_verb_is_in_the_table_above() -> None:
    public = {name for name in vars(Cluster) if not name.startswith("_")}
    assert public == set(VERBS) | {"close"}


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
    ("job", "places"),
    [
        (JobFacts("a", "RUNNING", "node1", (0, 3)), ["gpu/node1/0", "gpu/node1/3"]),
        (JobFacts("a", "RUNNING", "node1"), ["node/node1"]),
        (JobFacts("a", "PENDING"), []),
    ],
)
def test_a_job_names_its_places(job: JobFacts, places: list[str]) -> None:
    assert [str(place) for place in job.places()] == places
