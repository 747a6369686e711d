"""The answers that `decide` can give, and the case that it decides."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.core.guards import Limits, Ruling, Verdict
from remediator.core.model import Incident, Level, Playbook, State, Step
from remediator.core.reasons import Reason, sentence
from remediator.core.view import View


@dataclass(frozen=True, slots=True)
class Case:
    """One incident with everything that a decision on it may use."""

    incident: Incident
    playbook: Playbook
    view: View
    limits: Limits
    now: float

    @property
    def level(self) -> Level:
        """The level in force: the lower of the incident's own and today's ceiling."""
        return min(self.incident.level, self.view.level, key=lambda level: level.rank)


@dataclass(frozen=True, slots=True)
class Act:
    """Announce this step, then carry it out. `dead`: what is quarantined was lost or hung already."""

    step: Step
    reason: Reason = Reason.STEP_ALLOWED
    text: str = ""
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Go to another state, then ask again."""

    state: State
    reason: Reason
    text: str = ""
    until: float | None = None
    rung: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A guard says not now. Ask again at `until`, or when something new is heard."""

    reason: Reason
    text: str = ""
    until: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, or before something new is heard."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Would:
    """Write down these actions, which the level in force does not allow; `texts` says more of each."""

    actions: tuple[str, ...]
    reason: Reason
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Widen:
    """The node is the patient: open an incident on it that takes this one over."""

    text: str


Decision = Act | Move | Hold | Wait | Would | Widen


def held(verdict: Verdict) -> Hold:
    """The hold that a guard's verdict asks for."""
    assert verdict.ruling is Ruling.HOLD  # noqa: S101 - refusals are handled by their callers
    text = verdict.text or sentence(verdict.reason)
    return Hold(verdict.reason, text, verdict.until, verdict.group)
