"""The answers of the HTTP API, as far as the console shows them; what else they hold is ignored."""

from __future__ import annotations

import msgspec

from remediator.console.show import state_of

ENDED = frozenset({"CLOSED", "SUPPRESSED", "OVERRIDDEN", "FAILED"})


class IncidentDoc(msgspec.Struct, frozen=True):
    """What the console shows of an incident; what else the answer holds is ignored."""

    id: str
    target: str
    playbook: str
    state: str
    opened: float
    since: float
    level: str = ""
    text: str = ""
    held_since: float | None = None

    @property
    def shown_state(self) -> str:
        """The state, marked where a guard holds the incident in it."""
        return state_of(self.state, held=self.held_since is not None)


class PauseDoc(msgspec.Struct, frozen=True):
    """Who paused the remediator, why, and since when (Unix seconds)."""

    by: str
    reason: str
    at: float


class IncidentsResponse(msgspec.Struct, frozen=True):
    """The answer of /api/v1/incidents."""

    incidents: list[IncidentDoc]
    pause: PauseDoc | None = None


class EventDoc(msgspec.Struct, frozen=True):
    """One line of an incident's journal."""

    at: float
    event: str
    text: str
    reason: str | None = None


class IncidentResponse(msgspec.Struct, frozen=True):
    """The answer of /api/v1/incidents/ID."""

    incident: IncidentDoc
    events: list[EventDoc] = []
    summary: str = ""


class DecisionDoc(msgspec.Struct, frozen=True):
    """Why something was, or was not, done."""

    at: float
    reason: str
    text: str
    incident: str | None = None


class WhyResponse(msgspec.Struct, frozen=True):
    """The answer of /api/v1/why."""

    target: str
    decisions: list[DecisionDoc]
    incidents: list[str] = []
    text: str = ""
    pause: PauseDoc | None = None
