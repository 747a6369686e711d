from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.storm import PoolSize, stalled_together, storm_in


def pool(nodes: int, gpus: int = 8) -> PoolSize:
    return PoolSize("rack", {f"node{n}": gpus for n in range(nodes)})


def whole(*numbers: int) -> set[Target]:
    return {Target(TargetKind.NODE, f"node{n}") for n in numbers}


def gpu(node: int, *indexes: int) -> set[Target]:
    return {Target(TargetKind.GPU, f"node{node}", index) for index in indexes}


@pytest.mark.parametrize(
    ("nodes", "accused", "storm"),
    [
        (4, 2, False),      # half of the pool, and fewer than three
        (4, 3, True),
        (15, 3, False),     # exactly 20 %
        (14, 3, True),
        (20, 4, False),
        (20, 5, True),
        (3, 0, False),
    ],
)  # fmt: skip
def test_more_than_a_fifth_of_the_nodes_and_at_least_three(nodes, accused, storm) -> None:
    text = storm_in(pool(nodes), whole(*range(accused)))
    assert (text is not None) is storm
    assert text is None or f"{accused} of {nodes} nodes of pool rack" in text


def spread(*counts: int) -> set[Target]:
    """So many GPUs of node0, node1 ..."""
    return {one for node, count in enumerate(counts) for one in gpu(node, *range(count))}


@pytest.mark.parametrize(
    ("nodes", "gpus", "counts", "storm"),
    [
        # One GPU on each node: no node counts, so only the GPUs can be too many.
        (30, 1, (1,) * 7, False),
        (30, 1, (1,) * 8, True),
        (40, 1, (1,) * 8, False),       # exactly 20 %
        (39, 1, (1,) * 8, True),
        # Eight GPUs on two nodes are those nodes.
        (10, 4, (4, 4), False),
        (10, 8, (8, 8), False),
        (20, 2, (1,) * 8, False),       # exactly 20 % of 40
        (19, 2, (1,) * 8, True),
        # On three nodes: 8 of 24, and two of them count as nodes.
        (12, 2, (2, 2, 1), False),
        (12, 3, (3, 3, 2), True),       # three nodes of twelve
        (15, 3, (3, 3, 2), False),      # three of fifteen nodes, 8 of 45 GPUs
        (15, 2, (2, 2, 2, 1), False),   # three of fifteen nodes, 7 of 30 GPUs
        (15, 2, (2, 2, 2, 1, 1), True), # 8 of 30 GPUs
    ],
)  # fmt: skip
def test_more_than_a_fifth_of_the_gpus_and_at_least_eight_on_three_nodes(
    nodes, gpus, counts, storm
) -> None:
    assert (storm_in(pool(nodes, gpus), spread(*counts)) is not None) is storm


def test_eight_gpus_on_two_nodes_are_no_storm_and_on_three_they_are() -> None:
    small = PoolSize("rack", {"a": 8, "b": 8, "c": 4, "d": 4, "e": 4, "f": 4})
    on = {"a": 4, "b": 4}
    two = {Target(TargetKind.GPU, name, n) for name, many in on.items() for n in range(many)}
    assert storm_in(small, two) is None
    three = (two - {Target(TargetKind.GPU, "b", 3)}) | {Target(TargetKind.GPU, "c", 0)}
    text = storm_in(small, three)
    assert text is not None
    assert "8 of 32 GPUs" in text


def test_two_gpus_of_a_node_count_as_the_node_and_one_does_not() -> None:
    assert storm_in(pool(5), gpu(0, 1, 2) | gpu(1, 1, 2) | gpu(2, 1, 2)) is not None
    assert storm_in(pool(5), gpu(0, 1, 2) | gpu(1, 1, 2) | gpu(2, 1)) is None
    assert storm_in(pool(5), whole(0, 1) | gpu(2, 1, 2)) is not None
    assert storm_in(pool(5), whole(0, 1) | gpu(1, 1, 2)) is None


def test_other_pools_and_unknown_nodes_do_not_count() -> None:
    strange = {Target(TargetKind.NODE, f"other{n}") for n in range(10)}
    assert storm_in(pool(4), whole(0, 1) | strange) is None


def test_an_empty_pool_has_no_storm() -> None:
    assert storm_in(pool(0), whole(0, 1, 2)) is None


targets = st.sets(
    st.builds(lambda node: Target(TargetKind.NODE, f"node{node}"), st.integers(0, 11))
    | st.builds(
        lambda node, index: Target(TargetKind.GPU, f"node{node}", index),
        st.integers(0, 11), st.integers(0, 3),
    ),
    max_size=30,
)  # fmt: skip


@given(targets, targets, st.integers(1, 12))
def test_more_accused_never_end_a_storm(some, more, nodes) -> None:
    before, after = storm_in(pool(nodes, 4), some), storm_in(pool(nodes, 4), some | more)
    assert before is None or after is not None


@given(targets, st.integers(1, 12), st.integers(1, 12))
def test_a_larger_pool_never_makes_a_storm_of_the_same_hardware(some, nodes, more) -> None:
    here = {one for one in some if int(one.name.removeprefix("node")) < nodes}
    larger = storm_in(pool(nodes + more, 4), here)
    assert larger is None or storm_in(pool(nodes, 4), here) is not None


@pytest.mark.parametrize(
    ("stalled", "jobs", "together"),
    [(0, 0, False), (1, 1, False), (1, 2, False), (2, 2, True), (2, 9, True), (2, 10, False), (3, 14, True)],
)  # fmt: skip
def test_jobs_stall_together_from_two_and_a_fifth_of_all(stalled, jobs, together) -> None:
    text = stalled_together(stalled, jobs)
    assert bool(text) is together
    assert not together or f"{stalled} of {jobs} " in text
