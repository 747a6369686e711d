"""The decisions that `decide` can return, and the case that it decides."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.core.facts import Facts
from remediator.core.guards import Limits, Ruling, Verdict
from remediator.core.model import Incident, IncidentState, Level, Playbook, Step
from remediator.core.reasons import Reason, sentence


@dataclass(frozen=True, slots=True)
class Case:
    """One incident with everything that a decision may use."""

    incident: Incident
    playbook: Playbook
    view: Facts
    limits: Limits
    now: float

    @property
    def level(self) -> Level:
        """The level in force: the lower of the incident's level and the current ceiling."""
        return min(self.incident.level, self.view.level, key=lambda level: level.rank)


@dataclass(frozen=True, slots=True)
class Act:
    """Announce this step, then carry it out. `dead`: the quarantined target was already lost or hung."""

    step: Step
    reason: Reason = Reason.STEP_ALLOWED
    text: str = ""
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Enter another state, then decide again."""

    state: IncidentState
    reason: Reason
    text: str = ""
    until: float | None = None
    rung: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A guard does not allow the step now. Decide again at `until`, or when new information arrives."""

    reason: Reason
    text: str = ""
    until: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """No action before `until`, or before new information arrives."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Record these actions, which the level in force does not allow; `texts` has a text for each."""

    actions: tuple[str, ...]
    reason: Reason
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Widen:
    """The whole node is affected: open an incident on the node that takes this one over."""

    text: str


Decision = Act | Move | Hold | Wait | Rehearse | Widen


def held(verdict: Verdict) -> Hold:
    """The hold for a guard's verdict."""
    assert verdict.ruling is Ruling.HOLD  # noqa: S101 - refusals are handled by their callers
    text = verdict.text or sentence(verdict.reason)
    return Hold(verdict.reason, text, verdict.until, verdict.group)
