"""When a job that keeps failing is restarted, and when it is failed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator.core import plan
from remediator.core.action import Capability, Effect
from remediator.core.decide import decide
from remediator.core.decision import Act, Hold, Move, Wait
from remediator.core.evidence import unknown
from remediator.core.facts import EVERYTHING, JobFailures, SensorFacts, Stops
from remediator.core.job_failures import FAILURE_COUNTS_FOR
from remediator.core.model import FaultClass, IncidentState, JobsPlan, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.step_guards import right_before
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import DEAD, NOW, RUNNING, TRAIN

RESTART, FAIL = ACTIONS.named("restart_jobs"), ACTIONS.named("fail_job")
MOST = 3
PLAYBOOK = Playbook(
    "restart-loop", ("TrainingRestartLoop",), (), TRAIN.kind, FaultClass.SERVICE, Level.REPAIR,
    jobs=JobsPlan(False, True, 10.0, 60.0, MOST, 3600.0, FAIL), notify=False,
)  # fmt: skip
FOUR = ("node1", "node2", "node3", "node4")
FAILED = JobFailures(at=NOW - 1, node="node4", text="exited with 3", in_service=FOUR)


@pytest.fixture(scope="session")
def tried(incident, after):
    """An incident after `times` restarts, each off one more node; with the facts about them."""

    def make(times: int = MOST, nodes: tuple[str, ...] = FOUR) -> tuple[Any, dict[str, Any]]:
        one = incident(IncidentState.DRAINING, TRAIN)
        for number in range(times):
            away = tuple(Target.parse(name) for name in nodes[: number + 1])
            step = plan.new_step(one, RESTART, 60.0, jobs=("train-a",), also=away)
            one = after(one, step, at=NOW - 40 + number)
        at = tuple((RESTART.name, TRAIN, NOW - 40 + number) for number in range(times))
        return one, {"attempts": at, "jobs": DEAD, "failures": FAILED, "playbook": PLAYBOOK}

    return make


def test_at_the_limit_the_job_is_failed_with_what_was_tried(tried, case) -> None:
    one, facts = tried()
    act = decide(case(one, **facts))
    assert isinstance(act, Act)
    assert (act.step.action, act.step.target, act.step.jobs) == (FAIL.name, TRAIN, ("train-a",))
    assert act.text == (
        "The job kept failing on node1, node2, node3, node4, although it was restarted elsewhere 3 times. "
        "Last failure, on node4: exited with 3."
    )
    assert right_before(case(one, **facts), act.step).allows


SPOILED = {
    "no failure since the last restart": {"failures": replace(FAILED, at=NOW - 50)},
    "the failure is old": {"failures": replace(FAILED, at=NOW - 1), "now": NOW + 700},
    "failures are unknown": {"failures": replace(FAILED, at=None, node="", text="")},
    "a failure on an unknown node": {"failures": replace(FAILED, node="")},
    "hardware is reported": {"failures": replace(FAILED, suspects=frozenset({"node2"}))},
    "other jobs fail too": {"failures": replace(FAILED, others=1)},
    "a storm": {"stops": Stops(storm="A storm.")},
    "a clock jump": {"stops": Stops(clock="It jumped.", clock_left=60.0)},
    "a pause": {"paused": True},
    "another remediator": {"stops": Stops(other_installation="It is another.")},
    "no Watchdog": {"sensors": SensorFacts(999.0, True, 1.0)},
    "no Prometheus": {"sensors": SensorFacts(0.0, False, None)},
    "an unconfirmed alert": {"evidence": unknown("Alertmanager does not answer.")},
    "an alert that is over": {"firing": False},
    "an unknown cluster": {"known": False},
    "an unknown job": {"job_known": False, "jobs": ()},
    "a job that has ended": {"jobs": ()},
    "level drain": {"level": Level.DRAIN},
    "no capability": {"capabilities": EVERYTHING - {str(Capability.FAIL)}},
    "restarts outside the window": {"attempts": ((RESTART.name, TRAIN, NOW - 3700.0),) * 3},
    "restarts of hardware incidents": {
        "attempts": tuple((RESTART.name, Target.parse("node1/0"), NOW - n) for n in range(9))
    },
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_one_doubt_is_enough_not_to_fail_the_job(tried, case, spoiled) -> None:
    one, facts = tried()
    step = plan.new_step(one, FAIL, 60.0, jobs=("train-a",))
    changed = case(one, **(facts | SPOILED[spoiled]))
    decision = decide(changed)
    assert not (isinstance(decision, Act) and decision.step.effect is Effect.FAILS_JOBS)
    if spoiled not in ("an unknown job", "a job that has ended"):
        assert not right_before(changed, step).allows, "the check right before the step agrees"


def test_failures_on_one_node_only_are_no_proof_against_the_job(tried, case) -> None:
    one, facts = tried(nodes=("node4", "node4", "node4"))
    held = decide(case(one, **facts))
    assert (type(held), held.reason) == (Hold, Reason.CAUSE_UNKNOWN)
    assert "on node4 only" in held.text


@pytest.mark.parametrize(
    ("times", "failures", "expected"),
    [
        (0, FAILED, ("node4",)),
        (1, FAILED, ("node1", "node4")),
        (2, FAILED, ("node1", "node2", "node4")),
        # No node would be left: only the last one is excluded.
        (2, replace(FAILED, in_service=("node1", "node4")), ("node4",)),
    ],
)
def test_each_restart_avoids_the_nodes_on_which_the_job_failed(
    tried, case, times, failures, expected
) -> None:
    one, facts = tried(times)
    act = decide(case(one, **(facts | {"failures": failures})))
    assert isinstance(act, Act)
    assert act.step.action == RESTART.name
    assert tuple(target.name for target in act.step.also) == expected


def test_without_another_node_a_restart_waits(tried, case) -> None:
    one, facts = tried(0)
    held = decide(case(one, **(facts | {"failures": replace(FAILED, in_service=("node4",))})))
    assert (type(held), held.reason) == (Hold, Reason.CAUSE_UNKNOWN)


@pytest.mark.parametrize("jobs", [DEAD, RUNNING], ids=["dead", "running"])
def test_a_job_that_has_not_failed_since_the_alert_is_left_alone(tried, case, jobs) -> None:
    one, facts = tried(0)
    quiet = facts | {"jobs": jobs, "failures": replace(FAILED, at=NOW - 61)}
    assert isinstance(decide(case(one, **quiet)), Wait)


def test_a_restart_that_another_incident_made_unnecessary_is_withdrawn(tried, case) -> None:
    one, facts = tried(1)
    act = decide(case(one, **facts))
    moved = facts | {"failures": replace(FAILED, at=None), "jobs": RUNNING}
    verdict = right_before(case(one, **moved), act.step)
    assert verdict.reason is Reason.CAUSE_UNKNOWN


def test_a_job_that_was_failed_closes_the_incident_with_that_reason(tried, case, after) -> None:
    one, facts = tried()
    one = after(one, plan.new_step(one, FAIL, 60.0, jobs=("train-a",)), text="It has failed: why")
    move = decide(case(one, **(facts | {"jobs": ()})))
    assert isinstance(move, Move)
    assert (move.state, move.reason) == (IncidentState.JOBS_MOVED, Reason.JOB_FAILED)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    times=st.integers(0, 5),
    nodes=st.lists(st.sampled_from(FOUR), min_size=5, max_size=5),
    age=st.one_of(st.none(), st.floats(0, 2 * FAILURE_COUNTS_FOR)),
    node=st.sampled_from(("", *FOUR)),
    suspects=st.frozensets(st.sampled_from((*FOUR, "node9")), max_size=2),
    others=st.integers(0, 1),
    jobs=st.sampled_from((DEAD, RUNNING)),
    level=st.sampled_from((Level.DRAIN, Level.REPAIR)),
    alerted=st.one_of(st.none(), st.floats(0, 100)),
    storm=st.sampled_from(("", "A storm.")),
)
def test_a_job_is_failed_only_if_every_condition_holds(
    tried, case, times, nodes, age, node, suspects, others, jobs, level, alerted, storm
) -> None:
    one, facts = tried(times, tuple(nodes))
    at = None if age is None else NOW - age
    failures = JobFailures(
        at,
        node,
        "exited with 3",
        None if alerted is None else NOW - alerted,
        FOUR,
        suspects,
        others,
    )
    now = facts | {"failures": failures, "jobs": jobs, "level": level, "stops": Stops(storm=storm)}
    decision = decide(case(one, **now))
    acts = isinstance(decision, Act)
    last = NOW - 40 + times - 1 if times else NOW - 60
    fresh = at is not None and at > last and NOW - at <= FAILURE_COUNTS_FOR
    seen = {*nodes[:times], node}
    blamed = fresh and bool(node) and len(seen) >= 2 and not seen & suspects and not others
    sound = times >= MOST and blamed and level is Level.REPAIR and not storm
    assert (acts and decision.step.effect is Effect.FAILS_JOBS) is sound
    if acts and decision.step.effect is Effect.MOVES_JOBS:
        assert fresh or (alerted is not None and NOW - alerted > last)
        assert times < MOST
