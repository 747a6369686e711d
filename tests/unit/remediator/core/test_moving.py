from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Move, Wait
from remediator.core.evidence import ACTIVE
from remediator.core.facts import (
    EVERYTHING,
    SensorFacts,
    TargetJob,
)
from remediator.core.model import (
    IncidentState,
    Level,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple, as_tuple_with_reason
from tests.unit.remediator.core.examples import DEAD, FEW, GPU, JOB, NODE, NOW, OURS, RUNNING, TRAIN


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"jobs": ()}, ("move", IncidentState.JOBS_MOVED)),
        ({"jobs": (), "known": False}, ("hold", Reason.FACTS_UNKNOWN)),
        # A dead job is restarted at once: no hold, no witness, no Watchdog.
        (
            {"jobs": DEAD, "sensors": SensorFacts(), "witnesses": frozenset()},
            ("move", IncidentState.DRAINING),
        ),
        (
            {"jobs": DEAD, "level": Level.QUARANTINE},
            ("would", ("signal_checkpoint", "restart_jobs")),
        ),
        ({"jobs": RUNNING}, ("move", IncidentState.CHECKPOINTING)),
        ({"jobs": RUNNING, "paused": True}, ("hold", Reason.PAUSED)),
        ({"jobs": RUNNING, "witnesses": frozenset({"one"})}, ("hold", Reason.WITNESSES)),
        ({"jobs": RUNNING, "sensors": SensorFacts(200.0, True, 1.0)}, ("hold", Reason.DEAD_MAN)),
        ({"jobs": RUNNING, "sensors": SensorFacts(0.0, True, 0.5)}, ("hold", Reason.SENSORS_BLIND)),
        ({"quarantine_owner": None, "alerts_active": False}, ("move", IncidentState.OVERRIDDEN)),
        ({"quarantine_owner": "alice", "alerts_active": False}, ("move", IncidentState.OVERRIDDEN)),
    ],
)
def test_quarantined(incident, case, changes, expected) -> None:
    assert expected == as_tuple(decide(case(incident(IncidentState.QUARANTINED), **changes)))


def test_a_running_job_is_disturbed_only_after_the_hold(incident, case) -> None:
    one = replace(incident(IncidentState.QUARANTINED), opened=NOW - 1)
    held = decide(case(one, jobs=RUNNING))
    assert (held.reason, held.until) == (Reason.HOLD, NOW + 2)
    assert isinstance(decide(case(one, jobs=RUNNING, now=NOW + 2.001)), Move)


def test_checkpoint_signal_then_wait_then_go_on(incident, case, after) -> None:
    one = incident(IncidentState.CHECKPOINTING)
    first = decide(case(one, jobs=RUNNING))
    assert as_tuple(first) == ("act", "signal_checkpoint")
    told = after(one, first.step)
    assert isinstance(decide(case(told, jobs=RUNNING, now=NOW + 1)), Wait)
    saved = case(told, jobs=RUNNING, now=NOW + 1, checkpoint_at=NOW + 0.5)
    assert as_tuple(decide(saved)) == ("move", IncidentState.DRAINING)
    older = case(told, jobs=RUNNING, now=NOW + 1, checkpoint_at=NOW - 5)
    assert isinstance(decide(older), Wait)
    assert as_tuple(decide(case(told, jobs=RUNNING, now=NOW + 10.1))) == (
        "move",
        IncidentState.DRAINING,
    )


def test_a_job_that_cannot_be_moved_needs_a_person(incident, case, after) -> None:
    one = incident(IncidentState.DRAINING)
    for _ in range(2):
        step = decide(case(one, jobs=DEAD)).step
        assert step.id == "restart_jobs"
        one = after(one, step, done=False)
    assert as_tuple(decide(case(one, jobs=DEAD))) == ("move", IncidentState.ESCALATED)


# An alert that is over moves nothing.


@pytest.mark.parametrize(
    "state",
    [IncidentState.QUARANTINED, IncidentState.DRAINING, IncidentState.JOBS_MOVED],
)
@pytest.mark.parametrize("jobs", [RUNNING, DEAD])
def test_an_alert_that_is_over_leads_to_a_test_and_moves_nothing(
    incident, case, after, state, jobs
) -> None:
    one = incident(state)
    one = after(one, plan.notify(ACTIONS, one, "opened"))
    decision = decide(case(one, jobs=jobs, firing=False))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.VERIFYING, Reason.ALERT_GONE))


def test_a_target_that_was_emptied_while_the_alert_ended_is_no_longer_drained(
    incident, case
) -> None:
    decision = decide(case(incident(IncidentState.DRAINING), firing=False))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.JOBS_MOVED, Reason.JOBS_MOVED))


def test_too_few_signals_of_an_alert_that_is_over_do_not_keep_a_target_out_for_a_job(
    incident, case
) -> None:
    one = incident(IncidentState.QUARANTINED)
    # An event still counts as evidence, and its alert fires no more.
    spent = {"evidence": ACTIVE, "alerts_active": False}
    decision = decide(case(one, jobs=RUNNING, **FEW, **spent))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.VERIFYING, Reason.ALERT_GONE))
    held = decide(case(one, jobs=RUNNING, **FEW))
    assert as_tuple_with_reason(held) == ("hold", Reason.WITNESSES)


@pytest.mark.parametrize("state", [IncidentState.QUARANTINED, IncidentState.DRAINING])
@pytest.mark.parametrize(("seconds", "stays"), [(19.0, False), (21.0, True)])
def test_a_past_event_moves_no_running_job_when_no_alert_is_active(
    incident, case, state, seconds, stays
) -> None:
    one, ago = incident(state), {"evidence": ACTIVE, "event_at": NOW - seconds}
    first = ("move", (IncidentState.VERIFYING, Reason.HELD_LONG))
    quiet = decide(case(one, jobs=RUNNING, alerts_active=False, **ago))
    assert (as_tuple_with_reason(quiet) == first) is stays
    assert as_tuple_with_reason(decide(case(one, jobs=RUNNING, **ago))) != first, (
        "an alert is active"
    )
    assert (
        as_tuple_with_reason(decide(case(one, jobs=DEAD, alerts_active=False, **ago))) != first
    ), "dead jobs"


def test_a_move_that_has_begun_is_ended_though_its_event_grows_old(incident, case, after) -> None:
    one = incident(IncidentState.DRAINING)
    begun = after(one, plan.new_step(one, ACTIONS.named("restart_jobs"), 1.0, jobs=("train-b",)))
    old = {"evidence": ACTIVE, "event_at": NOW - 600, "alerts_active": False}
    assert isinstance(decide(case(begun, jobs=RUNNING, **old)), Act | Move)
    assert as_tuple_with_reason(decide(case(begun, jobs=RUNNING, **old))) != (
        "move", (IncidentState.VERIFYING, Reason.HELD_LONG),
    )  # fmt: skip


# Nothing is touched for what cannot be done.


def test_no_running_job_leaves_a_node_that_no_repair_of_the_cluster_can_help(
    incident, case, playbook
) -> None:
    variant = replace(playbook, target=TargetKind.NODE, ladder=playbook.ladder[1:])
    able = EVERYTHING - {"reboot"}
    one = incident(IncidentState.QUARANTINED, NODE)
    decision = decide(case(one, playbook=variant, jobs=RUNNING, capabilities=able))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.UNSUPPORTED))
    assert "running jobs are not moved" in decision.text
    dead = decide(case(one, playbook=variant, jobs=DEAD, capabilities=able))
    assert as_tuple_with_reason(dead) == ("move", (IncidentState.DRAINING, Reason.MOVING_JOBS))


def test_a_gpus_jobs_are_moved_although_nothing_repairs_it(incident, case) -> None:
    able = EVERYTHING - {"reboot", "gpu_reset"}
    decision = decide(case(incident(IncidentState.QUARANTINED), jobs=RUNNING, capabilities=able))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.CHECKPOINTING, Reason.SAVING))


@pytest.mark.parametrize("jobs", [RUNNING, DEAD])
@pytest.mark.parametrize("state", [IncidentState.QUARANTINED, IncidentState.DRAINING])
def test_a_cluster_that_restarts_no_jobs_leaves_them_to_a_person(
    incident, case, state, jobs
) -> None:
    able = EVERYTHING - {"restart"}
    decision = decide(case(incident(state), jobs=jobs, capabilities=able))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.ESCALATED, Reason.UNSUPPORTED))


def test_without_checkpoint_signals_a_job_is_moved_without_one(incident, case) -> None:
    able = EVERYTHING - {"signal"}
    decision = decide(case(incident(IncidentState.QUARANTINED), jobs=RUNNING, capabilities=able))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.DRAINING, Reason.MOVING_JOBS))


# Checkpoints.


def test_a_job_that_started_running_meanwhile_is_asked_for_a_checkpoint_first(
    incident, case, after
) -> None:
    one = incident(IncidentState.DRAINING)
    decision = decide(case(one, jobs=RUNNING))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.CHECKPOINTING, Reason.SAVING))
    signalled = after(one, plan.new_step(one, ACTIONS.named("signal_checkpoint"), 9.0))
    assert as_tuple_with_reason(decide(case(signalled, jobs=RUNNING))) == ("act", "restart_jobs")


def test_a_checkpoint_signal_that_failed_is_not_waited_for(incident, case, after) -> None:
    one = incident(IncidentState.CHECKPOINTING)
    step = decide(case(one, jobs=RUNNING)).step
    failed = after(one, step, done=False)
    decision = decide(case(failed, jobs=RUNNING))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.DRAINING, Reason.MOVING_JOBS))


def test_a_job_that_died_meanwhile_is_not_waited_for(incident, case, after) -> None:
    one = incident(IncidentState.CHECKPOINTING)
    assert as_tuple_with_reason(decide(case(one, jobs=DEAD)))[0] == "move"
    told = after(one, decide(case(one, jobs=RUNNING)).step)
    assert as_tuple_with_reason(decide(case(told, jobs=DEAD)))[0] == "move"
    assert decide(case(told, jobs=RUNNING, now=NOW + 9.9)) == Wait(NOW + 10.0)
    assert as_tuple_with_reason(decide(case(told, jobs=RUNNING, now=NOW + 10.0)))[0] == "move"


def test_a_checkpoint_is_newer_than_its_signal(incident, case, after) -> None:
    one = incident(IncidentState.CHECKPOINTING)
    told = after(one, decide(case(one, jobs=RUNNING)).step)
    assert as_tuple_with_reason(decide(case(told, jobs=RUNNING, checkpoint_at=NOW)))[0] == "move"
    assert decide(case(told, jobs=RUNNING, checkpoint_at=NOW - 0.1)) == Wait(NOW + 0.5)


# Which jobs.


def test_a_job_that_the_quarantine_left_dead_is_ordered_away_though_the_cluster_did_it(
    incident, case, after
) -> None:
    one = incident(IncidentState.TRIAGED)
    step = decide(case(one, quarantine_owner=None, jobs=DEAD)).step
    assert step.jobs == ("train-a",)
    one = replace(after(one, step), state=IncidentState.QUARANTINED)
    assert as_tuple_with_reason(decide(case(one))) == (
        "move",
        (IncidentState.DRAINING, Reason.MOVING_JOBS),
    )
    draining = replace(one, state=IncidentState.DRAINING)
    act = decide(case(draining))
    assert (act.step.action, act.step.jobs) == ("restart_jobs", ("train-a",))
    moved = after(draining, act.step)
    assert as_tuple_with_reason(decide(case(moved))) == (
        "move",
        (IncidentState.JOBS_MOVED, Reason.JOBS_MOVED),
    )


def test_dead_jobs_go_first_and_running_ones_after_their_guards(incident, case, after) -> None:
    both = (TargetJob("train-a", True), TargetJob("train-b", False))
    one = incident(IncidentState.DRAINING)
    act = decide(case(one, jobs=both, **FEW))
    assert act.step.jobs == ("train-b",)
    moved = after(one, act.step)
    assert as_tuple_with_reason(decide(case(moved, jobs=both[:1], **FEW))) == (
        "hold",
        Reason.WITNESSES,
    )


def test_a_moved_job_keeps_off_hardware_that_alerts_accuse(incident, case) -> None:
    others = (Target.parse("node3/1"), Target.parse("node4"))
    one = incident(IncidentState.DRAINING)
    act = decide(case(one, jobs=DEAD, reported_hardware=(one.target, *others)))
    assert act.step.also == others, "the target is left by the step itself"


@pytest.mark.parametrize(("runs", "expected"), [(3, "act"), (4, "move")])
def test_jobs_are_moved_four_times_at_most(incident, case, after, runs, expected) -> None:
    one = incident(IncidentState.DRAINING)
    for _ in range(runs):
        one = after(one, plan.new_step(one, ACTIONS.named("restart_jobs"), 9.0, jobs=("other",)))
    said = decide(case(one, jobs=DEAD))
    assert as_tuple_with_reason(said)[0] == expected
    assert expected == "act" or said.reason is Reason.JOB_STUCK


# One job.


def test_a_job_that_the_cluster_does_not_know_is_unknown_and_not_well_again(
    incident, case, after
) -> None:
    for state in (IncidentState.TRIAGED, IncidentState.DRAINING):
        one = incident(state, TRAIN)
        first = decide(case(one, playbook=JOB, job_known=False))
        assert as_tuple_with_reason(first) == ("act", "notify:failed")
        ended = decide(case(after(one, first.step), playbook=JOB, job_known=False))
        assert as_tuple_with_reason(ended) == ("move", (IncidentState.FAILED, Reason.UNKNOWN_JOB))


def test_before_the_cluster_answers_no_job_is_unknown(incident, case) -> None:
    unasked = {"known": False, "job_known": False}
    assert (
        as_tuple_with_reason(
            decide(case(incident(IncidentState.TRIAGED, TRAIN), playbook=JOB, **unasked))
        )[0]
        == "move"
    )
    held = decide(case(incident(IncidentState.DRAINING, TRAIN), playbook=JOB, **unasked))
    assert as_tuple_with_reason(held) == ("hold", Reason.FACTS_UNKNOWN)


def test_a_job_that_has_ended_or_whose_alert_is_over_is_not_restarted(incident, case) -> None:
    one = incident(IncidentState.DRAINING, TRAIN)
    ended = decide(case(one, playbook=JOB))
    assert as_tuple_with_reason(ended) == ("move", (IncidentState.JOBS_MOVED, Reason.NO_JOBS))
    over = decide(case(one, playbook=JOB, jobs=RUNNING, firing=False))
    assert as_tuple_with_reason(over) == ("move", (IncidentState.JOBS_MOVED, Reason.ALERT_GONE))
    assert "before the job was restarted" in over.text


def test_the_restarts_of_another_job_do_not_count(incident, case) -> None:
    one = incident(IncidentState.DRAINING, TRAIN)
    other = Target(TargetKind.JOB, "train-b")
    often = (("restart_jobs", other, NOW),) * 5 + (("scale", TRAIN, NOW),) * 5
    assert as_tuple_with_reason(decide(case(one, playbook=JOB, jobs=RUNNING, attempts=often))) == (
        "act",
        "restart_jobs",
    )


def test_a_dead_job_without_its_watchdog_is_restarted_and_a_running_one_waits(
    incident, case
) -> None:
    one = incident(IncidentState.DRAINING, TRAIN)
    blind = {"playbook": JOB, "sensors": SensorFacts()}
    assert as_tuple_with_reason(decide(case(one, jobs=DEAD, **blind))) == ("act", "restart_jobs")
    assert as_tuple_with_reason(decide(case(one, jobs=RUNNING, **blind))) == (
        "hold",
        Reason.DEAD_MAN,
    )


def test_a_job_that_cannot_be_restarted_here_is_a_persons(incident, case) -> None:
    able = EVERYTHING - {"restart"}
    for state in (IncidentState.TRIAGED, IncidentState.DRAINING):
        one = incident(state, TRAIN)
        said = decide(case(one, playbook=JOB, jobs=RUNNING, capabilities=able))
        assert (as_tuple_with_reason(said), said.text) == (
            ("act", "notify:failed"), "This cluster lacks a required capability: restart.",
        )  # fmt: skip


def test_a_stalled_job_is_restarted_twice_an_hour_and_then_left_to_people(
    incident, case, after
) -> None:
    one = incident(IncidentState.TRIAGED, TRAIN)
    assert as_tuple(decide(case(one, playbook=JOB))) == ("move", IncidentState.DRAINING)
    one = incident(IncidentState.DRAINING, TRAIN)
    step = decide(case(one, playbook=JOB, jobs=RUNNING)).step
    assert (step.action, step.jobs) == ("restart_jobs", ("train-a",))
    done = after(one, step)
    assert as_tuple(decide(case(done, playbook=JOB, jobs=RUNNING))) == (
        "move",
        IncidentState.JOBS_MOVED,
    )
    often = tuple(("restart_jobs", TRAIN, NOW - n) for n in (10, 20))
    assert as_tuple(decide(case(one, playbook=JOB, jobs=RUNNING, attempts=often))) == (
        "act",
        "notify:failed",
    )


def test_a_job_that_finds_no_room_is_stuck_at_its_deadline_and_is_not_ordered_again(
    incident, case, after
) -> None:
    one = incident(IncidentState.DRAINING, TRAIN)
    step = decide(case(one, playbook=JOB, jobs=RUNNING)).step
    waits = (TargetJob("train-a", False),)
    late = after(
        one, step, done=False, reason=Reason.EFFECT_MISSING, text="train-a waits for capacity."
    )
    told = decide(case(late, playbook=JOB, jobs=waits)).step
    assert told.id == "notify:failed"
    for firing in (True, False):  # that its alert is over does not undo that it was stopped
        ended = decide(case(after(late, told), playbook=JOB, jobs=waits, firing=firing))
        assert (ended.state, ended.reason) == (IncidentState.FAILED, Reason.JOB_STUCK)


@pytest.mark.parametrize("state", [IncidentState.DRAINING, IncidentState.REPAIRING])
def test_a_level_that_was_lowered_stops_what_had_begun(incident, case, state) -> None:
    decision = decide(case(incident(state), jobs=RUNNING, level=Level.QUARANTINE))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.LEVEL)


def test_a_nodes_running_jobs_are_moved_where_one_of_its_repairs_is_possible(
    incident, case, playbook
) -> None:
    variant = replace(playbook, target=TargetKind.NODE, ladder=playbook.ladder[1:], widen_to=None)
    one = incident(IncidentState.QUARANTINED, NODE)
    assert as_tuple(decide(case(one, playbook=variant, jobs=RUNNING))) == (
        "move",
        IncidentState.CHECKPOINTING,
    )
    unable = case(one, playbook=variant, jobs=RUNNING, capabilities=EVERYTHING - {"reboot"})
    assert decide(unable).reason is Reason.UNSUPPORTED


def test_a_restart_has_the_playbooks_deadline(incident, case, playbook) -> None:
    assert playbook.jobs is not None
    own = replace(playbook, jobs=replace(playbook.jobs, deadline=77.0))
    step = decide(case(incident(IncidentState.DRAINING), playbook=own, jobs=DEAD)).step
    assert (step.id, step.deadline) == ("restart_jobs", 77.0)


def test_a_nodes_other_jobs_are_not_moved_for_a_reboot_during_a_pause(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, rung=1, quarantined=(GPU, NODE))
    decision = decide(case(one, node_jobs=DEAD, paused=True, **OURS))
    assert decision.reason is Reason.PAUSED
