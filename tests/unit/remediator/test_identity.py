"""An alert is about the hardware whose uuid the inventory has there, or nothing disruptive follows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import GpuFacts, NodeFacts
from remediator.core.facts import Identity
from remediator.core.model import Episode, Incident, Level
from remediator.identity import alerts_on_other_hardware, identify

GPU, NODE = Target.parse("node1/3"), Target.parse("node1")
NOW = 1_000_000.0
CONFIRMED, UNKNOWN = Identity(), Identity(confirmed=False)


def node(name: str, *uuids: str) -> NodeFacts:
    return NodeFacts(name, True, tuple(GpuFacts(n, uuid) for n, uuid in enumerate(uuids)))


NODES = (node("node1", "GPU-a", "GPU-b", "GPU-c", "GPU-d"), node("node2", "GPU-e", "GPU-f"))


def incident(target: Target, *claims: tuple[str, str]) -> Incident:
    """An incident whose alerts name these indexes and uuids."""
    episodes = tuple(
        Episode(f"a/{n}/1", str(n), 1.0, "x", "GpuLost", gpu, uuid)
        for n, (gpu, uuid) in enumerate(claims)
    )
    return Incident("inc-1", target, "gpu-lost", Level.REPAIR, 1.0, alerts=episodes)


def judged(
    one: Incident, nodes: tuple[NodeFacts, ...], reported: Collection[str] | None
) -> Identity:
    """By all of its alerts, and what the exporter reports at this moment."""
    at_once = None if reported is None else dict.fromkeys(reported, NOW)
    return identify(one.target, one.alerts, ClusterSnapshot(nodes), at_once)


def test_the_uuid_that_the_inventory_has_there_confirms_whatever_its_case() -> None:
    assert judged(incident(GPU, ("3", "GPU-d")), NODES, None) == CONFIRMED
    assert judged(incident(GPU, ("3", "gpu-D")), NODES, None) == CONFIRMED


def test_another_uuid_holds_and_names_both() -> None:
    found = judged(incident(GPU, ("3", "GPU-x")), NODES, None)
    assert not found.confirmed
    assert found.problem == (
        "The alert names GPU-x at gpu/node1/3, but the inventory has GPU-d there."
    )


def test_one_alert_that_does_not_fit_outweighs_one_that_does() -> None:
    both = incident(GPU, ("3", "GPU-d"), ("3", "GPU-x"))
    assert "GPU-x" in judged(both, NODES, None).problem


@pytest.mark.parametrize("claims", [(), (("3", ""),), (("", "GPU-d"),), (("x", "GPU-d"),)])
def test_without_a_uuid_nobody_knows(claims: tuple[tuple[str, str], ...]) -> None:
    assert judged(incident(GPU, *claims), NODES, None) == UNKNOWN


@pytest.mark.parametrize("index", ["٣", "³", "-3", "99999", "3 "])
def test_an_index_that_is_no_plain_number_names_no_gpu(index: str) -> None:
    assert judged(incident(GPU, (index, "GPU-x")), NODES, None) == UNKNOWN


def test_a_uuid_of_another_gpu_of_the_incident_confirms_nothing_about_this_one() -> None:
    assert judged(incident(GPU, ("1", "GPU-b")), NODES, None) == UNKNOWN


def test_a_cluster_that_knows_no_uuids_confirms_nothing() -> None:
    nodes = (node("node1", "", "", "", ""),)
    assert judged(incident(GPU, ("3", "GPU-d")), nodes, None) == UNKNOWN


def test_a_node_that_the_inventory_does_not_have_is_unknown() -> None:
    assert judged(incident(Target.parse("node9/3"), ("3", "x")), NODES, None) == UNKNOWN
    assert judged(incident(Target.parse("node9")), NODES, {"GPU-a"}) == UNKNOWN


def test_jobs_and_workloads_have_no_uuid() -> None:
    assert judged(incident(Target.parse("job/train-a")), NODES, None) == CONFIRMED


def test_a_node_whose_exporter_reports_its_own_uuids_is_confirmed() -> None:
    assert judged(incident(NODE), NODES, {"gpu-A"}) == CONFIRMED
    assert judged(incident(NODE), NODES, None) == CONFIRMED, "nobody can be asked"


def test_a_node_whose_exporter_reports_unknown_uuids_is_not_confirmed() -> None:
    assert judged(incident(NODE), NODES, {"GPU-new"}) == UNKNOWN
    assert judged(incident(NODE), NODES, set()) == UNKNOWN


def test_a_node_without_gpus_is_confirmed_by_any_answer() -> None:
    assert judged(incident(NODE), (node("node1"),), set()) == CONFIRMED


@pytest.mark.parametrize("target", [NODE, GPU])
def test_swapped_node_labels_hold_and_name_the_home_of_what_is_reported(target: Target) -> None:
    claims = (("3", "GPU-d"),) if target == GPU else ()
    found = judged(incident(target, *claims), NODES, {"GPU-a", "gpu-E", "GPU-f"})
    assert not found.confirmed
    assert found.problem == (
        "The exporter of node1 reports GPU-f, gpu-E, which the inventory has on node2; the inventory "
        "has GPU-a, GPU-b, GPU-c and 1 more on node1."
    )


def test_the_boards_of_another_contradict_as_long_as_an_alert_of_that_time_may_last() -> None:
    def after(seconds: float, factor: float = 1.0) -> Identity:
        reported = {"GPU-a": NOW, "GPU-e": NOW - seconds}
        return identify(NODE, (), ClusterSnapshot(NODES), reported, factor)

    assert "GPU-e" in after(959).problem
    assert after(960) == CONFIRMED
    assert "GPU-e" in after(149, 10).problem
    assert after(150, 10) == CONFIRMED, "the rules' windows are shorter by the factor"


def test_boards_of_another_contradict_a_node_that_has_not_reported_its_own_since() -> None:
    reported = {"GPU-a": NOW - 3500, "GPU-e": NOW - 2500}
    assert "GPU-e" in identify(NODE, (), ClusterSnapshot(NODES), reported, 1.0).problem
    own_later = {"GPU-a": NOW - 1000, "GPU-e": NOW - 2500}
    assert identify(NODE, (), ClusterSnapshot(NODES), own_later, 1.0) == CONFIRMED


def test_a_board_that_moved_between_nodes_is_no_swap_while_it_is_here() -> None:
    nodes = (NODES[0], node("node2", "GPU-a"))
    assert judged(incident(NODE), nodes, {"GPU-a"}) == CONFIRMED


def test_an_alert_of_a_nodes_incident_may_name_its_gpus() -> None:
    assert judged(incident(NODE, ("2", "GPU-c")), NODES, {"GPU-a"}) == CONFIRMED
    assert (
        "GPU-x at gpu/node1/2" in judged(incident(NODE, ("2", "GPU-x")), NODES, {"GPU-a"}).problem
    )
    beyond = judged(incident(NODE, ("9", "GPU-x")), NODES, {"GPU-a"})
    assert beyond == CONFIRMED, "the inventory has nothing there to compare with"


@given(
    st.lists(st.tuples(st.sampled_from(["", "1", "3"]), st.sampled_from(["", "GPU-b", "GPU-d", "GPU-e"]))),
    st.none() | st.frozensets(st.sampled_from(["GPU-a", "GPU-d", "GPU-e", "GPU-z"])),
    st.sampled_from([GPU, NODE]),
)  # fmt: skip
def test_what_has_a_problem_is_never_confirmed_and_more_claims_never_help_a_mismatch(
    claims: list[tuple[str, str]], reported: frozenset[str] | None, target: Target
) -> None:
    found = judged(incident(target, *claims), NODES, reported)
    assert not (found.confirmed and found.problem)
    worse = judged(incident(target, *claims, ("3", "GPU-wrong")), NODES, reported)
    assert worse.problem


def test_the_incident_is_judged_by_all_its_alerts() -> None:
    one = incident(GPU, ("3", "GPU-d"))
    assert judged(replace(one, alerts=()), NODES, None) == UNKNOWN


def test_alerts_about_other_hardware_are_strangers() -> None:
    one = incident(GPU, ("3", "GPU-d"), ("3", "GPU-x"), ("", "GPU-y"), ("0", "GPU-a"))
    assert alerts_on_other_hardware(one, ClusterSnapshot(NODES).node(one.target.name)) == {"a/1/1"}
    assert alerts_on_other_hardware(one, None) == frozenset()
