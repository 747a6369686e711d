"""Each guard stops each kind of step that it stands before, in the last question and in `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan, step_guards
from remediator.core.decide import decide
from remediator.core.decision import Act, Case, Hold, Move
from remediator.core.evidence import ACTIVE, OVER, AlertStatus, Evidence, unknown
from remediator.core.facts import (
    EVERYTHING,
    Identity,
    PoolFacts,
    ScalingFacts,
    SensorFacts,
    Stops,
    TargetJob,
)
from remediator.core.guards import Limits, Ruling
from remediator.core.model import (
    FaultClass,
    IncidentState,
    JobsPlan,
    Level,
    Playbook,
    ScalePlan,
    Step,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import GPU, NODE, NOW, SERVE

RUNNING, DEAD = (TargetJob("train-a", True),), (TargetJob("train-a", False),)
SILENCED = Evidence(AlertStatus.WITHHELD, Reason.SILENCED, "alice silenced it", "silence/1")
JOB_BOOK = Playbook(
    "job-stalled", (), (), TargetKind.JOB, FaultClass.SERVICE, Level.DRAIN,
    jobs=JobsPlan(False, True, 10.0, 60.0, 2, 3600.0),
)  # fmt: skip
SCALE_IN = Playbook(
    "scale-in", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
    scale=ScalePlan(-1, 4.0, 60.0, 3),
)  # fmt: skip

# What stops everything, and what stops what disturbs something that works.
ALWAYS: dict[str, tuple[dict[str, Any], Reason]] = {
    "paused": ({"paused": True, "stops": Stops(pause="alice paused")}, Reason.PAUSED),
    "another remediator": (
        {"stops": Stops(other_installation="b acts")},
        Reason.OTHER_INSTALLATION,
    ),
}
TOUCHES = {
    "cluster unknown": ({"known": False}, Reason.FACTS_UNKNOWN),
    "other hardware": ({"identity": Identity(False, "two uuids")}, Reason.IDENTITY),
    "silenced": ({"evidence": SILENCED}, Reason.SILENCED),
}
EVIDENCE = {
    "unconfirmed": ({"evidence": unknown("no answer")}, Reason.ALERT_UNCONFIRMED),
    "over": ({"evidence": OVER}, Reason.ALERT_GONE),
}
DISRUPTS = {
    "unidentified": ({"identity": Identity(confirmed=False)}, Reason.IDENTITY),
    "storm": ({"stops": Stops(storm="too many")}, Reason.STORM),
    "clock jumped": ({"stops": Stops(clock="it jumped", clock_left=60.0)}, Reason.CLOCK_JUMP),
    "no watchdog": ({"sensors": SensorFacts(180.1, True, 1.0)}, Reason.DEAD_MAN),
    "fresh process": ({"sensors": SensorFacts(prometheus=True, exporters_up=1.0)}, Reason.DEAD_MAN),
    "no Prometheus": ({"sensors": SensorFacts(0.0, False, 1.0)}, Reason.SENSORS_BLIND),
    "exporters down": ({"sensors": SensorFacts(0.0, True, 0.89)}, Reason.SENSORS_BLIND),
}
DISRUPTIVE = ALWAYS | TOUCHES | EVIDENCE | DISRUPTS
STOPS_OF = {
    "reset": DISRUPTIVE,
    "reboot": DISRUPTIVE,
    "move running": DISRUPTIVE
    | {
        "one signal": ({"witnesses": frozenset({"one"})}, Reason.WITNESSES),
        "others stall too": ({"stops": Stops(stalls="2 of 3 stall")}, Reason.JOBS_STALLED),
    },
    "move dead": ALWAYS | TOUCHES | EVIDENCE | {"unidentified": DISRUPTS["unidentified"]},
    "scale in": ALWAYS
    | TOUCHES
    | EVIDENCE
    | {name: DISRUPTS[name] for name in ("clock jumped", "no watchdog", "fresh process")},
    "quarantine": ALWAYS,
    "release": ALWAYS,
    "verify": ALWAYS,
}
TABLE = [(step, stop) for step, stops in STOPS_OF.items() for stop in stops]


def _step(action: str, on: Target = GPU, jobs: tuple[str, ...] = ()) -> Step:
    return Step(action, action, ACTIONS.named(action).effect, on, 1, "op", 60.0, jobs)


STEPS: dict[str, tuple[Step, dict[str, Any]]] = {
    "reset": (_step("reset_gpu"), {}),
    "reboot": (_step("reboot_node", NODE), {}),
    "move running": (_step("restart_jobs", GPU, ("train-a",)), {"jobs": RUNNING}),
    "move dead": (_step("restart_jobs", GPU, ("train-a",)), {"jobs": DEAD}),
    "scale in": (_step("scale", SERVE), {}),
    "quarantine": (_step("quarantine_gpu"), {}),
    "release": (_step("release"), {}),
    "verify": (_step("verify"), {}),
}


def _case(case, incident, step: str, **changes: Any) -> Case:
    target, variant = (SERVE, {"playbook": SCALE_IN}) if step == "scale in" else (GPU, {})
    return case(incident(IncidentState.REPAIRING, target), **variant, **(STEPS[step][1] | changes))


@pytest.mark.parametrize("step", STEPS)
def test_nothing_stands_against_a_step_in_a_calm_world(case, incident, step: str) -> None:
    assert step_guards.right_before(_case(case, incident, step), STEPS[step][0]).allows


@pytest.mark.parametrize(("step", "stop"), TABLE)
def test_the_last_question_before_a_step(case, incident, step: str, stop: str) -> None:
    changes, reason = STOPS_OF[step][stop]
    verdict = step_guards.right_before(_case(case, incident, step, **changes), STEPS[step][0])
    assert (verdict.ruling, verdict.reason) == (Ruling.HOLD, reason)
    assert verdict.text.strip()


@pytest.mark.parametrize("step", STEPS)
def test_an_announced_step_waits_if_the_level_was_lowered_since(case, incident, step: str) -> None:
    lowered = _case(case, incident, step, level=Level.OBSERVE)
    verdict = step_guards.right_before(lowered, STEPS[step][0])
    assert (verdict.ruling, verdict.reason) == (Ruling.HOLD, Reason.LEVEL)
    ordered = replace(STEPS["release"][0], id=plan.ORDERED)
    assert step_guards.right_before(lowered, ordered).allows


@pytest.mark.parametrize(
    ("step", "needed"), [("move running", Level.DRAIN), ("reset", Level.REPAIR)]
)
def test_a_step_needs_its_own_level(case, incident, step: str, needed: Level) -> None:
    for level in Level:
        verdict = step_guards.right_before(_case(case, incident, step, level=level), STEPS[step][0])
        assert verdict.allows is (level.rank >= needed.rank)


def test_the_hold_is_asked_about_again_right_before(case, incident) -> None:
    early = replace(incident(IncidentState.REPAIRING), opened=NOW - 2)
    assert step_guards.right_before(case(early), STEPS["reset"][0]).reason is Reason.HOLD
    assert step_guards.right_before(case(early, jobs=DEAD), STEPS["move dead"][0]).allows


def test_a_job_that_started_running_meanwhile_is_judged_as_one_that_runs(case, incident) -> None:
    step = _step("restart_jobs", NODE, ("train-b",))
    few = {"witnesses": frozenset[str]()}
    one = incident(IncidentState.REPAIRING)
    elsewhere = case(one, jobs=(TargetJob("train-a", True),), **few)
    assert step_guards.right_before(elsewhere, step).allows
    here = case(one, node_jobs=(TargetJob("train-b", True),), **few)
    assert step_guards.right_before(here, step).reason is Reason.WITNESSES


def test_a_persons_order_waits_for_no_pause_and_for_another_remediator(case, incident) -> None:
    step = replace(STEPS["release"][0], id=plan.ORDERED)
    one = incident(IncidentState.ESCALATED)
    assert step_guards.right_before(case(one, **ALWAYS["paused"][0]), step).allows
    other, reason = ALWAYS["another remediator"]
    assert step_guards.right_before(case(one, **other), step).reason is reason


@pytest.mark.parametrize("name", STEPS)
def test_facts_are_gathered_right_before_what_is_disruptive_and_nothing_else(
    playbook, name: str
) -> None:
    step, _ = STEPS[name]
    variant = SCALE_IN if name == "scale in" else playbook
    disruptive = name not in ("quarantine", "release", "verify")
    assert step_guards.needs_facts(ACTIONS.named(step.action), variant) is disruptive
    assert not step_guards.needs_facts(
        ACTIONS.named("scale"), replace(SCALE_IN, scale=ScalePlan(1, 4.0, 1.0, 1))
    )


def test_only_the_step_that_takes_replicas_away_needs_fresh_facts(playbook) -> None:
    scale = ACTIONS.named("scale")
    assert step_guards.needs_facts(scale, SCALE_IN)
    assert not step_guards.needs_facts(scale, playbook), "a playbook that scales nothing"
    assert not step_guards.needs_facts(ACTIONS.named("notify"), SCALE_IN)
    assert not step_guards.needs_facts(scale, replace(SCALE_IN, scale=ScalePlan(0, 4.0, 60.0, 3)))


def test_a_scaling_by_nothing_takes_nothing_away(case, incident) -> None:
    still = replace(SCALE_IN, scale=ScalePlan(0, 4.0, 60.0, 3))
    assert not step_guards.is_scale_in(
        case(incident(IncidentState.REPAIRING, SERVE), playbook=still)
    )
    assert step_guards.is_scale_in(
        case(incident(IncidentState.REPAIRING, SERVE), playbook=SCALE_IN)
    )
    assert not step_guards.is_scale_in(case(incident(IncidentState.REPAIRING)))


def test_scaling_out_is_no_disruption(case, incident) -> None:
    variant = replace(SCALE_IN, scale=ScalePlan(1, 4.0, 60.0, 3))
    blind = case(
        incident(IncidentState.REPAIRING, SERVE),
        playbook=variant,
        evidence=OVER,
        sensors=SensorFacts(),
    )
    assert not step_guards.is_scale_in(blind)
    assert step_guards.right_before(blind, STEPS["scale in"][0]).allows


# What `decide` answers where the same step would come next.
def _next(case, incident, after, step: str, **changes: Any):
    if step == "scale in":
        load = {"workload": ScalingFacts(4, 4, 1, 8, 0.0)}
        one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
        return decide(case(one, playbook=SCALE_IN, **(load | changes)))
    if step in ("reset", "reboot"):
        out = {"node_quarantine_owner": "fleetmedic"}
        one = incident(IncidentState.REPAIRING, rung=int(step == "reboot"), quarantined=(GPU, NODE))
        return decide(case(one, **(out | changes)))
    jobs = {"jobs": RUNNING if step == "move running" else DEAD}
    one = incident(IncidentState.DRAINING)
    signal = plan.new_step(one, ACTIONS.named("signal_checkpoint"), 1.0)
    return decide(case(after(one, signal), **(jobs | changes)))


DECIDED = [(step, stop) for step, stop in TABLE if step not in ("quarantine", "release", "verify")]


@pytest.mark.parametrize("step", ["reset", "reboot", "move running", "move dead", "scale in"])
def test_in_a_calm_world_the_step_comes_next(case, incident, after, step: str) -> None:
    decision = _next(case, incident, after, step)
    assert isinstance(decision, Act)
    assert decision.step.action == STEPS[step][0].action


@pytest.mark.parametrize(("step", "stop"), DECIDED)
def test_what_stops_a_step_keeps_it_from_being_decided(
    case, incident, after, step: str, stop: str
) -> None:
    changes, reason = STOPS_OF[step][stop]
    decision = _next(case, incident, after, step, **changes)
    assert decision.reason is reason
    assert isinstance(decision, Move if stop == "over" else Hold)


@pytest.mark.parametrize(
    "stop", ALWAYS | TOUCHES | {"pinned": ()} | {"theirs": ()} | {"node theirs": ()}
)
def test_what_stops_a_quarantine(case, incident, stop: str) -> None:
    own = {
        "pinned": ({"stops": Stops(pinned="alice: fine", pinned_until=NOW + 9)}, Reason.PINNED),
        "theirs": ({"quarantine_owner": "bob"}, Reason.OTHER_OWNER),
        "node theirs": ({"node_quarantine_owner": "bob"}, Reason.OTHER_OWNER),
    }
    changes, reason = (ALWAYS | TOUCHES | own)[stop]
    facts = {"quarantine_owner": None} | changes
    assert step_guards.quarantine(case(incident(), **facts)).reason is reason
    decision = decide(case(incident(), **facts))
    assert decision.reason is reason
    assert not isinstance(decision, Act)


@pytest.mark.parametrize("free", sorted(DISRUPTS))
def test_a_quarantine_waits_for_none_of_what_it_does_not_need(case, incident, free: str) -> None:
    changes = {"quarantine_owner": None, "witnesses": frozenset()} | DISRUPTS[free][0]
    verdict = step_guards.quarantine(case(replace(incident(), opened=NOW), **changes))
    assert verdict.allows


def test_an_alert_of_an_earlier_process_is_confirmed_before_its_quarantine(case, incident) -> None:
    later = {"quarantine_owner": None, "recently_received": False}
    for changes, reason in EVIDENCE.values():
        assert step_guards.quarantine(case(incident(), **later, **changes)).reason is reason
        assert step_guards.quarantine(case(incident(), quarantine_owner=None, **changes)).allows
    assert step_guards.quarantine(case(incident(), **later, evidence=ACTIVE)).allows


@pytest.mark.parametrize(
    ("target", "pool", "allows"),
    [
        (GPU, PoolFacts(gpus=32, nodes=4, gpus_out=3), False),
        (GPU, PoolFacts(gpus=32, nodes=4, nodes_out=1), True),
        (NODE, PoolFacts(gpus=32, nodes=4, nodes_out=1), False),
        (NODE, PoolFacts(gpus=32, nodes=4, gpus_out=3), True),
    ],
)
def test_gpus_and_nodes_have_budgets_of_their_own(case, incident, target, pool, allows) -> None:
    one = incident(IncidentState.TRIAGED, target)
    verdict = step_guards.quarantine(case(one, quarantine_owner=None, pool=pool))
    assert verdict.allows is allows
    assert allows or verdict.reason is Reason.BUDGET_OUT
    decision = decide(case(one, quarantine_owner=None, pool=pool))
    assert isinstance(decision, Act) is allows


FULL = {"pool": PoolFacts(gpus=32, nodes=4, gpus_out=9, recent=(NOW, NOW, NOW))}


def test_what_is_dead_or_out_by_us_already_costs_no_budget(case, incident) -> None:
    assert not step_guards.quarantine(case(incident(), quarantine_owner=None, **FULL)).allows
    assert step_guards.quarantine(case(incident(), quarantine_owner=None, dead=True, **FULL)).allows
    assert step_guards.quarantine(case(incident(), quarantine_owner="fleetmedic", **FULL)).allows
    act = decide(case(incident(), quarantine_owner=None, dead=True, **FULL))
    assert act.dead is True
    assert decide(case(incident(), quarantine_owner=None)).dead is False


def test_without_gpu_quarantine_a_gpu_is_refused_and_a_node_is_not(case, incident) -> None:
    without = {"quarantine_owner": None, "capabilities": EVERYTHING - {"gpu_quarantine"}}
    verdict = step_guards.quarantine(case(incident(), **without))
    assert (verdict.ruling, verdict.reason) == (Ruling.REFUSE, Reason.UNSUPPORTED)
    assert step_guards.quarantine(case(incident(IncidentState.TRIAGED, NODE), **without)).allows


def test_an_applications_fault_quarantines_nothing(case, incident, playbook) -> None:
    variant = replace(playbook, fault_class=FaultClass.APPLICATION)
    assert step_guards.quarantine(case(incident(), playbook=variant)).ruling is Ruling.REFUSE


def _lacking(case, incident, needed: str) -> dict[str, Ruling]:
    """What the guards of each step say to a cluster that lacks a capability."""
    facts = {"capabilities": EVERYTHING - {needed}, "jobs": RUNNING}
    found = case(incident(IncidentState.REPAIRING), **facts)
    reset, reboot = found.playbook.ladder
    return {
        "move running": step_guards.moves_running_jobs(found).ruling,
        "move dead": step_guards.moves_dead_jobs(found).ruling,
        "reset": step_guards.repairs(found, reset).ruling,
        "reboot": step_guards.repairs(found, reboot).ruling,
    }


@pytest.mark.parametrize(
    ("needed", "refused"),
    [
        ("restart", {"move running", "move dead"}),
        ("gpu_reset", {"reset"}),
        ("reboot", {"reboot"}),
        ("probe", {"reboot"}),  # a node is not emptied for a repair that nothing can verify
        ("scale", set()),
    ],
)
def test_an_impossible_step_is_refused(case, incident, needed: str, refused: set[str]) -> None:
    said = _lacking(case, incident, needed)
    assert {name for name, ruling in said.items() if ruling is Ruling.REFUSE} == refused


def test_a_ladder_is_possible_with_any_of_its_repairs(case, incident) -> None:
    def possible(*able: str) -> bool:
        node = incident(target=NODE)
        return step_guards.any_repair_supported(case(node, capabilities=frozenset(able)))

    assert possible("reboot")
    assert possible("gpu_reset", "signal")
    assert not possible("signal", "restart", "probe")


def test_an_approved_release_needs_new_facts_and_no_other_release_does(playbook) -> None:
    release = ACTIONS.named("release")
    for state in IncidentState:
        needed = step_guards.needs_facts(release, playbook, state)
        assert needed is (state is IncidentState.AWAIT_APPROVAL)


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        ((("reset_gpu", GPU, NOW - 700), ("reset_gpu", GPU, NOW - 800)), Reason.ATTEMPTS),
        ((("reset_gpu", GPU, NOW - 599),), Reason.COOLDOWN),
        # Another action, and the same action on another target.
        ((("reboot_node", NODE, NOW - 1), ("reset_gpu", NODE, NOW - 1)), None),
        ((("reset_gpu", GPU, NOW - 601),), None),
    ],
)
def test_only_the_same_repair_of_the_same_target_was_tried(
    case, incident, attempts, reason
) -> None:
    found = case(incident(IncidentState.REPAIRING), attempts=attempts)
    verdict = step_guards.repairs(found, found.playbook.ladder[0])
    assert verdict.allows is (reason is None)
    assert reason is None or verdict.reason is reason


def test_a_reboots_attempts_are_those_of_its_node(case, incident) -> None:
    often = (("reboot_node", NODE, NOW - 4000),) * 2
    found = case(incident(IncidentState.REPAIRING), attempts=often)
    assert step_guards.repairs(found, found.playbook.ladder[1]).reason is Reason.ATTEMPTS


worse = st.fixed_dictionaries(
    {},
    optional={
        "paused": st.just(True),
        "known": st.just(False),
        "identity": st.sampled_from([Identity(confirmed=False), Identity(False, "two")]),
        "evidence": st.sampled_from([SILENCED, unknown("?"), OVER]),
        "stops": st.builds(
            Stops, other_installation=st.sampled_from(["", "b"]), storm=st.sampled_from(["", "s"]),
            clock=st.sampled_from(["", "c"]), pinned=st.sampled_from(["", "p"]),
        ),
        "sensors": st.builds(
            SensorFacts, st.floats(0, 400), st.booleans(), st.none() | st.floats(0, 1)
        ),
        "witnesses": st.frozensets(st.sampled_from("abc"), max_size=1),
        "capabilities": st.frozensets(st.sampled_from(sorted(EVERYTHING))),
        "quarantine_owner": st.just("bob"),
        "node_quarantine_owner": st.just("bob"),
        "recently_received": st.just(False),
    },
)  # fmt: skip


GATES = {
    "quarantine": step_guards.quarantine,
    "moves dead jobs": step_guards.moves_dead_jobs,
    "moves running jobs": step_guards.moves_running_jobs,
    "disrupts": step_guards.disruptive_step,
    "scales in": step_guards.scales_in,
    "repairs": lambda one: step_guards.repairs(one, one.playbook.ladder[0]),
} | {f"right before: {name}": lambda one, step=step: step_guards.right_before(one, step)
     for name, (step, _) in STEPS.items()}  # fmt: skip


@given(some=worse, more=worse, jobs=st.sampled_from([(), DEAD, RUNNING]))
def test_one_stop_more_never_turns_a_no_into_a_yes(case, incident, some, more, jobs) -> None:
    both = some | {name: value for name, value in more.items() if name not in some}
    for name, gate in GATES.items():
        fewer, greater = (
            gate(case(incident(IncidentState.REPAIRING), jobs=jobs, **changes))
            for changes in (some, both)
        )
        assert fewer.allows or not greater.allows, name


def test_the_limits_of_a_gate_are_those_given(incident, playbook, facts) -> None:
    one = incident(IncidentState.REPAIRING)
    waits = Case(one, playbook, facts, Limits(hold=61.0), NOW, ACTIONS)
    assert not step_guards.disruptive_step(waits).allows
    assert step_guards.disruptive_step(replace(waits, limits=Limits(hold=60.0))).allows
