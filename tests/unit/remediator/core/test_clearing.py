"""Before a node is rebooted for the sake of one GPU, it is quarantined and emptied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import TargetKind
from remediator.core import plan, step_guards
from remediator.core.decide import decide
from remediator.core.evidence import ACTIVE
from remediator.core.facts import (
    EVERYTHING,
    PoolFacts,
    Stops,
)
from remediator.core.model import (
    IncidentState,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple_with_reason
from tests.unit.remediator.core.examples import GPU, NODE, NOW, RUNNING


def test_before_a_reboot_for_one_gpu_the_node_is_quarantined_and_emptied(
    incident, case, after
) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    step = decide(case(one)).step
    assert (step.action, step.target) == ("quarantine_node", NODE)
    one = after(one, step)
    owned = {"node_quarantine_owner": "fleetmedic"}
    signal = decide(case(one, node_jobs=RUNNING, **owned)).step
    assert (signal.action, signal.target) == ("signal_checkpoint", NODE)
    one = after(one, signal)
    restart = decide(case(one, node_jobs=RUNNING, now=NOW + 11, **owned)).step
    assert (restart.action, restart.target, restart.jobs) == ("restart_jobs", NODE, ("train-a",))
    one = after(one, restart)
    assert (
        decide(case(one, now=NOW + 12, **owned)).step.action,
        decide(case(one, now=NOW + 12, **owned)).step.target,
    ) == ("reboot_node", NODE)


def test_a_reboot_waits_while_another_node_is_out(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    held = decide(case(one, pool=PoolFacts(gpus=32, nodes=4, nodes_out=1)))
    assert Reason.BUDGET_OUT is held.reason


def test_a_node_that_a_person_released_is_not_rebooted(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1, quarantined=(GPU, NODE))
    decision = decide(case(one, node_quarantine_owner=None))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.RELEASED_BY_OTHERS)


def test_a_node_of_another_owner_is_neither_quarantined_nor_rebooted(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    decision = decide(case(one, node_quarantine_owner="bob"))
    assert as_tuple_with_reason(decision) == ("hold", Reason.OTHER_OWNER)


def test_a_node_that_could_not_be_quarantined_is_not_rebooted(incident, case, after) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    failed = after(one, decide(case(one)).step, done=False)
    assert as_tuple_with_reason(decide(case(failed))) == (
        "move",
        (IncidentState.ESCALATED, Reason.QUARANTINE_FAILED),
    )


def test_a_node_whose_jobs_cannot_be_moved_is_not_even_quarantined(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    able = EVERYTHING - {"restart"}
    decision = decide(case(one, node_jobs=RUNNING, capabilities=able))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.UNSUPPORTED))
    assert as_tuple_with_reason(decide(case(one, capabilities=able))) == ("act", "quarantine_node")


def test_the_nodes_quarantine_waits_for_its_own_budget_and_a_pin(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    full = PoolFacts(gpus=32, nodes=4, nodes_out=1)
    assert as_tuple_with_reason(decide(case(one, pool=full))) == ("hold", Reason.BUDGET_OUT)
    gpus = PoolFacts(gpus=32, nodes=4, gpus_out=30)
    assert as_tuple_with_reason(decide(case(one, pool=gpus))) == ("act", "quarantine_node")
    pinned = Stops(pinned="alice: fine")
    assert as_tuple_with_reason(decide(case(one, stops=pinned))) == ("hold", Reason.PINNED)


def test_a_reset_needs_no_empty_node(incident, case) -> None:
    one = incident(IncidentState.REPAIRING)
    assert as_tuple_with_reason(decide(case(one, node_jobs=RUNNING))) == ("act", "reset_gpu")


TESTED = {"alerts_active": False, "evidence": ACTIVE, "witnesses": frozenset()}


def _failed_test(incident, case, after, **changes):
    """REPAIRING after a reset in vain: only our own test speaks against the GPU."""
    one = incident(IncidentState.VERIFYING, **changes)
    one = after(one, plan.new_step(one, ACTIONS.named("reset_gpu"), 1.0))
    one = after(one, plan.new_step(one, ACTIONS.named("verify"), 1.0), done=False, passed=False)
    return replace(one, state=IncidentState.REPAIRING, rung=1, since=NOW, mark=len(one.steps))


def test_a_failed_test_is_the_signal_by_which_the_jobs_of_the_node_may_be_moved(
    incident, case, after, playbook
) -> None:
    one = _failed_test(incident, case, after, quarantined=(GPU, NODE))
    ours = {"node_quarantine_owner": "fleetmedic", "node_jobs": RUNNING}
    variant = replace(playbook, witnesses=1)
    signal = decide(case(one, playbook=variant, **ours, **TESTED)).step
    assert signal.action == "signal_checkpoint"
    one = after(one, signal)
    moved = decide(case(one, playbook=variant, now=NOW + 11, **ours, **TESTED)).step
    assert moved.action == "restart_jobs"


def test_where_a_playbook_needs_more_signals_than_the_test_the_node_keeps_its_jobs(
    incident, case, after, playbook
) -> None:
    one, two = _failed_test(incident, case, after), replace(playbook, witnesses=2)
    decision = decide(case(one, playbook=two, node_jobs=RUNNING, **TESTED))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.WITNESSES))
    waits = decide(case(one, playbook=two, node_jobs=RUNNING, **TESTED | {"alerts_active": True}))
    assert as_tuple_with_reason(waits) == ("hold", Reason.WITNESSES)
    idle = decide(case(one, playbook=two, **TESTED))
    assert idle.step.action == "quarantine_node", "no job runs on the node"


OTHERS = {"node_others": ("gpu/node1/7 (owner alice)",)}
PINNED_NODE = {"stops": Stops(node_pinned="alice returned node1", node_pinned_until=NOW + 60)}


@pytest.mark.parametrize(
    ("kept", "reason"), [(OTHERS, Reason.OTHER_OWNER), (PINNED_NODE, Reason.PINNED)]
)
def test_a_node_that_people_keep_is_neither_emptied_nor_rebooted_for_one_gpu(
    incident, case, kept, reason
) -> None:
    one = incident(IncidentState.REPAIRING, rung=1)
    assert as_tuple_with_reason(decide(case(one, **kept))) == ("hold", reason)
    ready = incident(IncidentState.REPAIRING, rung=1, quarantined=(GPU, NODE))
    ours = {"node_quarantine_owner": "fleetmedic"}
    assert as_tuple_with_reason(decide(case(ready, **ours, **kept))) == ("hold", reason)
    step = plan.new_step(ready, ACTIONS.named("reboot_node"), 1.0, on=NODE)
    assert step_guards.right_before(case(ready, **ours, **kept), step).reason is reason
    reset = decide(case(incident(IncidentState.REPAIRING, rung=0), **kept)).step
    assert reset.action == "reset_gpu", "the GPU alone may be repaired"


def test_no_job_leaves_a_node_that_cannot_be_rebooted_because_of_another_owner(
    incident, case, playbook
) -> None:
    variant = replace(playbook, target=TargetKind.NODE, ladder=playbook.ladder[1:])
    one = incident(IncidentState.QUARANTINED, NODE)
    assert as_tuple_with_reason(decide(case(one, playbook=variant, jobs=RUNNING, **OTHERS))) == (
        "hold", Reason.OTHER_OWNER,
    )  # fmt: skip
