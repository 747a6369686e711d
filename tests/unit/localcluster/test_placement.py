"""Which GPUs a job gets, for any cluster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.model import GpuView, NodeView, Quarantine
from fleetmedic.localcluster.placement import NoPlacement, Placement, select_gpus, touches

HELD = Quarantine("remediator", "XID 79", 0.0, "q")


def node(name: str, states: str, *, quarantined: bool = False, alive: bool = True) -> NodeView:
    """`.` a free GPU, `j` one with a job, `q` one in quarantine, `m` a marked one."""
    gpus = tuple(
        GpuView(
            index,
            f"GPU-{name}-{index}",
            HELD if state == "q" else None,
            "bad" if state == "m" else None,
            "other" if state == "j" else None,
        )
        for index, state in enumerate(states)
    )
    return NodeView(name, gpus, HELD if quarantined else None, alive)


nodes = st.lists(
    st.builds(
        node,
        st.integers(1, 30).map("node{}".format),
        st.text(".jqm", max_size=8),
        quarantined=st.booleans(),
        alive=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda found: found.name,
)
targets = st.frozensets(
    st.builds(
        lambda name, gpu: Target.parse(name if gpu is None else f"{name}/{gpu}"),
        st.integers(1, 30).map("node{}".format),
        st.none() | st.integers(0, 7),
    )
)


@given(nodes, st.integers(0, 8), targets, targets)
def test_a_place_is_free_in_service_not_excluded_and_on_one_node(
    found: list[NodeView], wanted: int, excluded: frozenset[Target], avoid: frozenset[Target]
) -> None:
    chosen = select_gpus(found, wanted, excluded=excluded, avoid=avoid)
    if isinstance(chosen, NoPlacement):
        return
    at = next(item for item in found if item.name == chosen.node)
    assert at.alive
    assert at.quarantined is None
    assert len(set(chosen.gpus)) == wanted
    assert not touches(chosen.node, chosen.gpus, excluded)
    for gpu in at.gpus:
        if gpu.index in chosen.gpus:
            assert (gpu.job_id, gpu.quarantined, gpu.marked) == (None, None, None)


@given(nodes, st.integers(0, 8), targets)
def test_what_is_only_to_be_avoided_never_keeps_a_job_waiting(
    found: list[NodeView], wanted: int, avoid: frozenset[Target]
) -> None:
    without = select_gpus(found, wanted)
    assert isinstance(select_gpus(found, wanted, avoid=avoid), Placement) == isinstance(
        without, Placement
    )


@given(nodes, st.integers(0, 8))
def test_the_order_of_the_nodes_does_not_matter(found: list[NodeView], wanted: int) -> None:
    assert select_gpus(found, wanted) == select_gpus(found[::-1], wanted)


def test_the_fullest_node_that_fits_is_taken_and_node2_comes_before_node10() -> None:
    assert select_gpus([node("node1", "...."), node("node2", "jj..")], 2) == Placement(
        "node2", (2, 3)
    )
    assert select_gpus([node("node10", ".."), node("node2", "..")], 1) == Placement("node2", (0,))


def test_gpus_to_avoid_are_taken_last() -> None:
    avoid = frozenset({Target.parse("node1/0"), Target.parse("node1/1")})
    assert select_gpus([node("node1", "..")], 2, avoid=avoid) == Placement("node1", (0, 1))
    assert select_gpus([node("node1", "..jj"), node("node2", "....")], 2, avoid=avoid) == Placement(
        "node2", (0, 1)
    )


def test_a_job_without_gpus_runs_on_a_node_without_gpus() -> None:
    assert select_gpus([node("host", "")], 0) == Placement("host", ())


def test_no_place_says_what_stands_in_the_way() -> None:
    for found, words in (
        ([], "no nodes yet"),
        ([node("node1", "....")], "the largest has 4"),
        (
            [node("node1", "qqj....."), node("node2", "........", quarantined=True)],
            "at most 5 are free",
        ),
    ):
        answer = select_gpus(found, 8)
        assert isinstance(answer, NoPlacement)
        assert words in answer.text
