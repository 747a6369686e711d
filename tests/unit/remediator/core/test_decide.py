from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan, step_guards
from remediator.core.decide import decide
from remediator.core.decision import Act, Case, Move, Wait
from remediator.core.evidence import ACTIVE, OVER
from remediator.core.facts import (
    EVERYTHING,
    Facts,
    PoolFacts,
    SensorFacts,
    Stops,
)
from remediator.core.guards import Limits, Ruling
from remediator.core.lifecycle import TRANSITIONS
from remediator.core.model import (
    ENDED,
    FaultClass,
    IncidentState,
    Level,
    Playbook,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple
from tests.unit.remediator.core.examples import (
    DEAD,
    GPU,
    JOB,
    NODE,
    NOW,
    RUNNING,
    SCALE,
    SERVE,
    TRAIN,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("act", "quarantine_gpu")),
        ({"paused": True}, ("hold", Reason.PAUSED)),
        ({"known": False}, ("hold", Reason.FACTS_UNKNOWN)),
        ({"quarantine_owner": "alice"}, ("hold", Reason.OTHER_OWNER)),
        ({"node_quarantine_owner": "alice"}, ("hold", Reason.OTHER_OWNER)),
        ({"firing": False}, ("move", IncidentState.SUPPRESSED)),
        ({"pool": PoolFacts(gpus=32, gpus_out=3)}, ("hold", Reason.BUDGET_OUT)),
        ({"pool": PoolFacts(gpus=32, recent=(NOW, NOW, NOW))}, ("hold", Reason.BUDGET_NEW)),
        ({"level": Level.QUARANTINE}, ("act", "quarantine_gpu")),
        # A quarantine needs neither a second witness, nor the hold, nor the Watchdog.
        ({"witnesses": frozenset(), "sensors": SensorFacts()}, ("act", "quarantine_gpu")),
    ],
)
def test_before_a_quarantine(incident, case, changes, expected) -> None:
    one = replace(incident(IncidentState.TRIAGED), opened=NOW)
    assert expected == as_tuple(decide(case(one, **({"quarantine_owner": None} | changes))))


def test_observe_writes_the_whole_plan_down_and_stops(incident, case) -> None:
    one = incident(IncidentState.TRIAGED)
    said = as_tuple(decide(case(one, level=Level.OBSERVE, quarantine_owner=None)))
    actions = (
        "quarantine_gpu", "signal_checkpoint", "restart_jobs", "notify", "reset_gpu",
        "reboot_node", "verify", "release",
    )  # fmt: skip
    assert ("would", actions) == said
    written = replace(one, rehearsed=True)
    assert as_tuple(decide(case(written, level=Level.OBSERVE))) == (
        "move",
        IncidentState.SUPPRESSED,
    )


def test_an_application_error_tells_people_and_closes_and_quarantines_nothing(
    incident, case, after, playbook
) -> None:
    variant = Playbook(
        "application-error", (), (), TargetKind.GPU, FaultClass.APPLICATION, Level.OBSERVE
    )
    one = incident(IncidentState.TRIAGED)
    first = decide(case(one, playbook=variant, paused=True))
    assert as_tuple(first) == ("act", "notify:opened")
    assert as_tuple(decide(case(after(one, first.step), playbook=variant))) == (
        "move",
        IncidentState.CLOSED,
    )
    forced = replace(playbook, fault_class=FaultClass.APPLICATION)
    assert as_tuple(decide(case(one, playbook=forced, quarantine_owner=None))) == (
        "act",
        "notify:failed",
    )


@given(
    st.sampled_from(IncidentState), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from([None, "fleetmedic", "alice"]), st.sampled_from([(), DEAD, RUNNING]),
    st.sampled_from(Level), st.integers(0, 2), st.sampled_from([frozenset(), frozenset({"one"})]),
)  # fmt: skip
def test_decide_answers_every_state_and_view(
    incident, playbook, state, paused, known, firing, owner, jobs, level, rung, witnesses
) -> None:
    facts = Facts(
        level=level, paused=paused, known=known, evidence=ACTIVE if firing else OVER,
        quarantine_owner=owner, jobs=jobs, node_jobs=jobs, node_quarantine_owner=owner,
        witnesses=witnesses,
    )  # fmt: skip
    held = (GPU, NODE) if rung == 2 else ()
    one = incident(state, rung=min(rung, 1), **({"quarantined": held} if held else {}))
    decision = decide(made := Case(one, playbook, facts, Limits(), NOW, ACTIONS))
    if paused and isinstance(decision, Act):
        assert decision.step.action == "notify"
    if isinstance(decision, Act) and decision.step.action != "notify":
        verdict = step_guards.right_before(made, decision.step)
        assert verdict.ruling is not Ruling.HOLD, "announced, it would be withdrawn at once"
    if isinstance(decision, Move):
        assert decision.state in TRANSITIONS[state], (state, decision)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"firing": False}, ("move", IncidentState.VERIFYING)),
        ({"level": Level.OBSERVE}, ("move", IncidentState.ESCALATED)),
    ],
)
def test_a_node_that_took_quarantines_over_never_ends_without_them(
    incident, case, changes, expected
) -> None:
    one = incident(IncidentState.TRIAGED, Target.parse("node2"), quarantined=(GPU,))
    assert as_tuple(decide(case(one, quarantine_owner=None, **changes))) == expected


def test_a_held_incident_goes_back_when_the_guards_allow(incident, case) -> None:
    one = replace(incident(IncidentState.HELD), held=Reason.PAUSED)
    assert Reason.PAUSED is decide(case(one, paused=True, quarantine_owner=None)).reason
    assert IncidentState.TRIAGED is decide(case(one, quarantine_owner=None)).state


def test_a_quarantine_that_failed_is_tried_once_more_and_then_left_to_a_person(
    incident, case, after
) -> None:
    one = incident(IncidentState.TRIAGED)
    first = decide(case(one, quarantine_owner=None)).step
    one = after(one, first, done=False, text="the API server refuses")
    second = decide(case(one, quarantine_owner=None)).step
    assert (second.id, second.attempt) == ("quarantine_gpu", 2)
    assert second.op_id != first.op_id
    twice = after(one, second, done=False, text="the API server refuses")
    told = decide(case(twice, quarantine_owner=None))
    assert (as_tuple(told), told.text) == (("act", "notify:failed"), "the API server refuses")
    ended = decide(case(after(twice, told.step), quarantine_owner=None))
    assert (ended.state, ended.reason) == (IncidentState.FAILED, Reason.QUARANTINE_FAILED)
    done = after(one, second)
    assert as_tuple(decide(case(done))) == ("move", IncidentState.QUARANTINED)


@pytest.mark.parametrize(
    ("target", "pool", "held"),
    [
        (NODE, PoolFacts(gpus=32, nodes=4, nodes_out=1, gpus_out=0), True),
        (NODE, PoolFacts(gpus=32, nodes=4, nodes_out=0, gpus_out=32), False),
        (GPU, PoolFacts(gpus=32, nodes=4, nodes_out=4, gpus_out=0), False),
        (GPU, PoolFacts(gpus=32, nodes=4, nodes_out=0, gpus_out=3), True),
    ],
)
def test_a_budget_is_that_of_the_kind_of_target(incident, case, target, pool, held) -> None:
    one = incident(IncidentState.TRIAGED, target)
    said = as_tuple(decide(case(one, quarantine_owner=None, pool=pool)))
    quarantine = "quarantine_gpu" if target.gpu is not None else "quarantine_node"
    assert said == (("hold", Reason.BUDGET_OUT) if held else ("act", quarantine))


def test_a_quarantine_of_ours_is_not_blocked_by_our_own_budget(incident, case) -> None:
    full = PoolFacts(gpus=32, gpus_out=32, recent=(NOW,) * 9)
    assert as_tuple(decide(case(incident(IncidentState.TRIAGED), pool=full))) == (
        "act",
        "quarantine_gpu",
    )


def test_dead_hardware_waits_for_no_budget_and_says_so_in_its_step(incident, case) -> None:
    full = {"pool": PoolFacts(gpus=32, gpus_out=32, recent=(NOW,) * 9), "quarantine_owner": None}
    held = replace(incident(IncidentState.HELD), held=Reason.BUDGET_OUT)
    assert decide(case(held, dead=True, **full)).state is IncidentState.TRIAGED
    act = decide(case(incident(IncidentState.TRIAGED), dead=True, **full))
    assert (as_tuple(act), act.dead) == (("act", "quarantine_gpu"), True)


def test_where_no_gpu_can_be_quarantined_nothing_is_touched_and_a_person_is_notified(
    incident, case, after
) -> None:
    unable = {"capabilities": EVERYTHING - {"gpu_quarantine"}, "quarantine_owner": None}
    one = incident(IncidentState.TRIAGED)
    told = decide(case(one, jobs=DEAD, **unable))
    assert (as_tuple(told), told.text) == (
        ("act", "notify:failed"), "This cluster lacks a required capability: gpu quarantine.",
    )  # fmt: skip
    ended = decide(case(after(one, told.step), jobs=DEAD, **unable))
    assert (ended.state, ended.reason) == (IncidentState.FAILED, Reason.UNSUPPORTED)


def test_a_release_by_hand_holds_what_would_be_quarantined_again_until_its_time(
    incident, case
) -> None:
    pinned = Stops(pinned="alice: tested", pinned_until=NOW + 14_000)
    held = decide(case(incident(IncidentState.TRIAGED), quarantine_owner=None, stops=pinned))
    assert (held.reason, held.until, held.text) == (Reason.PINNED, NOW + 14_000, "alice: tested")


@pytest.mark.parametrize("state", [IncidentState.TRIAGED, IncidentState.HELD])
def test_an_alert_that_is_over_before_anything_was_done_ends_its_incident(
    incident, case, after, state
) -> None:
    over = {"firing": False, "quarantine_owner": None}
    one = incident(state)
    assert as_tuple(decide(case(one, **over))) == ("move", IncidentState.SUPPRESSED)
    told = after(one, plan.notify(ACTIONS, one, "held-budget_out"))
    assert as_tuple(decide(case(told, **over))) == ("move", IncidentState.SUPPRESSED)


def test_what_was_touched_already_is_not_forgotten_when_its_alert_ends(
    incident, case, after
) -> None:
    one = incident(IncidentState.TRIAGED)
    tried = after(one, plan.quarantine(ACTIONS, one), done=False)
    assert as_tuple(decide(case(tried, firing=False, quarantine_owner=None)))[0] == "act"
    ours = decide(case(one, firing=False, quarantine_owner="fleetmedic"))
    assert as_tuple(ours) == ("act", "quarantine_gpu")


def test_a_held_incident_is_also_ended_told_or_left_to_a_person(incident, case) -> None:
    one = replace(incident(IncidentState.HELD), held=Reason.PAUSED, held_since=NOW - 200)
    assert as_tuple(decide(case(one, firing=False, quarantine_owner=None))) == (
        "move", IncidentState.SUPPRESSED,
    )  # fmt: skip
    unable = {"capabilities": EVERYTHING - {"gpu_quarantine"}, "quarantine_owner": None}
    assert as_tuple(decide(case(one, **unable))) == ("act", "notify:failed")


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_incident_does_nothing_more(incident, case, state) -> None:
    assert decide(case(incident(state, quarantined=(GPU,)), quarantine_owner=None)) == Wait()


def test_a_workload_is_scaled_at_level_repair_only_and_a_job_restarted_at_drain(
    incident, case, after
) -> None:
    one = incident(IncidentState.TRIAGED, SERVE)
    assert as_tuple(decide(case(one, playbook=SCALE))) == ("move", IncidentState.REPAIRING)
    low = {"playbook": SCALE, "level": Level.DRAIN}
    assert as_tuple(decide(case(one, **low))) == ("would", ("scale",))
    written = replace(one, rehearsed=True)
    assert as_tuple(decide(case(written, **low))) == ("act", "notify:level")
    told = after(written, plan.notify(ACTIONS, written, "level"))
    assert as_tuple(decide(case(told, **low))) == ("move", IncidentState.SUPPRESSED)
    job = incident(IncidentState.TRIAGED, TRAIN)
    assert as_tuple(decide(case(job, playbook=JOB, level=Level.DRAIN))) == (
        "move",
        IncidentState.DRAINING,
    )
    assert as_tuple(decide(case(job, playbook=JOB, level=Level.QUARANTINE)))[0] == "would"


def test_a_service_that_the_cluster_cannot_scale_or_whose_playbook_says_nothing_is_a_persons(
    incident, case
) -> None:
    one = incident(IncidentState.TRIAGED, SERVE)
    able = EVERYTHING - {"scale"}
    assert as_tuple(decide(case(one, playbook=SCALE, capabilities=able))) == (
        "act",
        "notify:failed",
    )
    nothing = replace(SCALE, scale=None, quarantine=True)
    assert as_tuple(decide(case(one, playbook=nothing))) == ("act", "notify:failed")
    job = replace(JOB, jobs=None, quarantine=True)
    assert as_tuple(decide(case(incident(IncidentState.TRIAGED, TRAIN), playbook=job))) == (
        "act",
        "notify:failed",
    )
