"""A test that could not be judged, for want of Prometheus, is made again once it can be."""

from __future__ import annotations

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Wait
from remediator.core.model import IncidentState
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

GPU = Target(TargetKind.GPU, "node2", 3)


def _escalated(incident, after, reason: Reason, repaired_at: float | None, tests: int = 1):
    one = incident(
        IncidentState.ESCALATED,
        reason=reason,
        since=NOW - 300,
        repaired_at=repaired_at,
        quarantined=(GPU,),
    )
    for _ in range(tests):
        one = after(
            one, plan.new_step(one, ACTIONS.named("verify"), 60.0), done=False, text="no samples"
        )
    return after(one, plan.notify(ACTIONS, one, "escalated"))


@pytest.mark.parametrize("repaired_at", [None, NOW - 600])
def test_what_nobody_could_judge_is_tested_again_after_a_repair_too(
    incident, case, after, repaired_at
) -> None:
    one = _escalated(incident, after, Reason.UNVERIFIABLE, repaired_at)
    again = decide(case(one, firing=False))
    assert (again.state, again.reason) == (IncidentState.VERIFYING, Reason.ALERT_GONE)
    assert decide(case(one, firing=False, now=NOW - 1)) == Wait(), "not at once"
    assert decide(case(one, firing=True)) == Wait(), "an alert still speaks against it"


def test_it_is_tested_ten_times_at_most(incident, case, after) -> None:
    one = _escalated(incident, after, Reason.UNVERIFIABLE, NOW - 600, tests=plan.MOST_TESTS)
    assert decide(case(one, firing=False)) == Wait()


@pytest.mark.parametrize("reason", [Reason.LADDER_EXHAUSTED, Reason.WITNESSES])
def test_what_was_judged_after_its_repair_is_a_persons(incident, case, after, reason) -> None:
    one = _escalated(incident, after, reason, NOW - 600)
    assert decide(case(one, firing=False)) == Wait()
