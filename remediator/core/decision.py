"""The decisions that `decide` can return, and its input."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.core.action import ActionCatalogue, ActionSpec
from remediator.core.facts import Facts
from remediator.core.guards import Limits, Ruling, Verdict
from remediator.core.model import Incident, IncidentState, Level, Playbook, Step
from remediator.core.reasons import Reason, sentence
from remediator.core.shape import PlanShape, shape


@dataclass(frozen=True, slots=True)
class Case:
    """The input of a decision: one incident with all data that the decision may use.

    `now` is in Unix seconds.
    """

    incident: Incident
    playbook: Playbook
    facts: Facts
    limits: Limits
    now: float
    actions: ActionCatalogue

    @property
    def level(self) -> Level:
        """Return the automation level in force: the lower of the incident's level and the configured maximum."""
        return min(self.incident.level, self.facts.level, key=lambda level: level.rank)

    @property
    def shape(self) -> PlanShape:
        """Return the plan of the playbook without what the cluster does not support, at any level."""
        kind = self.incident.target.kind
        return shape(self.actions, self.playbook, kind, self.facts.capabilities)


@dataclass(frozen=True, slots=True)
class Act:
    """Decision: announce this step in the journal, then run the step.

    `dead`: the target of the quarantine was already lost or hung.
    """

    step: Step
    reason: Reason = Reason.STEP_ALLOWED
    text: str = ""
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Decision: change the incident's state, then decide again."""

    state: IncidentState
    reason: Reason
    text: str = ""
    until: float | None = None
    rung: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Decision: do not run the step now, because a guard blocks the step.

    The next decision is at `until`, or when new data arrives.
    """

    reason: Reason
    text: str = ""
    until: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Decision: do nothing until `until` (Unix seconds), or until new data arrives."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Decision: record the actions that the automation level does not allow.

    `texts` contains one description for each action.
    """

    actions: tuple[ActionSpec, ...]
    reason: Reason
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Widen:
    """Decision: open an incident for the whole node, which takes over this incident of a GPU."""

    text: str


Decision = Act | Move | Hold | Wait | Rehearse | Widen


def held(verdict: Verdict) -> Hold:
    """Convert a guard's verdict into the decision Hold."""
    assert verdict.ruling is Ruling.HOLD  # noqa: S101 - refusals are handled by their callers
    text = verdict.text or sentence(verdict.reason)
    return Hold(verdict.reason, text, verdict.until, verdict.group)
