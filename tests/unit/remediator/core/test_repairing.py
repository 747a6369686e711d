from __future__ import annotations

from dataclasses import replace

import pytest

from remediator.core import events, plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Move, Widen
from remediator.core.events import Kind
from remediator.core.facts import (
    EVERYTHING,
    SensorFacts,
)
from remediator.core.lifecycle import evolve
from remediator.core.model import (
    IncidentState,
    Level,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple, as_tuple_with_reason
from tests.unit.remediator.core.examples import FEW, GPU, NODE, NOW, OURS, TRAIN


def _emptied(incident, after, **changes):
    one = incident(IncidentState.JOBS_MOVED, **changes)
    return after(one, plan.notify(ACTIONS, one, "opened"))


def _moved(incident, after):
    one = incident(IncidentState.JOBS_MOVED)
    return after(one, plan.notify(ACTIONS, one, "opened"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("move", IncidentState.REPAIRING)),
        ({"paused": True}, ("hold", Reason.PAUSED)),
        ({"level": Level.DRAIN}, ("would", ("reset_gpu", "reboot_node"))),
        ({"sensors": SensorFacts(200.0, True, 1.0)}, ("hold", Reason.DEAD_MAN)),
        ({"sensors": SensorFacts(0.0, True, 0.8)}, ("hold", Reason.SENSORS_BLIND)),
        ({"witnesses": frozenset({"one"})}, ("act", "opinion")),
        ({"siblings": 1}, ("widen", None)),
        ({"exporter_down": True}, ("widen", None)),
    ],
)
def test_before_a_repair(incident, case, after, changes, expected) -> None:
    assert expected == as_tuple(decide(case(_moved(incident, after), **changes)))


def test_one_witness_and_a_passed_test_mean_nothing_to_repair(incident, case, after) -> None:
    one, few = _moved(incident, after), {"witnesses": frozenset({"one"})}
    step = decide(case(one, **few)).step
    healthy = decide(case(after(one, step, passed=True), **few))
    assert (healthy.state, healthy.reason) == (IncidentState.VERIFYING, Reason.NOTHING_TO_REPAIR)
    sick = decide(case(after(one, step, done=False, passed=False), **few))
    assert (sick.state, sick.rung) == (IncidentState.REPAIRING, 0)
    unknown = decide(case(after(one, step, done=False), **few))
    assert IncidentState.ESCALATED is unknown.state


def test_an_opinion_broken_off_is_asked_again_while_too_few_witnesses_are_confirmed(
    incident, case, after, playbook
) -> None:
    one = _moved(incident, after)
    step = decide(case(one, witnesses=frozenset({"one"}))).step
    broken = after(one, step, done=False, reason=Reason.STEP_REFUSED)
    two = frozenset({"one", "two"})
    assert IncidentState.REPAIRING is decide(case(broken, witnesses=two)).state
    more = replace(playbook, witnesses=3)
    assert decide(case(broken, playbook=more, witnesses=two)).step.attempt == 2
    assert decide(case(broken, witnesses=frozenset({"one"}))).step.attempt == 2


def test_used_up_resets_lead_to_the_next_rung_and_used_up_rungs_to_a_person(
    incident, case, after
) -> None:
    one = _moved(incident, after)
    resets = tuple(("reset_gpu", one.target, NOW - 5000 - n) for n in range(2))
    assert decide(case(one, attempts=resets)).rung == 1
    reboots = tuple(("reboot_node", NODE, NOW - 5000 - n) for n in range(2))
    spent = decide(case(one, attempts=resets + reboots))
    assert (spent.state, spent.reason) == (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED)


def test_a_recent_reset_of_an_earlier_incident_holds_for_the_cooldown(
    incident, case, after
) -> None:
    held = decide(
        case(_moved(incident, after), attempts=(("reset_gpu", incident().target, NOW - 100),))
    )
    assert (held.reason, held.until) == (Reason.COOLDOWN, NOW + 500)


def test_a_repair_that_does_not_heal_goes_to_the_next_rung_then_to_a_person(
    incident, case, after
) -> None:
    one = incident(IncidentState.VERIFYING)
    reset = plan.new_step(one, ACTIONS.named("reset_gpu"), 1.0)
    one = replace(after(one, reset), mark=1)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    following = decide(case(failed))
    assert (following.state, following.rung) == (IncidentState.REPAIRING, 1)
    rebooted = after(failed, plan.new_step(failed, ACTIONS.named("reboot_node"), 1.0, on=NODE))
    last = decide(case(replace(rebooted, rung=1)))
    assert (last.state, last.reason) == (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED)


def test_a_repair_whose_effect_cannot_be_seen_is_never_followed_by_another(
    incident, case, after
) -> None:
    one = replace(incident(IncidentState.REPAIRING), mark=0)
    step = decide(case(one)).step
    blind = after(one, step, done=False, reason=Reason.EFFECT_UNKNOWN)
    decision = decide(case(blind))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.EFFECT_UNKNOWN)


@pytest.mark.parametrize("state", [IncidentState.JOBS_MOVED, IncidentState.REPAIRING])
def test_what_was_held_for_long_is_tested_before_it_is_repaired(
    incident, case, after, state
) -> None:
    one = incident(state)
    if state is IncidentState.JOBS_MOVED:
        one = after(one, decide(case(one)).step)
    decision = decide(case(one, now=NOW + 600))
    assert (decision.state, decision.reason) == (IncidentState.VERIFYING, Reason.HELD_LONG)
    one = incident(IncidentState.VERIFYING)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    assert (decide(case(failed)).state, decide(case(failed)).rung) == (IncidentState.REPAIRING, 0)
    assert decide(case(failed, now=NOW + 600)).step.action == "verify"


# Climbing.


@pytest.mark.parametrize(
    ("reason", "passed"),
    [(Reason.STEP_REFUSED, None), (Reason.EFFECT_MISSING, None), (Reason.NOT_HEALED, False)],
)
def test_a_repair_that_failed_leads_to_the_next_rung(incident, case, after, reason, passed) -> None:
    one = incident(IncidentState.REPAIRING)
    failed = after(one, decide(case(one)).step, done=False, reason=reason, passed=passed)
    decision = decide(case(failed))
    assert (as_tuple_with_reason(decision), decision.rung) == (
        ("move", (IncidentState.REPAIRING, Reason.REPAIR_STARTS)), 1,
    )  # fmt: skip
    assert decision.text == "Repair 2: reboot the node."


def test_the_last_rung_that_failed_leads_to_a_person(incident, case, after) -> None:
    one = incident(IncidentState.REPAIRING, rung=1, quarantined=(GPU, NODE))
    step = decide(case(one, **OURS)).step
    assert step.action == "reboot_node"
    failed = after(one, step, done=False)
    decision = decide(case(failed, **OURS))
    assert as_tuple_with_reason(decision) == (
        "move",
        (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED),
    )


def test_a_repair_that_was_done_is_tested(incident, case, after) -> None:
    one = incident(IncidentState.REPAIRING)
    done = after(one, decide(case(one)).step)
    assert as_tuple_with_reason(decide(case(done))) == (
        "move",
        (IncidentState.VERIFYING, Reason.REPAIRED),
    )


def test_a_rung_that_became_impossible_or_used_up_is_skipped(incident, case) -> None:
    one = incident(IncidentState.REPAIRING)
    often = (("reset_gpu", GPU, NOW - 9000),) * 2
    for changes in ({"attempts": often}, {"capabilities": EVERYTHING - {"gpu_reset"}}):
        decision = decide(case(one, **changes))
        assert decision.rung == 1


def test_what_the_cluster_cannot_repair_at_all_is_said_to_be_unsupported(
    incident, case, after
) -> None:
    one = _emptied(incident, after)
    decision = decide(case(one, capabilities=EVERYTHING - {"gpu_reset", "reboot"}))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.UNSUPPORTED))
    assert (
        "not reset the GPU: This cluster lacks a required capability: gpu reset." in decision.text
    )
    often = (("reset_gpu", GPU, NOW - 9000),) * 2
    mixed = decide(case(one, capabilities=EVERYTHING - {"reboot"}, attempts=often))
    assert mixed.reason is Reason.LADDER_EXHAUSTED


def test_a_hold_of_a_rung_does_not_skip_it(incident, case, after) -> None:
    cooling = (("reset_gpu", GPU, NOW - 1),)
    decision = decide(case(_emptied(incident, after), attempts=cooling))
    assert as_tuple_with_reason(decision) == ("hold", Reason.COOLDOWN)


def test_a_playbook_without_repairs_leaves_the_empty_target_to_a_person(
    incident, case, after, playbook
) -> None:
    decision = decide(case(_emptied(incident, after), playbook=replace(playbook, ladder=())))
    assert as_tuple_with_reason(decision) == (
        "move",
        (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED),
    )


def test_an_alert_that_is_over_before_the_repair_leads_to_a_test(incident, case, after) -> None:
    over = ("move", (IncidentState.VERIFYING, Reason.ALERT_GONE))
    assert as_tuple_with_reason(decide(case(_emptied(incident, after), firing=False))) == over
    assert (
        as_tuple_with_reason(decide(case(incident(IncidentState.REPAIRING), firing=False))) == over
    )
    rebooting = incident(IncidentState.REPAIRING, rung=1)
    assert as_tuple_with_reason(decide(case(rebooting, firing=False))) == over


@pytest.mark.parametrize("seconds", [299.0, 301.0])
def test_what_waited_for_five_minutes_is_tested_first_while_nothing_was_done(
    incident, case, after, seconds
) -> None:
    one = incident(IncidentState.REPAIRING, since=NOW - seconds, mark=0)
    expected = (
        ("act", "reset_gpu")
        if seconds < 300
        else ("move", (IncidentState.VERIFYING, Reason.HELD_LONG))
    )
    assert as_tuple_with_reason(decide(case(one))) == expected
    begun = after(
        incident(IncidentState.REPAIRING, since=NOW - seconds, rung=1),
        plan.quarantine(ACTIONS, incident(IncidentState.REPAIRING), NODE),
    )
    assert as_tuple_with_reason(decide(case(begun, **OURS))) == ("act", "reboot_node")


@pytest.mark.parametrize(("seconds", "tested_again"), [(19.0, False), (21.0, True)])
def test_a_test_that_failed_a_while_ago_and_no_active_alert_lead_to_another_test(
    incident, case, after, seconds, tested_again
) -> None:
    one = incident(IncidentState.VERIFYING)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    then = NOW + seconds
    quiet = decide(case(failed, now=then, alerts_active=False))
    assert isinstance(quiet, Act) is tested_again
    assert decide(case(failed, now=then)).state is IncidentState.REPAIRING, "an alert is active"
    repairing = replace(failed, state=IncidentState.REPAIRING, since=NOW, mark=len(failed.steps))
    quiet = decide(case(repairing, now=then, alerts_active=False))
    assert isinstance(quiet, Move) is tested_again
    assert isinstance(decide(case(repairing, now=then)), Act), "an alert is active"


# Widening.


@pytest.mark.parametrize(
    ("changes", "widens"),
    [
        ({"siblings": 1}, True),
        ({"exporter_down": True}, True),
        ({}, False),
        ({"siblings": 1, "widens": False}, False),
    ],
)
def test_several_gpus_or_a_silent_exporter_make_the_node_the_patient(
    incident, case, after, changes, widens
) -> None:
    decision = decide(case(_emptied(incident, after), **changes))
    assert isinstance(decision, Widen) is widens


def test_a_node_never_widens_and_neither_does_a_playbook_without_a_wider_one(
    incident, case, after, playbook
) -> None:
    alone = replace(playbook, widen_to=None)
    assert not isinstance(
        decide(case(_emptied(incident, after), playbook=alone, siblings=1)), Widen
    )
    node = _emptied(incident, after, target=NODE)
    assert not isinstance(decide(case(node, siblings=1)), Widen)


# The second opinion.


def test_an_opinion_that_could_not_tell_leaves_it_to_a_person(incident, case, after) -> None:
    one = _emptied(incident, after)
    asked = after(one, decide(case(one, **FEW)).step, done=False, reason=Reason.EFFECT_MISSING)
    assert as_tuple_with_reason(decide(case(asked, **FEW))) == (
        "move",
        (IncidentState.ESCALATED, Reason.WITNESSES),
    )


def test_an_opinion_broken_off_again_and_again_leaves_it_to_a_person(
    incident, case, after, playbook
) -> None:
    three = replace(playbook, witnesses=3)
    one = _emptied(incident, after)
    step = decide(case(one, playbook=three, **FEW)).step
    assert step.id == plan.OPINION
    broken = after(one, step, done=False, reason=Reason.STEP_REFUSED)
    two = {"witnesses": frozenset({"a", "b"})}
    assert as_tuple_with_reason(decide(case(broken, playbook=three, **two))) == (
        "act",
        plan.OPINION,
    )
    for _ in range(plan.MOST_TESTS - 1):
        step = decide(case(broken, playbook=three, **FEW)).step
        broken = after(broken, step, done=False, reason=Reason.STEP_REFUSED)
    assert as_tuple_with_reason(decide(case(broken, playbook=three, **FEW))) == (
        "move", (IncidentState.ESCALATED, Reason.WITNESSES),
    )  # fmt: skip


# After jobs were moved, for a job.


def test_a_jobs_incident_closes_with_its_reason_after_people_were_told(
    incident, case, after
) -> None:
    one = incident(
        IncidentState.JOBS_MOVED, TRAIN, reason=Reason.JOB_RESTARTED, text="It runs on node1."
    )
    step = decide(case(one)).step
    assert step.id == "notify:closed"
    closed = decide(case(after(one, step)))
    assert (as_tuple_with_reason(closed), closed.text) == (
        ("move", (IncidentState.CLOSED, Reason.JOB_RESTARTED)), "It runs on node1.",
    )  # fmt: skip


def test_a_withdrawn_step_and_the_notice_of_the_hold_hide_no_stale_evidence(
    incident, case, after
) -> None:
    one = incident(IncidentState.REPAIRING, since=NOW - 301, mark=0)
    step = plan.new_step(one, ACTIONS.named("reset_gpu"), 1.0)
    prepared = evolve(
        one, events.step_event(Kind.STEP_PREPARED, one, step, NOW - 300, Reason.STEP_ALLOWED)
    )
    withdrawn = evolve(
        prepared, events.step_event(Kind.STEP_WITHDRAWN, prepared, step, NOW - 299, Reason.STORM)
    )
    told = after(withdrawn, plan.notify(ACTIONS, withdrawn, "held-storm"))
    assert as_tuple_with_reason(decide(case(told))) == (
        "move",
        (IncidentState.VERIFYING, Reason.HELD_LONG),
    )
