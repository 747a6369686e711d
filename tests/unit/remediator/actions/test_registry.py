"""Every registered action declares all that the core, the console and the metrics need to know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.registry import actions
from remediator.core.action import ActionSpec, Effect, Level
from tests.unit.remediator.catalogue import ACTIONS

ROOT = Path(__file__).resolve().parents[4]
each = pytest.mark.parametrize("spec", list(ACTIONS), ids=lambda spec: spec.name)


@each
def test_an_action_says_in_english_what_it_would_do_and_what_it_did(spec: ActionSpec) -> None:
    assert spec.would.strip() == spec.would != ""
    assert spec.would[0].islower()
    assert not spec.would.endswith(".")
    did = spec.did.format(on=Target.parse("node1/3"), jobs="a and b", replicas=3)
    assert bool(did) is (spec.effect is not Effect.NOTIFIES)
    assert did != spec.did or spec.effect is Effect.NOTIFIES, "it names what was changed"


@each
def test_an_action_needs_what_the_effect_implies(spec: ActionSpec) -> None:
    assert spec.targets
    assert spec.level is not Level.OBSERVE, "at level observe no action runs"
    disturbs = spec.effect in (Effect.REPAIRS, Effect.MOVES_JOBS, Effect.FAILS_JOBS)
    assert spec.disruptive is disturbs
    assert not (spec.disruptive and spec.reversible), "what disturbs a job cannot be undone"
    if spec.effect in (Effect.REPAIRS, Effect.FAILS_JOBS):
        assert spec.level is Level.REPAIR
    if spec.effect is Effect.QUARANTINES:
        assert spec.reversible
    if spec.whole_node:
        assert TargetKind.GPU in spec.targets


@pytest.mark.parametrize("effect", Effect)
def test_for_each_effect_there_is_an_action(effect: Effect) -> None:
    assert ACTIONS.of(effect).effect is effect


def test_a_target_of_each_kind_of_hardware_can_be_quarantined_by_one_action() -> None:
    for kind in (TargetKind.GPU, TargetKind.NODE):
        assert ACTIONS.of(Effect.QUARANTINES, kind).targets == {kind}
    with pytest.raises(LookupError, match="quarantines"):
        ACTIONS.of(Effect.QUARANTINES, TargetKind.JOB)
    with pytest.raises(LookupError, match="'replace'"):
        ACTIONS.named("replace")


def test_only_an_actions_own_file_and_playbooks_name_it() -> None:
    names = {action.name for action in actions()}
    files = [*(ROOT / "remediator/core").glob("*.py"), *(ROOT / "remediator").glob("*.py")]
    # Journals of earlier versions, capabilities and people's orders have names of their own.
    apart = {"journal_upgrades.py", "action.py", "incident_orders.py"}
    written = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in files
        if path.name not in apart
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert written == set()
