"""A node's incident that took quarantined GPUs over and whose alerts are over before the node went out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Hold, Move
from remediator.core.facts import PoolFacts, Stops
from remediator.core.model import IncidentState
from remediator.core.reasons import Reason
from tests.unit.remediator.core.examples import NOW

NODE = Target(TargetKind.NODE, "node2")
GPU = Target(TargetKind.GPU, "node2", 3)


def _node(incident, state):
    return replace(incident(state), target=NODE, quarantined=(GPU,))


@pytest.mark.parametrize("state", [IncidentState.TRIAGED, IncidentState.HELD])
def test_the_quarantines_that_it_took_over_end_though_the_budget_is_spent(
    incident, case, state
) -> None:
    one = _node(incident, IncidentState.TRIAGED)
    full = PoolFacts(gpus=32, nodes=4, nodes_out=1)
    facts = {"firing": False, "quarantine_owner": None, "pool": full, "kept": (GPU,)}
    decision = decide(case(one, **facts))
    assert isinstance(decision, Move)
    assert (decision.state, decision.reason) == (IncidentState.VERIFYING, Reason.ALERT_GONE)
    held = decide(case(replace(one, state=state), **facts))
    assert isinstance(held, Move)
    assert held.state in (IncidentState.TRIAGED, IncidentState.VERIFYING)


def test_they_end_during_a_persons_release_of_the_node_when_only_past_events_are_left(
    incident, case
) -> None:
    one = _node(incident, IncidentState.TRIAGED)
    pinned = Stops(pinned="Bob returned node2 to service.", pinned_until=NOW + 9000)
    facts = {"quarantine_owner": None, "kept": (GPU,), "stops": pinned, "alerts_active": False}
    past = decide(case(one, event_at=NOW - 60, **facts))
    assert isinstance(past, Move)
    assert (past.state, past.reason) == (IncidentState.VERIFYING, Reason.HELD_LONG)
    assert isinstance(decide(case(one, event_at=NOW - 5, **facts)), Hold), "a fresh event"
    firing = facts | {"alerts_active": True}
    assert isinstance(decide(case(one, event_at=NOW - 60, **firing)), Hold)
    alone = replace(one, quarantined=())
    assert isinstance(decide(case(alone, event_at=NOW - 60, **facts)), Hold)


def test_a_node_that_jobs_may_come_to_is_watched_and_not_tested_under_load(incident, case) -> None:
    one = _node(incident, IncidentState.VERIFYING)
    open_to_jobs = decide(case(one, quarantine_owner=None, node_quarantine_owner=None, kept=(GPU,)))
    assert isinstance(open_to_jobs, Act)
    assert open_to_jobs.step.id == plan.WATCH
    ours = {"quarantine_owner": "fleetmedic", "node_quarantine_owner": "fleetmedic"}
    out = decide(case(replace(one, quarantined=(NODE, GPU)), **ours, kept=(GPU,)))
    assert isinstance(out, Act)
    assert out.step.id == "verify"
