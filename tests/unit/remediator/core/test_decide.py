from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Hold, Move, Wait, Widen, Would
from remediator.core.evidence import ACTIVE, OVER
from remediator.core.lifecycle import TRANSITIONS
from remediator.core.model import ENDED, FaultClass, JobsPlan, Level, Playbook, ScalePlan, State
from remediator.core.reasons import Reason
from remediator.core.view import (
    EVERYTHING,
    JobView,
    PoolView,
    SensorView,
    Stops,
    View,
    WorkloadView,
)

NOW = 1_700_000_000.0
NODE = Target(TargetKind.NODE, "node2")
GPU = Target(TargetKind.GPU, "node2", 3)
DEAD, RUNNING = (JobView("train-a", False),), (JobView("train-a", True),)


def _said(decision) -> tuple[str, object]:
    """The kind of a decision, and what matters of it."""
    match decision:
        case Act(step, _, _):
            return "act", step.id
        case Move(state, _, _, _, _):
            return "move", state
        case Hold(reason, _, _):
            return "hold", reason
        case Would(actions, _):
            return "would", actions
        case Widen():
            return "widen", None
        case _:
            return "wait", None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("act", "quarantine_gpu")),
        ({"paused": True}, ("hold", Reason.PAUSED)),
        ({"known": False}, ("hold", Reason.FACTS_UNKNOWN)),
        ({"quarantine_owner": "alice"}, ("hold", Reason.OTHER_OWNER)),
        ({"node_quarantine_owner": "alice"}, ("hold", Reason.OTHER_OWNER)),
        ({"firing": False}, ("move", State.SUPPRESSED)),
        ({"pool": PoolView(gpus=32, gpus_out=3)}, ("hold", Reason.BUDGET_OUT)),
        ({"pool": PoolView(gpus=32, recent=(NOW, NOW, NOW))}, ("hold", Reason.BUDGET_NEW)),
        ({"level": Level.QUARANTINE}, ("act", "quarantine_gpu")),
        # A quarantine needs neither a second witness, nor the hold, nor the Watchdog.
        ({"witnesses": frozenset(), "sensors": SensorView()}, ("act", "quarantine_gpu")),
    ],
)
def test_before_a_quarantine(incident, case, changes, expected) -> None:
    one = replace(incident(State.TRIAGED), opened=NOW)
    assert expected == _said(decide(case(one, **({"quarantine_owner": None} | changes))))


def test_observe_writes_the_whole_plan_down_and_stops(incident, case) -> None:
    one = incident(State.TRIAGED)
    said = _said(decide(case(one, level=Level.OBSERVE, quarantine_owner=None)))
    actions = (
        "quarantine_gpu", "signal_checkpoint", "restart_jobs", "notify", "reset_gpu",
        "reboot_node", "verify", "release",
    )  # fmt: skip
    assert ("would", actions) == said
    written = replace(one, rehearsed=True)
    assert _said(decide(case(written, level=Level.OBSERVE))) == ("move", State.SUPPRESSED)


def test_an_application_error_tells_people_and_closes_and_quarantines_nothing(
    incident, case, after, playbook
) -> None:
    book = Playbook(
        "application-error", (), (), TargetKind.GPU, FaultClass.APPLICATION, Level.OBSERVE
    )
    one = incident(State.TRIAGED)
    first = decide(case(one, book=book, paused=True))
    assert _said(first) == ("act", "notify:opened")
    assert _said(decide(case(after(one, first.step), book=book))) == ("move", State.CLOSED)
    forced = replace(playbook, fault_class=FaultClass.APPLICATION)
    assert _said(decide(case(one, book=forced, quarantine_owner=None))) == ("act", "notify:failed")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"jobs": ()}, ("move", State.JOBS_MOVED)),
        ({"jobs": (), "known": False}, ("hold", Reason.FACTS_UNKNOWN)),
        # A dead job is restarted at once: no hold, no witness, no Watchdog.
        (
            {"jobs": DEAD, "sensors": SensorView(), "witnesses": frozenset()},
            ("move", State.DRAINING),
        ),
        (
            {"jobs": DEAD, "level": Level.QUARANTINE},
            ("would", ("signal_checkpoint", "restart_jobs")),
        ),
        ({"jobs": RUNNING}, ("move", State.CHECKPOINTING)),
        ({"jobs": RUNNING, "paused": True}, ("hold", Reason.PAUSED)),
        ({"jobs": RUNNING, "witnesses": frozenset({"one"})}, ("hold", Reason.WITNESSES)),
        ({"jobs": RUNNING, "sensors": SensorView(200.0, True, 1.0)}, ("hold", Reason.DEAD_MAN)),
        ({"jobs": RUNNING, "sensors": SensorView(0.0, True, 0.5)}, ("hold", Reason.SENSORS_BLIND)),
        ({"quarantine_owner": None}, ("move", State.OVERRIDDEN)),
        ({"quarantine_owner": "alice"}, ("move", State.OVERRIDDEN)),
    ],
)
def test_quarantined(incident, case, changes, expected) -> None:
    assert expected == _said(decide(case(incident(State.QUARANTINED), **changes)))


def test_a_running_job_is_disturbed_only_after_the_hold(incident, case) -> None:
    one = replace(incident(State.QUARANTINED), opened=NOW - 1)
    held = decide(case(one, jobs=RUNNING))
    assert (held.reason, held.until) == (Reason.HOLD, NOW + 2)
    assert isinstance(decide(case(one, jobs=RUNNING, now=NOW + 2.001)), Move)


def test_checkpoint_signal_then_wait_then_go_on(incident, case, after) -> None:
    one = incident(State.CHECKPOINTING)
    first = decide(case(one, jobs=RUNNING))
    assert _said(first) == ("act", "signal_checkpoint")
    told = after(one, first.step)
    assert isinstance(decide(case(told, jobs=RUNNING, now=NOW + 1)), Wait)
    saved = case(told, jobs=RUNNING, now=NOW + 1, checkpoint_at=NOW + 0.5)
    assert _said(decide(saved)) == ("move", State.DRAINING)
    older = case(told, jobs=RUNNING, now=NOW + 1, checkpoint_at=NOW - 5)
    assert isinstance(decide(older), Wait)
    assert _said(decide(case(told, jobs=RUNNING, now=NOW + 10.1))) == ("move", State.DRAINING)


def test_a_job_that_cannot_be_moved_needs_a_person(incident, case, after) -> None:
    one = incident(State.DRAINING)
    for _ in range(2):
        step = decide(case(one, jobs=DEAD)).step
        assert step.id == "restart_jobs"
        one = after(one, step, done=False)
    assert _said(decide(case(one, jobs=DEAD))) == ("move", State.ESCALATED)


def _moved(incident, after):
    one = incident(State.JOBS_MOVED)
    return after(one, plan.notify(one, "opened"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("move", State.REPAIRING)),
        ({"paused": True}, ("hold", Reason.PAUSED)),
        ({"level": Level.DRAIN}, ("would", ("reset_gpu", "reboot_node"))),
        ({"sensors": SensorView(200.0, True, 1.0)}, ("hold", Reason.DEAD_MAN)),
        ({"sensors": SensorView(0.0, True, 0.8)}, ("hold", Reason.SENSORS_BLIND)),
        ({"witnesses": frozenset({"one"})}, ("act", "opinion")),
        ({"siblings": 1}, ("widen", None)),
        ({"exporter_down": True}, ("widen", None)),
    ],
)
def test_before_a_repair(incident, case, after, changes, expected) -> None:
    assert expected == _said(decide(case(_moved(incident, after), **changes)))


def test_one_witness_and_a_passed_test_mean_nothing_to_repair(incident, case, after) -> None:
    one, few = _moved(incident, after), {"witnesses": frozenset({"one"})}
    step = decide(case(one, **few)).step
    healthy = decide(case(after(one, step, passed=True), **few))
    assert (healthy.state, healthy.reason) == (State.VERIFYING, Reason.NOTHING_TO_REPAIR)
    sick = decide(case(after(one, step, done=False, passed=False), **few))
    assert (sick.state, sick.rung) == (State.REPAIRING, 0)
    unknown = decide(case(after(one, step, done=False), **few))
    assert State.ESCALATED is unknown.state


def test_an_opinion_broken_off_by_a_witness_is_asked_again_only_where_more_are_needed(
    incident, case, after, playbook
) -> None:
    one = _moved(incident, after)
    step = decide(case(one, witnesses=frozenset({"one"}))).step
    broken = after(one, step, done=False, reason=Reason.STEP_REFUSED)
    two = frozenset({"one", "two"})
    assert State.REPAIRING is decide(case(broken, witnesses=two)).state
    more = replace(playbook, witnesses=3)
    assert decide(case(broken, book=more, witnesses=two)).step.attempt == 2
    assert State.ESCALATED is decide(case(broken, witnesses=frozenset({"one"}))).state


def test_used_up_resets_lead_to_the_next_rung_and_used_up_rungs_to_a_person(
    incident, case, after
) -> None:
    one = _moved(incident, after)
    resets = tuple(("reset_gpu", one.target, NOW - 5000 - n) for n in range(2))
    assert decide(case(one, attempts=resets)).rung == 1
    reboots = tuple(("reboot_node", NODE, NOW - 5000 - n) for n in range(2))
    spent = decide(case(one, attempts=resets + reboots))
    assert (spent.state, spent.reason) == (State.ESCALATED, Reason.LADDER_EXHAUSTED)


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
    one = incident(State.VERIFYING)
    reset = plan.new_step(one, "reset_gpu", 1.0)
    one = replace(after(one, reset), mark=1)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    following = decide(case(failed))
    assert (following.state, following.rung) == (State.REPAIRING, 1)
    rebooted = after(failed, plan.new_step(failed, "reboot_node", 1.0, on=NODE))
    last = decide(case(replace(rebooted, rung=1)))
    assert (last.state, last.reason) == (State.ESCALATED, Reason.LADDER_EXHAUSTED)


def test_a_test_that_could_not_tell_is_neither_healed_nor_sick(incident, case, after) -> None:
    one = incident(State.VERIFYING)
    unknown = after(one, decide(case(one)).step, done=False)
    decision = decide(case(unknown))
    assert (decision.state, decision.reason) == (State.ESCALATED, Reason.UNVERIFIABLE)


def test_a_repair_whose_effect_cannot_be_seen_is_never_followed_by_another(
    incident, case, after
) -> None:
    one = replace(incident(State.REPAIRING), mark=0)
    step = decide(case(one)).step
    blind = after(one, step, done=False, reason=Reason.EFFECT_UNKNOWN)
    decision = decide(case(blind))
    assert (decision.state, decision.reason) == (State.ESCALATED, Reason.EFFECT_UNKNOWN)


def test_before_a_reboot_for_one_gpu_the_node_is_quarantined_and_emptied(
    incident, case, after
) -> None:
    one = incident(State.REPAIRING, rung=1)
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
    one = incident(State.REPAIRING, rung=1)
    held = decide(case(one, pool=PoolView(gpus=32, nodes=4, nodes_out=1)))
    assert Reason.BUDGET_OUT is held.reason


def test_verified_goes_on_probation_and_a_recurrence_doubles_it(incident, case, after) -> None:
    for recurrence, wait in ((0, 900), (1, 1800), (2, 3600), (50, 57_600)):
        one = incident(State.VERIFYING, recurrence=recurrence)
        healthy = after(one, decide(case(one)).step, passed=True)
        decision = decide(case(healthy))
        assert (State.PROBATION, NOW + wait) == (decision.state, decision.until)


def test_probation_waits_tests_releases_tells_and_closes(incident, case, after) -> None:
    one = incident(State.PROBATION, until=NOW + 900)
    assert Wait(NOW + 900) == decide(case(one))
    late = NOW + 901
    verify = decide(case(one, now=late)).step
    assert verify.id == "verify"
    one = after(one, verify, at=late, passed=True)
    release = decide(case(one, now=late)).step
    assert ("release", one.quarantined) == (release.action, release.also)
    one = after(one, release, at=late)
    tell = decide(case(one, now=late, quarantine_owner=None)).step
    assert tell.id == "notify:closed"
    one = after(one, tell, at=late)
    closed = decide(case(one, now=late, quarantine_owner=None))
    assert (closed.state, closed.reason) == (State.CLOSED, Reason.READMITTED)


def test_what_was_taken_over_during_a_release_is_released_too(incident, case, after) -> None:
    late = Target.parse("node2/7")
    one = incident(State.PROBATION, until=NOW - 1)
    one = after(one, decide(case(one)).step, passed=True)
    step = decide(case(one)).step
    one = after(replace(one, quarantined=(*one.quarantined, late)), step)
    assert decide(case(one)).step.also == (late,)


def test_a_new_alert_on_probation_is_answered_by_a_test(incident, case, alert) -> None:
    from remediator.core.events import episode_of

    one = incident(State.PROBATION, until=NOW + 900, alerts=(episode_of(alert(at=NOW), NOW),))
    assert (decide(case(one)).state, decide(case(one)).reason) == (
        State.VERIFYING,
        Reason.NEW_ALERT,
    )
    old = replace(one, alerts=(episode_of(alert(at=NOW - 40), NOW),))
    assert isinstance(decide(case(old)), Wait)


def test_escalated_tells_once_and_waits_until_a_person_releases(incident, case, after) -> None:
    one = incident(State.ESCALATED)
    tell = decide(case(one)).step
    assert tell.id == "notify:escalated"
    one = after(one, tell)
    assert Wait() == decide(case(one))
    assert State.OVERRIDDEN is decide(case(one, quarantine_owner=None)).state


JOB = Playbook(
    "job-stalled", (), (), TargetKind.JOB, FaultClass.SERVICE, Level.DRAIN,
    jobs=JobsPlan(False, True, 10.0, 60.0, 2, 3600.0),
)  # fmt: skip
TRAIN = Target(TargetKind.JOB, "train-a")


def test_a_stalled_job_is_restarted_twice_an_hour_and_then_left_to_people(
    incident, case, after
) -> None:
    one = incident(State.TRIAGED, TRAIN)
    assert _said(decide(case(one, book=JOB))) == ("move", State.DRAINING)
    one = incident(State.DRAINING, TRAIN)
    step = decide(case(one, book=JOB, jobs=RUNNING)).step
    assert (step.action, step.jobs) == ("restart_jobs", ("train-a",))
    done = after(one, step)
    assert _said(decide(case(done, book=JOB, jobs=RUNNING))) == ("move", State.JOBS_MOVED)
    often = tuple(("restart_jobs", TRAIN, NOW - n) for n in (10, 20))
    assert _said(decide(case(one, book=JOB, jobs=RUNNING, attempts=often))) == (
        "act",
        "notify:failed",
    )


def test_a_job_that_finds_no_room_is_stuck_at_its_deadline_and_is_not_ordered_again(
    incident, case, after
) -> None:
    one = incident(State.DRAINING, TRAIN)
    step = decide(case(one, book=JOB, jobs=RUNNING)).step
    waits = (JobView("train-a", False),)
    late = after(
        one, step, done=False, reason=Reason.EFFECT_MISSING, text="train-a waits for room."
    )
    told = decide(case(late, book=JOB, jobs=waits)).step
    assert told.id == "notify:failed"
    ended = decide(case(after(late, told), book=JOB, jobs=waits))
    assert (ended.state, ended.reason) == (State.FAILED, Reason.JOB_STUCK)


SCALE = Playbook(
    "scale-out", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
    scale=ScalePlan(1, 4.0, 60.0, 3),
)  # fmt: skip
SERVE = Target(TargetKind.WORKLOAD, "serve")


@pytest.mark.parametrize(
    ("load", "step", "expected"),
    [
        (WorkloadView(2, 2, 1, 8, 30.0), 1, ("act", "scale")),
        (WorkloadView(8, 8, 1, 8, 90.0), 1, ("act", "notify:limit")),
        (WorkloadView(2, 2, 1, 8, None), 1, ("hold", Reason.FACTS_UNKNOWN)),
        (WorkloadView(2, 2, 1, 8, None), -1, ("hold", Reason.FACTS_UNKNOWN)),  # unknown is not empty
        (WorkloadView(4, 4, 1, 8, 0.0), -1, ("act", "scale")),
        (WorkloadView(2, 2, 1, 8, 7.0), 1, ("wait", None)),
        (WorkloadView(2, 2, 1, 8, 30.0), -1, ("wait", None)),   # scale-in never scales out
        (None, 1, ("hold", Reason.FACTS_UNKNOWN)),
    ],
)  # fmt: skip
def test_scaling_follows_the_queue_within_bounds(incident, case, load, step, expected) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    book = replace(SCALE, scale=ScalePlan(step, 4.0, 60.0, 3))
    assert expected == _said(decide(case(one, book=book, workload=load)))


def test_scaling_goes_on_by_steps_while_the_alert_does(incident, case, after) -> None:
    one = incident(State.REPAIRING, SERVE, quarantined=())
    load = WorkloadView(2, 2, 1, 8, 30.0)
    step = decide(case(one, book=SCALE, workload=load)).step
    assert step.replicas == 3
    one = after(one, step)
    told = (("scale", SERVE, NOW),)
    held = decide(case(one, book=SCALE, workload=load, attempts=told, now=NOW + 1))
    assert Reason.COOLDOWN is held.reason
    following = decide(case(one, book=SCALE, workload=load, attempts=told, now=NOW + 61))
    assert (following.step.id, following.step.attempt) == ("scale", 2)
    over = decide(case(one, book=SCALE, workload=load, firing=False))
    assert _said(over) == ("act", "notify:closed")


@given(
    st.sampled_from(State), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from([None, "fleetmedic", "alice"]), st.sampled_from([(), DEAD, RUNNING]),
    st.sampled_from(Level), st.integers(0, 2),
)  # fmt: skip
def test_decide_answers_every_state_and_view(
    incident, playbook, state, paused, known, firing, owner, jobs, level, rung
) -> None:
    from remediator.core.decision import Case
    from remediator.core.guards import Limits

    view = View(
        level=level, paused=paused, known=known, evidence=ACTIVE if firing else OVER,
        quarantine_owner=owner, jobs=jobs,
    )  # fmt: skip
    one = incident(state, rung=min(rung, 1))
    decision = decide(Case(one, playbook, view, Limits(), NOW))
    if paused and isinstance(decision, Act):
        assert decision.step.action == "notify"
    if isinstance(decision, Move):
        assert decision.state in TRANSITIONS[state], (state, decision)


def test_a_hand_that_releases_a_part_leaves_the_rest_to_a_person_and_not_to_nobody(
    incident, case, after
) -> None:
    both = {"quarantine_owner": None, "kept": (NODE,)}
    one = incident(State.PROBATION, quarantined=(GPU, NODE))
    decision = decide(case(one, **both))
    assert (decision.state, decision.reason) == (State.ESCALATED, Reason.RELEASED_BY_OTHERS)
    one = incident(State.ESCALATED, quarantined=(GPU, NODE))
    told = after(one, decide(case(one, **both)).step)
    # The node was out for the sake of the GPU alone: it goes back as well, and the incident ends.
    freed = decide(case(told, **both))
    assert (freed.step.id, freed.step.also) == ("release:node", (NODE,))
    assert State.OVERRIDDEN is decide(case(told, quarantine_owner=None)).state


def test_a_node_that_a_person_released_is_not_rebooted(incident, case) -> None:
    one = incident(State.REPAIRING, rung=1, quarantined=(GPU, NODE))
    decision = decide(case(one, node_quarantine_owner=None))
    assert (decision.state, decision.reason) == (State.ESCALATED, Reason.RELEASED_BY_OTHERS)


@pytest.mark.parametrize("state", [State.JOBS_MOVED, State.REPAIRING])
def test_what_was_held_for_long_is_tested_before_it_is_repaired(
    incident, case, after, state
) -> None:
    one = incident(state)
    if state is State.JOBS_MOVED:
        one = after(one, decide(case(one)).step)
    decision = decide(case(one, now=NOW + 600))
    assert (decision.state, decision.reason) == (State.VERIFYING, Reason.HELD_LONG)
    one = incident(State.VERIFYING)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    assert (decide(case(failed)).state, decide(case(failed)).rung) == (State.REPAIRING, 0)
    assert decide(case(failed, now=NOW + 600)).step.action == "verify"


def test_a_test_that_fails_on_probation_begins_with_the_rung_that_was_not_tried(
    incident, case, after
) -> None:
    one = incident(State.PROBATION, until=NOW - 1)
    failed = after(one, decide(case(one)).step, done=False, passed=False)
    assert decide(case(failed)).rung == 0


def test_no_test_loads_a_target_on_which_jobs_still_run(incident, case, after) -> None:
    low = {"level": Level.QUARANTINE, "firing": False}
    one = incident(State.QUARANTINED, rehearsed=True)
    assert _said(decide(case(one, jobs=RUNNING, **low))) == ("move", State.VERIFYING)
    tested = incident(State.VERIFYING)
    assert _said(decide(case(tested, jobs=RUNNING, **low))) == ("act", "watch")
    assert _said(decide(case(tested, **low))) == ("act", "verify")


@pytest.mark.parametrize("state", [State.DRAINING, State.REPAIRING])
def test_a_level_that_was_lowered_stops_what_had_begun(incident, case, state) -> None:
    decision = decide(case(incident(state), jobs=RUNNING, level=Level.QUARANTINE))
    assert (decision.state, decision.reason) == (State.ESCALATED, Reason.LEVEL)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"firing": False}, ("act", "quarantine_node")),
        ({"level": Level.OBSERVE}, ("move", State.ESCALATED)),
    ],
)
def test_a_node_that_took_quarantines_over_never_ends_without_them(
    incident, case, changes, expected
) -> None:
    one = incident(State.TRIAGED, Target.parse("node2"), quarantined=(GPU,))
    assert _said(decide(case(one, quarantine_owner=None, **changes))) == expected


def test_a_held_incident_goes_back_when_the_guards_allow(incident, case) -> None:
    one = replace(incident(State.HELD), held=Reason.PAUSED)
    assert Reason.PAUSED is decide(case(one, paused=True, quarantine_owner=None)).reason
    assert State.TRIAGED is decide(case(one, quarantine_owner=None)).state


def test_a_quarantine_that_failed_is_tried_once_more_and_then_left_to_a_person(
    incident, case, after
) -> None:
    one = incident(State.TRIAGED)
    first = decide(case(one, quarantine_owner=None)).step
    one = after(one, first, done=False, text="the API server refuses")
    second = decide(case(one, quarantine_owner=None)).step
    assert (second.id, second.attempt) == ("quarantine_gpu", 2)
    assert second.op_id != first.op_id
    twice = after(one, second, done=False, text="the API server refuses")
    told = decide(case(twice, quarantine_owner=None))
    assert (_said(told), told.text) == (("act", "notify:failed"), "the API server refuses")
    ended = decide(case(after(twice, told.step), quarantine_owner=None))
    assert (ended.state, ended.reason) == (State.FAILED, Reason.QUARANTINE_FAILED)
    done = after(one, second)
    assert _said(decide(case(done))) == ("move", State.QUARANTINED)


@pytest.mark.parametrize(
    ("target", "pool", "held"),
    [
        (NODE, PoolView(gpus=32, nodes=4, nodes_out=1, gpus_out=0), True),
        (NODE, PoolView(gpus=32, nodes=4, nodes_out=0, gpus_out=32), False),
        (GPU, PoolView(gpus=32, nodes=4, nodes_out=4, gpus_out=0), False),
        (GPU, PoolView(gpus=32, nodes=4, nodes_out=0, gpus_out=3), True),
    ],
)
def test_a_budget_is_that_of_the_kind_of_target(incident, case, target, pool, held) -> None:
    one = incident(State.TRIAGED, target)
    said = _said(decide(case(one, quarantine_owner=None, pool=pool)))
    quarantine = "quarantine_gpu" if target.gpu is not None else "quarantine_node"
    assert said == (("hold", Reason.BUDGET_OUT) if held else ("act", quarantine))


def test_a_quarantine_of_ours_is_not_blocked_by_our_own_budget(incident, case) -> None:
    full = PoolView(gpus=32, gpus_out=32, recent=(NOW,) * 9)
    assert _said(decide(case(incident(State.TRIAGED), pool=full))) == ("act", "quarantine_gpu")


def test_dead_hardware_waits_for_no_budget_and_says_so_in_its_step(incident, case) -> None:
    full = {"pool": PoolView(gpus=32, gpus_out=32, recent=(NOW,) * 9), "quarantine_owner": None}
    held = replace(incident(State.HELD), held=Reason.BUDGET_OUT)
    assert decide(case(held, dead=True, **full)).state is State.TRIAGED
    act = decide(case(incident(State.TRIAGED), dead=True, **full))
    assert (_said(act), act.dead) == (("act", "quarantine_gpu"), True)


def test_where_no_gpu_can_be_quarantined_nothing_is_touched_and_a_person_is_notified(
    incident, case, after
) -> None:
    unable = {"capabilities": EVERYTHING - {"gpu_quarantine"}, "quarantine_owner": None}
    one = incident(State.TRIAGED)
    told = decide(case(one, jobs=DEAD, **unable))
    assert (_said(told), told.text) == (
        ("act", "notify:failed"), "This cluster lacks the capability: gpu quarantine.",
    )  # fmt: skip
    ended = decide(case(after(one, told.step), jobs=DEAD, **unable))
    assert (ended.state, ended.reason) == (State.FAILED, Reason.UNSUPPORTED)


def test_a_release_by_hand_holds_what_would_be_quarantined_again_until_its_time(
    incident, case
) -> None:
    pinned = Stops(pinned="alice: tested", pinned_until=NOW + 14_000)
    held = decide(case(incident(State.TRIAGED), quarantine_owner=None, stops=pinned))
    assert (held.reason, held.until, held.text) == (Reason.PINNED, NOW + 14_000, "alice: tested")


@pytest.mark.parametrize("state", [State.TRIAGED, State.HELD])
def test_an_alert_that_is_over_before_anything_was_done_ends_its_incident(
    incident, case, after, state
) -> None:
    over = {"firing": False, "quarantine_owner": None}
    one = incident(state)
    assert _said(decide(case(one, **over))) == ("move", State.SUPPRESSED)
    told = after(one, plan.notify(one, "held-budget_out"))
    assert _said(decide(case(told, **over))) == ("move", State.SUPPRESSED)


def test_what_was_touched_already_is_not_forgotten_when_its_alert_ends(
    incident, case, after
) -> None:
    one = incident(State.TRIAGED)
    tried = after(one, plan.quarantine(one), done=False)
    assert _said(decide(case(tried, firing=False, quarantine_owner=None)))[0] == "act"
    ours = decide(case(one, firing=False, quarantine_owner="fleetmedic"))
    assert _said(ours) == ("act", "quarantine_gpu")


def test_a_held_incident_is_also_ended_told_or_left_to_a_person(incident, case) -> None:
    one = replace(incident(State.HELD), held=Reason.PAUSED, held_since=NOW - 200)
    assert _said(decide(case(one, firing=False, quarantine_owner=None))) == (
        "move", State.SUPPRESSED,
    )  # fmt: skip
    unable = {"capabilities": EVERYTHING - {"gpu_quarantine"}, "quarantine_owner": None}
    assert _said(decide(case(one, **unable))) == ("act", "notify:failed")


def test_an_incident_that_waits_for_an_approval_waits(incident, case) -> None:
    assert decide(case(incident(State.AWAIT_APPROVAL))) == Wait()


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_incident_does_nothing_more(incident, case, state) -> None:
    assert decide(case(incident(state, quarantined=(GPU,)), quarantine_owner=None)) == Wait()


def test_a_workload_is_scaled_at_level_repair_only_and_a_job_restarted_at_drain(
    incident, case, after
) -> None:
    one = incident(State.TRIAGED, SERVE)
    assert _said(decide(case(one, book=SCALE))) == ("move", State.REPAIRING)
    low = {"book": SCALE, "level": Level.DRAIN}
    assert _said(decide(case(one, **low))) == ("would", ("scale",))
    written = replace(one, rehearsed=True)
    assert _said(decide(case(written, **low))) == ("act", "notify:level")
    told = after(written, plan.notify(written, "level"))
    assert _said(decide(case(told, **low))) == ("move", State.SUPPRESSED)
    job = incident(State.TRIAGED, TRAIN)
    assert _said(decide(case(job, book=JOB, level=Level.DRAIN))) == ("move", State.DRAINING)
    assert _said(decide(case(job, book=JOB, level=Level.QUARANTINE)))[0] == "would"


def test_a_service_that_the_cluster_cannot_scale_or_whose_playbook_says_nothing_is_a_persons(
    incident, case
) -> None:
    one = incident(State.TRIAGED, SERVE)
    able = EVERYTHING - {"scale"}
    assert _said(decide(case(one, book=SCALE, capabilities=able))) == ("act", "notify:failed")
    nothing = replace(SCALE, scale=None, quarantine=True)
    assert _said(decide(case(one, book=nothing))) == ("act", "notify:failed")
    job = replace(JOB, jobs=None, quarantine=True)
    assert _said(decide(case(incident(State.TRIAGED, TRAIN), book=job))) == ("act", "notify:failed")
