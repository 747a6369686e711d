"""The response types of the HTTP API, with the fields that the console shows. Other fields are ignored."""

from __future__ import annotations

import msgspec

from remediator.console.show import state_of

ENDED = frozenset({"CLOSED", "SUPPRESSED", "OVERRIDDEN", "FAILED"})


class IncidentDoc(msgspec.Struct, frozen=True):
    """One incident in a response, with the fields that the console shows."""

    id: str
    target: str
    playbook: str
    state: str
    opened: float
    since: float
    level: str = ""
    text: str = ""
    held_since: float | None = None
    still_firing: list[str] = []

    @property
    def shown_state(self) -> str:
        """Return the state, with a suffix if the incident is held, or if its alert still fires."""
        held = self.held_since is not None
        return state_of(self.state, held=held, firing=bool(self.still_firing))


class PauseDoc(msgspec.Struct, frozen=True):
    """The user who paused the remediator, the reason, and the time (Unix seconds)."""

    by: str
    reason: str
    at: float


class IncidentsResponse(msgspec.Struct, frozen=True):
    """The response of the HTTP API to /api/v1/incidents.

    `left_out` counts the earlier incidents that match the request and are not in the response. `before`
    is the id to continue with. `total` counts all incidents; an older remediator does not report it.
    """

    incidents: list[IncidentDoc]
    total: int | None = None
    left_out: int = 0
    before: str | None = None
    pause: PauseDoc | None = None
    refusal: str | None = None


class EventDoc(msgspec.Struct, frozen=True):
    """One event in the journal of an incident."""

    at: float
    event: str
    text: str
    reason: str | None = None


class IncidentResponse(msgspec.Struct, frozen=True):
    """The response of the HTTP API to /api/v1/incidents/ID."""

    incident: IncidentDoc
    events: list[EventDoc] = []
    summary: str = ""
    truncated: bool = False


class StepDoc(msgspec.Struct, frozen=True):
    """The operation id of the step of an event; "" if the event has no step."""

    op_id: str = ""


class DecisionDoc(msgspec.Struct, frozen=True):
    """One decision of the remediator with its reason."""

    at: float
    reason: str
    text: str
    incident: str | None = None
    event: str = ""
    data: StepDoc = StepDoc()


class WhyResponse(msgspec.Struct, frozen=True):
    """The response of the HTTP API to /api/v1/why."""

    target: str
    decisions: list[DecisionDoc]
    truncated: bool = False
    incidents: list[str] = []
    text: str = ""
    pause: PauseDoc | None = None
    refusal: str | None = None
    still_firing: list[str] = []
