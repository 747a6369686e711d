from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events, plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Hold, Move, Wait, Widen
from remediator.core.evidence import unknown
from remediator.core.model import FaultClass, Level, Playbook, ScalePlan, State, VerifyPlan
from remediator.core.reasons import Reason
from remediator.core.view import EVERYTHING, JobView, PoolView, SensorView, Stops, WorkloadView

NOW = 1_700_000_000.0
GPU, NODE = Target(TargetKind.GPU, "node2", 3), Target(TargetKind.NODE, "node2")
SERVE, TRAIN = Target(TargetKind.WORKLOAD, "serve"), Target(TargetKind.JOB, "train-a")
RUNNING = (JobView("train-a", True),)
OURS = {"node_quarantine_owner": "fleetmedic"}
FEW = {"witnesses": frozenset({"one"})}


def _said(decision: Any) -> tuple[str, Any]:
    if isinstance(decision, Act):
        return "act", decision.step.id
    if isinstance(decision, Move):
        return "move", (decision.state, decision.reason)
    if isinstance(decision, Widen):
        return "widen", None
    return ("hold", decision.reason) if isinstance(decision, Hold) else ("wait", None)


def _emptied(incident, after, **changes):
    one = incident(State.JOBS_MOVED, **changes)
    return after(one, plan.notify(one, "opened"))


# Climbing.


@pytest.mark.parametrize(
    ("reason", "passed"),
    [(Reason.STEP_REFUSED, None), (Reason.EFFECT_MISSING, None), (Reason.NOT_HEALED, False)],
)
def test_a_repair_that_failed_leads_to_the_next_rung(incident, case, after, reason, passed) -> None:
    one = incident(State.REPAIRING)
    failed = after(one, decide(case(one)).step, done=False, reason=reason, passed=passed)
    decision = decide(case(failed))
    assert (_said(decision), decision.rung) == (
        ("move", (State.REPAIRING, Reason.REPAIR_STARTS)), 1,
    )  # fmt: skip
    assert decision.text == "Rung 2: reboot_node."


def test_the_last_rung_that_failed_leads_to_a_person(incident, case, after) -> None:
    one = incident(State.REPAIRING, rung=1, quarantined=(GPU, NODE))
    step = decide(case(one, **OURS)).step
    assert step.action == "reboot_node"
    failed = after(one, step, done=False)
    decision = decide(case(failed, **OURS))
    assert _said(decision) == ("move", (State.ESCALATED, Reason.LADDER_EXHAUSTED))


def test_a_repair_that_was_done_is_tested(incident, case, after) -> None:
    one = incident(State.REPAIRING)
    done = after(one, decide(case(one)).step)
    assert _said(decide(case(done))) == ("move", (State.VERIFYING, Reason.REPAIRED))


def test_a_rung_that_became_impossible_or_used_up_is_skipped(incident, case) -> None:
    one = incident(State.REPAIRING)
    often = (("reset_gpu", GPU, NOW - 9000),) * 2
    for changes in ({"attempts": often}, {"capabilities": EVERYTHING - {"gpu_reset"}}):
        decision = decide(case(one, **changes))
        assert decision.rung == 1


def test_what_the_cluster_cannot_repair_at_all_is_said_to_be_unsupported(
    incident, case, after
) -> None:
    one = _emptied(incident, after)
    decision = decide(case(one, capabilities=EVERYTHING - {"gpu_reset", "reboot"}))
    assert _said(decision) == ("move", (State.ESCALATED, Reason.UNSUPPORTED))
    assert "reset_gpu: This cluster lacks the capability: gpu reset." in decision.text
    often = (("reset_gpu", GPU, NOW - 9000),) * 2
    mixed = decide(case(one, capabilities=EVERYTHING - {"reboot"}, attempts=often))
    assert mixed.reason is Reason.LADDER_EXHAUSTED


def test_a_hold_of_a_rung_does_not_skip_it(incident, case, after) -> None:
    cooling = (("reset_gpu", GPU, NOW - 1),)
    decision = decide(case(_emptied(incident, after), attempts=cooling))
    assert _said(decision) == ("hold", Reason.COOLDOWN)


def test_a_playbook_without_repairs_leaves_the_empty_target_to_a_person(
    incident, case, after, playbook
) -> None:
    decision = decide(case(_emptied(incident, after), book=replace(playbook, ladder=())))
    assert _said(decision) == ("move", (State.ESCALATED, Reason.LADDER_EXHAUSTED))


def test_an_alert_that_is_over_before_the_repair_leads_to_a_test(incident, case, after) -> None:
    over = ("move", (State.VERIFYING, Reason.ALERT_GONE))
    assert _said(decide(case(_emptied(incident, after), firing=False))) == over
    assert _said(decide(case(incident(State.REPAIRING), firing=False))) == over
    rebooting = incident(State.REPAIRING, rung=1)
    assert _said(decide(case(rebooting, firing=False))) == over


@pytest.mark.parametrize("seconds", [299.0, 301.0])
def test_what_waited_for_five_minutes_is_tested_first_while_nothing_was_done(
    incident, case, after, seconds
) -> None:
    one = incident(State.REPAIRING, since=NOW - seconds, mark=0)
    expected = (
        ("act", "reset_gpu") if seconds < 300 else ("move", (State.VERIFYING, Reason.HELD_LONG))
    )
    assert _said(decide(case(one))) == expected
    begun = after(
        incident(State.REPAIRING, since=NOW - seconds, rung=1),
        plan.quarantine(incident(State.REPAIRING), NODE),
    )
    assert _said(decide(case(begun, **OURS))) == ("act", "reboot_node")


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
    assert not isinstance(decide(case(_emptied(incident, after), book=alone, siblings=1)), Widen)
    node = _emptied(incident, after, target=NODE)
    assert not isinstance(decide(case(node, siblings=1)), Widen)


# The second opinion.


def test_an_opinion_that_could_not_tell_leaves_it_to_a_person(incident, case, after) -> None:
    one = _emptied(incident, after)
    asked = after(one, decide(case(one, **FEW)).step, done=False, reason=Reason.EFFECT_MISSING)
    assert _said(decide(case(asked, **FEW))) == ("move", (State.ESCALATED, Reason.WITNESSES))


def test_an_opinion_that_was_broken_off_is_asked_again_where_more_signals_are_needed(
    incident, case, after, playbook
) -> None:
    three = replace(playbook, witnesses=3)
    one = _emptied(incident, after)
    step = decide(case(one, book=three, **FEW)).step
    assert step.id == plan.OPINION
    broken = after(one, step, done=False, reason=Reason.STEP_REFUSED)
    two = {"witnesses": frozenset({"a", "b"})}
    assert _said(decide(case(broken, book=three, **two))) == ("act", plan.OPINION)
    assert _said(decide(case(broken, book=three, **FEW))) == (
        "move", (State.ESCALATED, Reason.WITNESSES),
    )  # fmt: skip


# A whole node for one GPU.


def test_a_node_of_another_owner_is_neither_quarantined_nor_rebooted(incident, case) -> None:
    one = incident(State.REPAIRING, rung=1)
    decision = decide(case(one, node_quarantine_owner="bob"))
    assert _said(decision) == ("hold", Reason.OTHER_OWNER)


def test_a_node_that_could_not_be_quarantined_is_not_rebooted(incident, case, after) -> None:
    one = incident(State.REPAIRING, rung=1)
    failed = after(one, decide(case(one)).step, done=False)
    assert _said(decide(case(failed))) == ("move", (State.ESCALATED, Reason.QUARANTINE_FAILED))


def test_a_node_whose_jobs_cannot_be_moved_is_not_even_quarantined(incident, case) -> None:
    one = incident(State.REPAIRING, rung=1)
    able = EVERYTHING - {"restart"}
    decision = decide(case(one, node_jobs=RUNNING, capabilities=able))
    assert _said(decision) == ("move", (State.ESCALATED, Reason.UNSUPPORTED))
    assert _said(decide(case(one, capabilities=able))) == ("act", "quarantine_node")


def test_the_nodes_quarantine_waits_for_its_own_budget_and_a_pin(incident, case) -> None:
    one = incident(State.REPAIRING, rung=1)
    full = PoolView(gpus=32, nodes=4, nodes_out=1)
    assert _said(decide(case(one, pool=full))) == ("hold", Reason.BUDGET_OUT)
    gpus = PoolView(gpus=32, nodes=4, gpus_out=30)
    assert _said(decide(case(one, pool=gpus))) == ("act", "quarantine_node")
    pinned = Stops(pinned="alice: fine")
    assert _said(decide(case(one, stops=pinned))) == ("hold", Reason.PINNED)


def test_a_reset_needs_no_empty_node(incident, case) -> None:
    one = incident(State.REPAIRING)
    assert _said(decide(case(one, node_jobs=RUNNING))) == ("act", "reset_gpu")


# Verifying.


def test_tests_wait_for_a_pause_and_for_facts(incident, case) -> None:
    one = incident(State.VERIFYING)
    assert _said(decide(case(one, paused=True))) == ("hold", Reason.PAUSED)
    assert _said(decide(case(one, known=False))) == ("hold", Reason.FACTS_UNKNOWN)
    other = Stops(other_installation="b")
    assert _said(decide(case(one, stops=other))) == ("hold", Reason.OTHER_INSTALLATION)
    late = incident(State.PROBATION, until=NOW - 1)
    assert _said(decide(case(late, paused=True))) == ("hold", Reason.PAUSED)
    assert _said(decide(case(late, known=False))) == ("hold", Reason.FACTS_UNKNOWN)
    assert _said(decide(case(late, stops=other))) == ("hold", Reason.OTHER_INSTALLATION)


def test_a_target_in_use_is_watched_and_released_while_its_job_runs(incident, case, after) -> None:
    one = incident(State.VERIFYING)
    over = {"jobs": RUNNING, "firing": False}
    watch = decide(case(one, **over)).step
    assert (watch.id, watch.action) == (plan.WATCH, "verify")
    assert watch.deadline >= 300.0, "longer than metrics must stay healthy"
    healthy = after(one, watch, passed=True, text="healthy for long")
    move = decide(case(healthy, **over))
    assert _said(move) == ("move", (State.PROBATION, Reason.HEALTHY_IN_SERVICE))
    assert (move.until, move.text) == (NOW, "healthy for long")
    lifted = replace(
        healthy, state=State.PROBATION, reason=move.reason, until=NOW, since=NOW, mark=1
    )
    release = decide(case(lifted, **over)).step
    assert (release.action, release.also) == ("release", (GPU,))


def test_an_alert_that_fires_again_while_it_is_watched_is_treated_like_at_first(
    incident, case, after
) -> None:
    one = incident(State.VERIFYING)
    watch = decide(case(one, jobs=RUNNING, firing=False)).step
    broken = after(one, watch, done=False, reason=Reason.STEP_REFUSED)
    again = decide(case(broken, jobs=RUNNING))
    assert _said(again) == ("move", (State.QUARANTINED, Reason.NEW_ALERT))
    over = decide(case(broken, jobs=RUNNING, firing=False))
    assert _said(over) == ("act", plan.WATCH), "it is over after all"
    unclear = after(one, watch, done=False, reason=Reason.EFFECT_MISSING)
    assert _said(decide(case(unclear, jobs=RUNNING, firing=False))) == (
        "move", (State.ESCALATED, Reason.UNVERIFIABLE),
    )  # fmt: skip


def test_a_new_alert_on_what_is_lifted_in_use_is_treated_like_at_first(
    incident, case, alert
) -> None:
    new = (events.episode_of(alert(at=NOW), NOW),)
    watched = incident(State.PROBATION, reason=Reason.HEALTHY_IN_SERVICE, alerts=new)
    assert _said(decide(case(watched))) == ("move", (State.QUARANTINED, Reason.NEW_ALERT))
    tested = incident(State.PROBATION, reason=Reason.ON_PROBATION, alerts=new)
    assert _said(decide(case(tested))) == ("move", (State.VERIFYING, Reason.NEW_ALERT))


def test_an_idle_target_is_tested_and_one_that_cannot_be_is_watched(incident, case) -> None:
    one = incident(State.VERIFYING)
    able = EVERYTHING - {"probe"}
    assert _said(decide(case(one))) == ("act", "verify")
    assert _said(decide(case(one, capabilities=able))) == ("act", plan.WATCH)
    repaired = replace(one, repaired_at=NOW - 5)
    assert _said(decide(case(repaired, capabilities=able))) == ("act", "verify")


@pytest.mark.parametrize("tests", [9, 10])
def test_an_incident_has_ten_tests_of_any_kind_at_most(incident, case, after, tests) -> None:
    one = incident(State.VERIFYING)
    for number in range(tests):
        name = ("verify", plan.WATCH, plan.OPINION)[number % 3]
        one = after(one, plan.new_step(one, "verify", 9.0, name=name), passed=True)
    one = replace(one, mark=len(one.steps))
    decision = decide(case(one))
    tenth = ("move", (State.ESCALATED, Reason.TESTED_OFTEN))
    assert _said(decision) == (tenth if tests == 10 else ("act", "verify"))
    retried = replace(one, base=len(one.steps))
    assert _said(decide(case(retried))) == ("act", "verify")


def test_a_failed_test_at_a_lowered_level_is_a_persons(incident, case, after) -> None:
    one = incident(State.VERIFYING)
    failed = after(one, decide(case(one)).step, done=False, passed=False, text="sick")
    decision = decide(case(failed, level=Level.DRAIN))
    assert (_said(decision), decision.text) == (("move", (State.ESCALATED, Reason.LEVEL)), "sick")


@pytest.mark.parametrize(
    ("probation", "doubles", "recurrence", "seconds"),
    [(900.0, True, 3, 7200.0), (900.0, False, 3, 900.0), (900.0, True, 20, 57_600.0),
     (50_000.0, True, 3, 86_400.0), (200_000.0, True, 3, 200_000.0)],
)  # fmt: skip
def test_probation_doubles_up_to_a_day_where_the_playbook_asks_for_it(
    incident, case, after, playbook, probation, doubles, recurrence, seconds
) -> None:
    book = replace(playbook, probation=probation, double_on_repeat=doubles)
    one = incident(State.VERIFYING, recurrence=recurrence)
    passed = after(one, decide(case(one, book=book)).step, passed=True)
    assert decide(case(passed, book=book)).until == NOW + seconds


# Probation.


def test_a_test_that_could_not_tell_on_probation_is_a_persons(incident, case, after) -> None:
    one = incident(State.PROBATION, until=NOW - 1)
    untold = after(one, decide(case(one)).step, done=False)
    assert _said(decide(case(untold))) == ("move", (State.ESCALATED, Reason.UNVERIFIABLE))


def test_a_release_is_tried_twice(incident, case, after) -> None:
    one = incident(State.PROBATION, until=NOW - 1)
    one = after(one, decide(case(one)).step, passed=True)
    for _ in range(2):
        step = decide(case(one)).step
        assert step.action == "release"
        one = after(one, step, done=False, text="refused")
    decision = decide(case(one))
    assert (_said(decision), decision.text) == (
        ("move", (State.ESCALATED, Reason.RELEASE_FAILED)), "refused",
    )  # fmt: skip


def test_probation_ends_exactly_at_its_time(incident, case) -> None:
    one = incident(State.PROBATION, until=NOW)
    assert _said(decide(case(one))) == ("act", "verify")
    assert decide(case(one, now=NOW - 0.1)) == Wait(NOW)


def test_an_alert_of_the_moment_probation_began_is_no_new_one(incident, case, alert) -> None:
    old = (events.episode_of(alert(at=NOW - 30), NOW),)
    one = incident(State.PROBATION, until=NOW + 9, since=NOW - 30, alerts=old)
    assert decide(case(one)) == Wait(NOW + 9)


# After jobs were moved, for a job.


def test_a_jobs_incident_closes_with_its_reason_after_people_were_told(
    incident, case, after
) -> None:
    one = incident(State.JOBS_MOVED, TRAIN, reason=Reason.JOB_RESTARTED, text="It runs on node1.")
    step = decide(case(one)).step
    assert step.id == "notify:closed"
    closed = decide(case(after(one, step)))
    assert (_said(closed), closed.text) == (
        ("move", (State.CLOSED, Reason.JOB_RESTARTED)), "It runs on node1.",
    )  # fmt: skip


# Scaling.


def _scale(step: int, **more: Any) -> Playbook:
    return Playbook(
        "scale", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
        scale=ScalePlan(step, 4.0, 60.0, 3), verify=VerifyPlan((), 1, 1.0), **more,
    )  # fmt: skip


def _load(wanted: int, waiting: float | None) -> dict[str, Any]:
    return {"workload": WorkloadView(wanted, wanted, 1, 8, waiting)}


def test_replicas_are_taken_away_only_while_the_alert_is_known_to_fire(incident, case) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    idle = {"book": _scale(-1), **_load(4, 0.0)}
    assert _said(decide(case(one, **idle))) == ("act", "scale")
    over = decide(case(one, firing=False, **idle))
    assert _said(over) == ("move", (State.CLOSED, Reason.ALERT_GONE))
    held = decide(case(one, evidence=unknown("no answer"), **idle))
    assert _said(held) == ("hold", Reason.ALERT_UNCONFIRMED)
    blind = decide(case(one, sensors=SensorView(), **idle))
    assert _said(blind) == ("hold", Reason.DEAD_MAN)


def test_replicas_are_added_without_all_that(incident, case) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    queue = {"book": _scale(1), **_load(2, 30.0)}
    assert _said(decide(case(one, sensors=SensorView(), **queue))) == ("act", "scale")
    unsure = decide(case(one, evidence=unknown("?"), **queue))
    assert _said(unsure) == ("act", "scale")
    assert _said(decide(case(one, paused=True, **queue))) == ("hold", Reason.PAUSED)


def test_at_the_minimum_no_scale_out_ends_and_at_the_maximum_no_scale_in(incident, case) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    least = decide(case(one, book=_scale(1), **_load(1, 0.0)))
    assert least == Wait(NOW + 2)
    most = decide(case(one, book=_scale(-1), **_load(8, 90.0)))
    assert most == Wait(NOW + 2)
    assert _said(decide(case(one, book=_scale(-1), **_load(1, 0.0)))) == ("act", "notify:limit")


def test_a_scaling_that_fails_is_a_persons_and_three_steps_are_the_most(
    incident, case, after
) -> None:
    queue = {"book": _scale(1), **_load(2, 90.0)}
    one = incident(State.REPAIRING, SERVE, quarantined=())
    step = decide(case(one, **queue)).step
    failed = after(one, step, done=False, text="quota")
    assert _said(decide(case(failed, **queue))) == ("act", "notify:failed")
    for _ in range(3):
        one = after(one, plan.new_step(one, "scale", 9.0, replicas=3))
    assert _said(decide(case(one, **queue))) == ("act", "notify:closed")
    told = after(one, plan.notify(one, "closed"))
    assert _said(decide(case(told, **queue))) == ("move", (State.CLOSED, Reason.RESCALED))


def test_demand_that_went_away_before_a_step_closes_quietly(incident, case) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    decision = decide(case(one, book=_scale(1), firing=False, **_load(4, 8.0)))
    assert _said(decision) == ("move", (State.CLOSED, Reason.RESCALED))
