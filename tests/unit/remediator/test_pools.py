"""How much of a pool is out by us: announced, taken over, dead and rehearsed quarantines."""

from __future__ import annotations

from dataclasses import replace

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import GpuFacts, NodeFacts, QuarantineFacts
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.journal_state import Attempt, JournalState, Pin
from remediator.core.lifecycle import new_incident
from remediator.core.model import Alert, Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.pools import members, owner_of, pool_view, rehearsed, still_ours
from tests.unit.remediator.catalogue import ACTIONS

NOW = 1_700_000_000.0
GPU = Target.parse("node1/3")
NODE = Target.parse("node1")
OTHER = Target.parse("node2/0")


def _node(name: str, *out: int, whole: str = "", owner: str = "fleetmedic") -> NodeFacts:
    held = QuarantineFacts(owner, "x", "op", NOW)
    gpus = tuple(GpuFacts(n, f"{name}-{n}", held if n in out else None) for n in range(8))
    return NodeFacts(name, True, gpus, QuarantineFacts(whole, "x", "op", NOW) if whole else None)


def test_the_pool_counts_what_is_out_by_us_and_not_the_target_itself() -> None:
    nodes = (
        _node("node1", 3, 4),
        _node("node2", 0),
        _node("node3", 1, owner="alice"),
        _node("node4"),
    )
    pool = pool_view(nodes, "default", GPU, JournalState())
    assert (pool.gpus, pool.nodes, pool.gpus_out, pool.nodes_out) == (32, 4, 2, 0)


def test_what_a_person_keeps_out_is_theirs_and_does_not_count() -> None:
    journal_state, held = JournalState(), QuarantineFacts("fleetmedic", "x", "op", NOW)
    journal_state.kept = {GPU: Pin("an operator", "alice: RMA", NOW)}
    nodes = (_node("node1", 3, 4), _node("node2"))
    pool = pool_view(nodes, "default", OTHER, journal_state)
    assert (pool.gpus, pool.gpus_out) == (16, 1)
    one = new_incident(events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, NOW, 0, "x"))
    assert owner_of(held, GPU, one, journal_state) == "an operator (alice: RMA)"
    assert owner_of(held, OTHER, one, journal_state) == "fleetmedic"
    assert owner_of(held, GPU, replace(one, quarantined=(GPU,)), journal_state) == "fleetmedic"
    assert owner_of(replace(held, owner="ops"), GPU, one, journal_state) == "ops"
    assert owner_of(None, GPU, one, journal_state) is None


def test_a_node_that_is_out_counts_once_and_not_by_its_gpus() -> None:
    nodes = (_node("node1"), _node("node2", 0, 1, whole="fleetmedic"))
    pool = pool_view(nodes, "default", GPU, JournalState())
    assert (pool.gpus_out, pool.nodes_out) == (0, 1)


def test_a_nodes_own_gpus_do_not_use_up_the_budget_of_its_quarantine() -> None:
    journal_state = JournalState()
    journal_state.quarantines = [
        Attempt("quarantine_gpu", ACTIONS.named("quarantine_gpu").effect, Target.parse(name), NOW)
        for name in ("node1/3", "node1/4", "node2/1")
    ]
    pool = pool_view((_node("node1", 3, 4), _node("node2", 1)), "default", NODE, journal_state)
    assert pool.recent == (NOW,)
    pool = pool_view((_node("node1", 3, 4), _node("node2", 1)), "default", GPU, journal_state)
    assert pool.recent == (NOW, NOW)


def test_a_quarantine_counts_though_the_clusters_answer_is_older_than_it() -> None:
    journal_state = JournalState()
    opened = events.opened("inc-1", Target.parse("node2/0"), "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = new_incident(opened)
    journal_state.apply(opened)
    step = plan.quarantine(ACTIONS, one)
    journal_state.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.QUARANTINED))
    journal_state.apply(events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))
    assert pool_view((_node("node1"), _node("node2")), "default", GPU, journal_state).gpus_out == 1


def test_an_announced_quarantine_counts_before_the_cluster_shows_it() -> None:
    journal_state = JournalState()
    other = Target.parse("node2/0")
    opened = events.opened("inc-1", other, "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = new_incident(opened)
    journal_state.apply(opened)
    step = plan.quarantine(ACTIONS, one)
    journal_state.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.QUARANTINED))
    pool = pool_view((_node("node1"), _node("node2")), "default", GPU, journal_state)
    assert (pool.gpus_out, pool.recent) == (1, (NOW,))


def test_what_is_still_ours_beside_the_target_is_known() -> None:
    opened = events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = replace(new_incident(opened), quarantined=(GPU, NODE, Target.parse("node2/1")))
    nodes = (_node("node1", whole="fleetmedic"), _node("node2", 1, owner="alice"))
    assert still_ours(one, nodes) == (NODE,)


def _incident(
    journal_state: JournalState, target: Target = OTHER, identity: str = "inc-1"
) -> Incident:
    opened = events.opened(identity, target, "gpu-lost", Level.REPAIR, NOW, 0, "x")
    journal_state.apply(opened)
    return new_incident(opened)


def _out(journal_state: JournalState, *, dead: bool) -> None:
    """Quarantine OTHER for an incident, by the journal."""
    one = _incident(journal_state)
    step, prepared = plan.quarantine(ACTIONS, one), Kind.STEP_PREPARED
    journal_state.apply(events.step_event(prepared, one, step, NOW, Reason.QUARANTINED, dead=dead))
    journal_state.apply(events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))


def test_what_was_dead_when_it_was_quarantined_costs_nothing_until_it_is_repaired() -> None:
    journal_state, nodes = JournalState(), (_node("node1"), _node("node2", 0))
    _out(journal_state, dead=True)
    pool = pool_view(nodes, "default", GPU, journal_state)
    assert (pool.gpus_out, pool.recent) == (0, ())
    one = journal_state.incidents["inc-1"]
    journal_state.incidents["inc-1"] = replace(one, repaired_at=NOW + 1)
    assert pool_view(nodes, "default", GPU, journal_state).gpus_out == 1


def test_what_was_alive_when_it_was_quarantined_costs_budget() -> None:
    journal_state = JournalState()
    _out(journal_state, dead=False)
    pool = pool_view((_node("node1"), _node("node2", 0)), "default", GPU, journal_state)
    assert (pool.gpus_out, pool.recent) == (1, (NOW,))


def test_a_dead_incident_frees_its_own_targets_only() -> None:
    journal_state, nodes = JournalState(), (_node("node1", 4), _node("node2", 0))
    _out(journal_state, dead=True)
    assert pool_view(nodes, "default", GPU, journal_state).gpus_out == 1


def test_another_pool_is_not_counted() -> None:
    journal_state = JournalState()
    _out(journal_state, dead=False)
    nodes = (_node("node1"), replace(_node("node2", 0), pool="other"))
    pool = pool_view(nodes, "default", GPU, journal_state)
    assert (pool.name, pool.gpus, pool.nodes, pool.gpus_out, pool.recent) == (
        "default", 8, 1, 0, (),
    )  # fmt: skip


def test_a_node_that_is_out_is_counted_beside_another_node() -> None:
    nodes = (_node("node1"), _node("node2", whole="fleetmedic"), _node("node3", whole="alice"))
    assert pool_view(nodes, "default", NODE, JournalState()).nodes_out == 1
    assert pool_view(nodes, "default", Target.parse("node2"), JournalState()).nodes_out == 0


def test_what_would_be_out_counts_as_out() -> None:
    nodes = (_node("node1"), _node("node2"))
    pool = pool_view(nodes, "default", GPU, JournalState(), ((OTHER, NOW - 5), (GPU, NOW - 9)))
    assert (pool.gpus_out, pool.recent) == (1, (NOW - 5,))


def _rehearsed(
    journal_state: JournalState, target: Target, identity: str, **changes: object
) -> None:
    """An incident that wrote its plan down and ended so."""
    reason = changes.pop("reason", Reason.OBSERVE_ONLY)
    assert isinstance(reason, Reason)
    one = _incident(journal_state, target, identity)
    alert = Alert(identity, NOW, "x", True, {"alertname": "GpuLost", "cluster": "a"})
    journal_state.apply(events.alert_received(alert, target, NOW, "test"))
    if changes.pop("alerted", True):
        journal_state.apply(events.absorbed(identity, target, events.episode_of(alert, NOW), NOW))
    if changes.pop("planned", True):
        noted = events.noted(Kind.WOULD_DO, one, NOW, Reason.OBSERVE_ONLY, action="notify")
        journal_state.apply(noted)
    one = journal_state.incidents[identity]
    journal_state.apply(events.moved(one, IncidentState.SUPPRESSED, NOW + 1, reason))


def test_where_nothing_may_be_done_earlier_plans_whose_alerts_fire_count() -> None:
    journal_state = JournalState()
    _rehearsed(journal_state, OTHER, "inc-1")
    _rehearsed(journal_state, GPU, "inc-2")
    assert rehearsed(journal_state, journal_state.incidents["inc-2"]) == ((OTHER, NOW + 1),)


def test_plans_for_what_is_over_or_no_hardware_do_not_count() -> None:
    journal_state, me = (
        JournalState(),
        new_incident(events.opened("me", GPU, "x", Level.REPAIR, NOW, 0, "x")),
    )
    _rehearsed(journal_state, OTHER, "inc-1", planned=False)
    _rehearsed(journal_state, Target.parse("node2/1"), "inc-2", reason=Reason.LEVEL)
    _rehearsed(journal_state, Target.parse("job/train-a"), "inc-3")
    _rehearsed(journal_state, Target.parse("node2"), "inc-4", alerted=False)
    assert rehearsed(journal_state, me) == ()
    _rehearsed(journal_state, Target.parse("node4"), "inc-5")
    assert rehearsed(journal_state, me) == ((Target.parse("node4"), NOW + 1),)


def test_the_size_of_a_pool_is_by_node() -> None:
    nodes = (_node("node1"), _node("node2"), replace(_node("node3"), pool="other"))
    size = members(nodes, "default")
    assert (size.name, dict(size.gpus)) == ("default", {"node1": 8, "node2": 8})
