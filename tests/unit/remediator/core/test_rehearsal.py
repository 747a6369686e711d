from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetmedic.kernel.labels import TargetKind
from remediator.core import step_guards
from remediator.core.decide import decide
from remediator.core.decision import Hold, Move, Rehearse
from remediator.core.facts import (
    EVERYTHING,
    Facts,
    PoolFacts,
    SensorFacts,
    Stops,
    TargetJob,
)
from remediator.core.model import FaultClass, IncidentState, JobsPlan, Level, Playbook, ScalePlan
from remediator.core.reasons import Reason
from remediator.core.rehearsal import rehearse
from tests.unit.remediator.core.examples import SERVE, TRAIN

RUNNING, DEAD = (TargetJob("train-a", True),), (TargetJob("train-a", False),)
SCALE_IN = Playbook(
    "scale-in", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
    scale=ScalePlan(-1, 4.0, 60.0, 3),
)  # fmt: skip


def _said(would: Rehearse) -> dict[str, str]:
    names = (action.name for action in would.actions)
    return dict(zip(names, would.texts, strict=True))


def test_the_whole_plan_is_said_with_its_target(incident, case) -> None:
    said = _said(rehearse(case(incident(), jobs=RUNNING)))
    assert list(said) == [
        "quarantine_gpu", "signal_checkpoint", "restart_jobs", "notify", "reset_gpu", "reboot_node",
        "verify", "release",
    ]  # fmt: skip
    assert said["reset_gpu"] == "The remediator would reset the GPU (gpu/node2/3)."
    assert said["restart_jobs"] == "The remediator would restart its jobs elsewhere (gpu/node2/3)."


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({"stops": Stops(storm="A storm.")}, {"restart_jobs", "reset_gpu", "reboot_node"}),
        ({"sensors": SensorFacts(999.0, True, 1.0)}, {"restart_jobs", "reset_gpu", "reboot_node"}),
        ({"witnesses": frozenset()}, {"restart_jobs"}),
        ({"jobs": DEAD, "sensors": SensorFacts()}, {"reset_gpu", "reboot_node"}),
    ],
)
def test_a_guard_that_stands_against_a_step_now_is_named(
    incident, case, changes: dict[str, Any], waits: set[str]
) -> None:
    said = _said(rehearse(case(incident(), **({"jobs": RUNNING} | changes))))
    assert {name for name, text in said.items() if "the step would wait now: " in text} == waits


@pytest.mark.parametrize(
    ("missing", "action"),
    [("probe", ["reboot_node"]), ("gpu_reset", ["reset_gpu"]), ("reboot", ["reboot_node"]),
     ("restart", ["signal_checkpoint", "restart_jobs"]), ("signal", ["signal_checkpoint"]),
     ("gpu_quarantine", ["quarantine_gpu", "signal_checkpoint", "restart_jobs", "reset_gpu",
                         "reboot_node", "verify", "release"])],
)  # fmt: skip
def test_what_the_cluster_cannot_do_would_not_be_done(incident, case, missing, action) -> None:
    able = EVERYTHING - {missing}
    said = _said(rehearse(case(incident(), jobs=RUNNING, capabilities=able)))
    impossible = {
        name for name, text in said.items() if text.startswith("The remediator would not ")
    }
    assert impossible == set(action)
    assert all(said[name].endswith(".") for name in action)


def test_without_a_load_test_the_release_would_wait_for_an_approval(incident, case) -> None:
    said = _said(rehearse(case(incident(), capabilities=EVERYTHING - {"probe"})))
    assert said["release"].endswith(
        "After an operator's approval: this cluster has no test under load."
    )
    assert said["verify"].endswith("By its metrics only: this cluster has no test under load.")


def test_without_a_job_there_is_none_to_restart(incident, case) -> None:
    assert _said(rehearse(case(incident())))["restart_jobs"].endswith(
        ", but no job runs on it now."
    )


def test_only_what_the_playbooks_own_level_allows_would_be_done(incident, case, playbook) -> None:
    variant = replace(playbook, level=Level.DRAIN)
    would = rehearse(case(incident(), playbook=variant))
    assert tuple(_said(would)) == ("quarantine_gpu", "signal_checkpoint", "restart_jobs", "notify")


def test_taking_replicas_away_would_wait_for_the_watchdog_and_adding_would_not(
    incident, case
) -> None:
    blind = {"sensors": SensorFacts()}
    one = incident(IncidentState.TRIAGED, SERVE)
    assert "wait" in _said(rehearse(case(one, playbook=SCALE_IN, **blind)))["scale"]
    out = replace(SCALE_IN, scale=ScalePlan(1, 4.0, 60.0, 3))
    assert "wait" not in _said(rehearse(case(one, playbook=out, **blind)))["scale"]


# At level observe, `decide` says what would really be done.


def _observed(case, one, facts: dict[str, Any], **more: Any):
    return decide(case(one, **({"level": Level.OBSERVE, "quarantine_owner": None} | facts), **more))


def test_what_would_hold_the_quarantine_holds_the_rehearsal(incident, case) -> None:
    for changes, reason in (
        ({"pool": PoolFacts(gpus=32, gpus_out=3)}, Reason.BUDGET_OUT),
        ({"known": False}, Reason.FACTS_UNKNOWN),
        ({"quarantine_owner": "bob"}, Reason.OTHER_OWNER),
        ({"paused": True}, Reason.PAUSED),
    ):
        decision = _observed(case, incident(), changes)
        assert isinstance(decision, Hold)
        assert decision.reason is reason


def test_where_a_gpu_cannot_be_quarantined_a_person_would_be_notified_and_why(
    incident, case
) -> None:
    would = _observed(case, incident(), {"capabilities": EVERYTHING - {"gpu_quarantine"}})
    assert (tuple(_said(would)), would.reason) == (("notify",), Reason.UNSUPPORTED)
    assert (
        "The remediator would take no action on gpu/node2/3. This cluster lacks" in would.texts[0]
    )


def test_of_an_unknown_job_nothing_would_be_done(incident, case) -> None:
    variant = Playbook(
        "job-stalled", (), (), TargetKind.JOB, FaultClass.SERVICE, Level.DRAIN,
        jobs=JobsPlan(False, True, 10.0, 60.0, 2, 3600.0),
    )  # fmt: skip
    decision = _observed(
        case, incident(IncidentState.TRIAGED, TRAIN), {"job_known": False}, playbook=variant
    )
    assert isinstance(decision, Move)
    assert (decision.state, decision.reason) == (IncidentState.SUPPRESSED, Reason.UNKNOWN_JOB)


def test_a_rehearsal_waits_exactly_for_what_the_gates_hold(incident, case, facts: Facts) -> None:
    one = case(incident(), jobs=RUNNING, witnesses=frozenset({"one"}))
    said = _said(rehearse(one))
    assert said["restart_jobs"].endswith(
        f"the step would wait now: {step_guards.moves_running_jobs(one).text}"
    )
