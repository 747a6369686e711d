"""Replicas are added and taken away by steps, within bounds, while the alert goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetmedic.kernel.labels import TargetKind
from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Wait
from remediator.core.evidence import unknown
from remediator.core.facts import (
    ScalingFacts,
    SensorFacts,
)
from remediator.core.model import (
    FaultClass,
    IncidentState,
    Level,
    Playbook,
    ScalePlan,
    VerifyPlan,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.decision_tuples import as_tuple, as_tuple_with_reason
from tests.unit.remediator.core.examples import NOW, SCALE, SERVE


@pytest.mark.parametrize(
    ("load", "step", "expected"),
    [
        (ScalingFacts(2, 2, 1, 8, 30.0), 1, ("act", "scale")),
        (ScalingFacts(8, 8, 1, 8, 90.0), 1, ("act", "notify:limit")),
        (ScalingFacts(2, 2, 1, 8, None), 1, ("hold", Reason.FACTS_UNKNOWN)),
        (ScalingFacts(2, 2, 1, 8, None), -1, ("hold", Reason.FACTS_UNKNOWN)),  # unknown is not empty
        (ScalingFacts(4, 4, 1, 8, 0.0), -1, ("act", "scale")),
        (ScalingFacts(2, 2, 1, 8, 7.0), 1, ("wait", None)),
        (ScalingFacts(2, 2, 1, 8, 30.0), -1, ("wait", None)),   # scale-in never scales out
        (None, 1, ("hold", Reason.FACTS_UNKNOWN)),
    ],
)  # fmt: skip
def test_scaling_follows_the_queue_within_bounds(incident, case, load, step, expected) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    variant = replace(SCALE, scale=ScalePlan(step, 4.0, 60.0, 3))
    assert expected == as_tuple(decide(case(one, playbook=variant, workload=load)))


def test_scaling_goes_on_by_steps_while_the_alert_does(incident, case, after) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    load = ScalingFacts(2, 2, 1, 8, 30.0)
    step = decide(case(one, playbook=SCALE, workload=load)).step
    assert step.replicas == 3
    one = after(one, step)
    told = (("scale", SERVE, NOW),)
    held = decide(case(one, playbook=SCALE, workload=load, attempts=told, now=NOW + 1))
    assert Reason.COOLDOWN is held.reason
    following = decide(case(one, playbook=SCALE, workload=load, attempts=told, now=NOW + 61))
    assert (following.step.id, following.step.attempt) == ("scale", 2)
    over = decide(case(one, playbook=SCALE, workload=load, firing=False))
    assert as_tuple(over) == ("act", "notify:closed")


def _scale(step: int, **more: Any) -> Playbook:
    return Playbook(
        "scale", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
        scale=ScalePlan(step, 4.0, 60.0, 3), verify=VerifyPlan((), 1, 1.0), **more,
    )  # fmt: skip


def _load(wanted: int, waiting: float | None) -> dict[str, Any]:
    return {"workload": ScalingFacts(wanted, wanted, 1, 8, waiting)}


def test_replicas_are_taken_away_only_while_the_alert_is_known_to_fire(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    idle = {"playbook": _scale(-1), **_load(4, 0.0)}
    assert as_tuple_with_reason(decide(case(one, **idle))) == ("act", "scale")
    over = decide(case(one, firing=False, **idle))
    assert as_tuple_with_reason(over) == ("move", (IncidentState.CLOSED, Reason.ALERT_GONE))
    held = decide(case(one, evidence=unknown("no answer"), **idle))
    assert as_tuple_with_reason(held) == ("hold", Reason.ALERT_UNCONFIRMED)
    blind = decide(case(one, sensors=SensorFacts(), **idle))
    assert as_tuple_with_reason(blind) == ("hold", Reason.DEAD_MAN)


def test_replicas_are_added_without_all_that(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    queue = {"playbook": _scale(1), **_load(2, 30.0)}
    assert as_tuple_with_reason(decide(case(one, sensors=SensorFacts(), **queue))) == (
        "act",
        "scale",
    )
    unsure = decide(case(one, evidence=unknown("?"), **queue))
    assert as_tuple_with_reason(unsure) == ("act", "scale")
    assert as_tuple_with_reason(decide(case(one, paused=True, **queue))) == ("hold", Reason.PAUSED)


def test_at_the_minimum_no_scale_out_ends_and_at_the_maximum_no_scale_in(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    least = decide(case(one, playbook=_scale(1), **_load(1, 0.0)))
    assert least == Wait(NOW + 2)
    most = decide(case(one, playbook=_scale(-1), **_load(8, 90.0)))
    assert most == Wait(NOW + 2)
    at_limit = decide(case(one, playbook=_scale(-1), **_load(1, 0.0)))
    assert as_tuple_with_reason(at_limit) == ("act", "notify:limit")
    assert "1 replica, the minimum" in at_limit.text


def test_a_scaling_that_fails_is_a_persons_and_three_steps_are_the_most(
    incident, case, after
) -> None:
    queue = {"playbook": _scale(1), **_load(2, 90.0)}
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    step = decide(case(one, **queue)).step
    failed = after(one, step, done=False, text="quota")
    assert as_tuple_with_reason(decide(case(failed, **queue))) == ("act", "notify:failed")
    for _ in range(3):
        one = after(one, plan.new_step(one, ACTIONS.named("scale"), 9.0, replicas=3))
    assert as_tuple_with_reason(decide(case(one, **queue))) == ("act", "notify:closed")
    told = after(one, plan.notify(ACTIONS, one, "closed"))
    assert as_tuple_with_reason(decide(case(told, **queue))) == (
        "move",
        (IncidentState.CLOSED, Reason.RESCALED),
    )


def test_demand_that_went_away_before_a_step_closes_quietly(incident, case) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    decision = decide(case(one, playbook=_scale(1), firing=False, **_load(4, 8.0)))
    assert as_tuple_with_reason(decision) == ("move", (IncidentState.CLOSED, Reason.RESCALED))


def test_at_its_limit_a_workload_is_told_of_once_and_the_incident_closes(
    incident, case, after
) -> None:
    one = incident(IncidentState.REPAIRING, SERVE, quarantined=())
    full = {"playbook": _scale(1), **_load(8, 90.0)}
    told = after(one, decide(case(one, **full)).step)
    assert as_tuple_with_reason(decide(case(told, **full))) == (
        "move",
        (IncidentState.CLOSED, Reason.AT_LIMIT),
    )
