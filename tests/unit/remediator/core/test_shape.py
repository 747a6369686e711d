"""What a cluster cannot do, and what the level does not allow, is left out of the plan with its reason."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.labels import TargetKind
from remediator.core.action import Capability, Effect, Level
from remediator.core.decide import decide
from remediator.core.facts import EVERYTHING
from remediator.core.model import IncidentState, Playbook
from remediator.core.plan import outline
from remediator.core.reasons import Reason
from remediator.core.shape import PlanShape, shape
from remediator.playbook_library import load_library
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NODE

BOOKS = {one.name: one for one in load_library(())}
ACTING = [one for one in BOOKS.values() if not one.notify_only]
capabilities = st.frozensets(st.sampled_from([str(one) for one in Capability]))


def shaped(name: str, *missing: str, level: Level = Level.REPAIR) -> PlanShape:
    book = BOOKS[name]
    assert book.target is not None
    return shape(ACTIONS, book, book.target, EVERYTHING - set(missing), level)


def names(plan: PlanShape) -> list[str]:
    return [one.action.name for one in plan.kept]


def test_a_cluster_that_can_do_everything_keeps_the_whole_plan_and_nothing_is_said() -> None:
    for book in ACTING:
        plan = shape(ACTIONS, book, book.target or TargetKind.NODE, EVERYTHING)
        assert (plan.left_out, plan.sentence, plan.needs_approval) == ((), "", False)


def test_without_the_quarantine_only_the_notification_is_left() -> None:
    plan = shaped("gpu-lost", "gpu_quarantine")
    assert names(plan) == ["notify"]
    assert plan.left_out[0].text == "This cluster lacks a required capability: gpu quarantine."
    assert {one.text for one in plan.left_out[1:]} == {"The target cannot be quarantined."}


def test_without_a_load_test_metrics_verify_and_a_person_approves() -> None:
    plan = shaped("gpu-lost", "probe")
    assert plan.needs_approval
    noted = {one.action.name: one.note for one in plan.kept if one.note}
    assert noted["release"].startswith("after an operator's approval")
    assert noted["verify"].startswith("by its metrics only")
    assert [one.action.name for one in plan.left_out] == ["reboot_node"], "its node is not emptied"
    assert names(shaped("node-down", "probe"))[-3:] == ["reboot_node", "verify", "release"]


def test_what_the_level_does_not_allow_is_left_out_after_what_is_impossible() -> None:
    plan = shaped("gpu-lost", "gpu_reset", level=Level.DRAIN)
    reasons = {one.action.name: one.reason for one in plan.left_out}
    assert reasons == {
        "reset_gpu": Reason.UNSUPPORTED, "reboot_node": Reason.LEVEL, "verify": Reason.LEVEL,
        "release": Reason.LEVEL,
    }  # fmt: skip
    assert "the configured level is drain" in plan.sentence


def test_a_node_without_a_repair_keeps_its_running_jobs() -> None:
    plan = shaped("node-down", "reboot")
    moves = next(one for one in plan.kept if one.action.effect is Effect.MOVES_JOBS)
    assert moves.note.startswith("only jobs that have failed")
    assert moves.note in plan.sentence


def test_an_action_outside_the_playbook_is_judged_by_its_own_capability() -> None:
    plan = shaped("job-stalled", "reboot")
    assert "reboot" in plan.unsupported(ACTIONS.named("reboot_node"))
    assert plan.unsupported(ACTIONS.named("reset_gpu")) == ""


@given(st.sampled_from(ACTING), capabilities, capabilities, st.sampled_from(Level))
def test_fewer_capabilities_never_keep_more(
    book: Playbook, able: frozenset[str], less: frozenset[str], level: Level
) -> None:
    kind = book.target or TargetKind.NODE
    more = {one.action.name for one in shape(ACTIONS, book, kind, able, level).kept}
    fewer = {one.action.name for one in shape(ACTIONS, book, kind, able - less, level).kept}
    assert fewer <= more


@given(st.sampled_from(ACTING), capabilities, st.sampled_from(Level))
def test_every_planned_action_is_kept_or_left_out_with_a_sentence(
    book: Playbook, able: frozenset[str], level: Level
) -> None:
    kind = book.target or TargetKind.NODE
    plan = shape(ACTIONS, book, kind, able, level)
    assert [one.action for one in plan.planned] == [
        action for action, _ in outline(ACTIONS, book, kind)
    ]
    for one in plan.planned:
        assert one.kept == (not one.text)
        supported = one.action.supported(able) or one.action.effect is Effect.VERIFIES
        assert not one.kept or supported, "nothing is kept that the cluster cannot do"
        assert (one.action.would in plan.sentence) is bool(one.text or one.note)


@pytest.mark.parametrize(
    "missing", [m for n in (1, 2) for m in combinations(sorted(Capability), n)]
)
def test_the_incident_says_what_is_left_out_before_anything_is_touched(
    incident, case, playbook, missing
) -> None:
    able = EVERYTHING - set(missing)
    decision = decide(case(incident(IncidentState.NEW), capabilities=able))
    plan = shape(ACTIONS, playbook, TargetKind.GPU, able)
    assert decision.state is IncidentState.TRIAGED
    assert decision.text == f"A case. {plan.sentence}".strip()


def test_at_level_observe_the_rehearsal_says_it_instead(incident, case) -> None:
    observed = decide(case(incident(IncidentState.NEW), level=Level.OBSERVE))
    assert observed.text == "A case."
    low = decide(case(incident(IncidentState.NEW, NODE), level=Level.QUARANTINE))
    assert "restart its jobs elsewhere (This step needs level drain" in low.text
