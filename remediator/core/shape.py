"""Shape the plan of a playbook in advance, by what the cluster supports and the level allows. Pure.

Decisions, rehearsals, `fleetmedic remediator plan` and the pages use the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fleetmedic.kernel.labels import TargetKind
from remediator.core.action import ActionCatalogue, ActionSpec, Effect, Level
from remediator.core.model import Playbook
from remediator.core.plan import outline
from remediator.core.reasons import Reason

_BY_METRICS = "by its metrics only: this cluster has no test under load"
_APPROVED = "after an operator's approval: this cluster has no test under load"
_FAILED_JOBS = "only jobs that have failed: the node has no repair, so its running jobs stay"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One action of a plan, with the level that it needs.

    `reason` is None for a step that is kept. For a step that is left out, `reason` and `text` say
    why. `note` limits a step that is kept.
    """

    action: ActionSpec
    level: Level
    reason: Reason | None = None
    text: str = ""
    note: str = ""

    @property
    def kept(self) -> bool:
        """Return whether the step stays in the plan."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class PlanShape:
    """The plan of a playbook for one kind of target, on one cluster, at one level, in order.

    `needs_approval`: the cluster has no test under load, so metrics verify the target and an
    operator approves its return to service.
    """

    planned: tuple[PlannedStep, ...]
    capabilities: frozenset[str]
    needs_approval: bool = False

    @property
    def kept(self) -> tuple[PlannedStep, ...]:
        """Return the steps that stay in the plan, in order."""
        return tuple(one for one in self.planned if one.kept)

    @property
    def left_out(self) -> tuple[PlannedStep, ...]:
        """Return the steps that are left out, in order."""
        return tuple(one for one in self.planned if not one.kept)

    def unsupported(self, action: ActionSpec) -> str:
        """Return why the cluster cannot run an action; empty if it can.

        The action need not belong to the playbook: a repair of a GPU may have to empty its node.
        """
        for one in self.planned:
            if one.action.name == action.name:
                return one.text if one.reason is Reason.UNSUPPORTED else ""
        return lack(action, self.capabilities)

    @property
    def sentence(self) -> str:
        """Return what is left out and limited, and why, as sentences; empty for a full plan."""
        out = [f"{one.action.would} ({one.text.rstrip('.')})" for one in self.left_out]
        limited = [f"{one.action.would} ({one.note})" for one in self.kept if one.note]
        said = f"Left out of the plan: {'; '.join(out)}." if out else ""
        return " ".join(filter(None, (said, f"Limited: {'; '.join(limited)}." if limited else "")))


def lack(action: ActionSpec, capabilities: frozenset[str]) -> str:
    """Return the capability of an action that a cluster lacks, as a sentence; empty if it lacks none."""
    if action.supported(capabilities):
        return ""
    words = str(action.capability).replace("_", " ")
    return f"This cluster lacks a required capability: {words}."


@lru_cache(maxsize=1024)
def shape(
    actions: ActionCatalogue,
    playbook: Playbook,
    kind: TargetKind,
    capabilities: frozenset[str],
    level: Level = Level.REPAIR,
) -> PlanShape:
    """Return the plan of a playbook for a kind of target, without the steps that cannot run.

    A step that the cluster does not support is left out for that reason, whatever the level.
    """
    steps = [PlannedStep(action, needed) for action, needed in outline(actions, playbook, kind)]
    load_test = actions.of(Effect.VERIFIES).supported(capabilities)
    out = _unsupported(steps, kind, capabilities, load_test)
    no_repair = all(one.action.name in out for one in steps if one.action.effect is Effect.REPAIRS)
    planned = [
        _shaped(one, out.get(one.action.name, ""), level, _note(one, kind, load_test, no_repair))
        for one in steps
    ]
    return PlanShape(tuple(planned), capabilities, not load_test)


def _shaped(step: PlannedStep, lacking: str, level: Level, note: str) -> PlannedStep:
    if lacking:
        return PlannedStep(step.action, step.level, Reason.UNSUPPORTED, lacking)
    if step.level.rank > level.rank:
        text = f"This step needs level {step.level}; the configured level is {level}."
        return PlannedStep(step.action, step.level, Reason.LEVEL, text)
    return PlannedStep(step.action, step.level, note=note)


def _unsupported(
    steps: list[PlannedStep], kind: TargetKind, capabilities: frozenset[str], load_test: bool
) -> dict[str, str]:
    """Return why each step cannot run on the cluster, by the name of its action."""
    out: dict[str, str] = {}
    effects = {one.action.effect: one.action for one in steps}
    for one in steps:
        action = one.action
        reasons = (_lost(action, effects, out), _own_lack(action, kind, capabilities, load_test))
        if reason := next(filter(None, reasons), ""):
            out[action.name] = reason
    if Effect.MOVES_JOBS in effects and effects[Effect.MOVES_JOBS].name in out:
        for save in (one.action for one in steps if one.action.effect is Effect.SAVES):
            out.setdefault(save.name, "The job is not restarted, so it needs no checkpoint.")
    repairs = [one.action for one in steps if one.action.effect is Effect.REPAIRS]
    if repairs and all(one.name in out for one in repairs):
        for effect in (Effect.VERIFIES, Effect.RELEASES):
            out.setdefault(effects[effect].name, "The playbook has no repair left.")
    return out


def _lost(action: ActionSpec, effects: dict[Effect, ActionSpec], out: dict[str, str]) -> str:
    """Return a reason if the quarantine on which the action depends is left out."""
    quarantine = effects.get(Effect.QUARANTINES)
    if quarantine is None or quarantine.name not in out or action.effect is Effect.NOTIFIES:
        return ""
    return "The target cannot be quarantined."


def _own_lack(
    action: ActionSpec, kind: TargetKind, capabilities: frozenset[str], load_test: bool
) -> str:
    """Return why the cluster cannot run the action itself.

    Metrics and an approval replace a missing test under load. They do not replace it where the node
    of a GPU would be emptied for the repair, because its other GPUs work.
    """
    if action.effect is Effect.VERIFIES:
        return ""
    if own := lack(action, capabilities):
        return own
    whole = action.effect is Effect.REPAIRS and action.whole_node and kind is TargetKind.GPU
    if whole and not load_test:
        return "A node is not emptied for a repair that no test under load can verify."
    return ""


def _note(step: PlannedStep, kind: TargetKind, load_test: bool, no_repair: bool) -> str:
    effect = step.action.effect
    if effect is Effect.MOVES_JOBS and kind is TargetKind.NODE and no_repair:
        return _FAILED_JOBS
    if load_test:
        return ""
    return {Effect.VERIFIES: _BY_METRICS, Effect.RELEASES: _APPROVED}.get(effect, "")
