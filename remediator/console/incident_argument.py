"""Find the incident that a user names by its id or its target."""

from __future__ import annotations

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind, valid_name
from fleetmedic.terminal.stack_option import suggested
from remediator.console.remote import RemediatorClient
from remediator.console.responses import ENDED, IncidentDoc, IncidentsResponse


def latest_incident(remediator: RemediatorClient, text: str) -> str:
    """Return the incident id `text`, or the id of the latest incident on the target `text`. Raises UserError."""
    return _named(remediator, text, "no incident exists on", ended=True)


def open_incident(remediator: RemediatorClient, text: str) -> str:
    """Return the incident id `text`, or the id of the open incident on the target `text`. Raises UserError."""
    return _named(remediator, text, "no incident is open on", ended=False)


def not_found(identity: str) -> UserError:
    """Return the error for an id that the remediator does not know."""
    return UserError(
        f"incident {identity[:80]!r} not found; {suggested('incidents --all')} lists all incidents."
    )


def list_incidents(remediator: RemediatorClient) -> IncidentsResponse:
    """Return all open and the latest ended incidents, oldest first. Raises UserError."""
    try:
        return remediator.get("/api/v1/incidents", IncidentsResponse)
    except LookupError:
        raise remediator.unknown_path() from None


def _named(remediator: RemediatorClient, text: str, nothing: str, *, ended: bool) -> str:
    if text.startswith("inc-"):
        if not valid_name(text):
            raise not_found(text)
        return text
    try:
        wanted = Target.parse(text)
    except UserError:
        raise UserError(
            "INCIDENT: expected an incident id, or a target NODE, NODE/INDEX (a GPU), job/ID or "
            f"workload/NAME, got {text[:80]!r}."
        ) from None
    on: dict[Target, IncidentDoc] = {
        Target.parse(one.target): one
        for one in list_incidents(remediator).incidents
        if ended or one.state not in ENDED
    }
    if wanted in on:
        return on[wanted].id
    node = on.get(Target(TargetKind.NODE, wanted.name))
    if wanted.kind is TargetKind.GPU and node is not None:
        raise UserError(f"{nothing} {wanted}; specify {node.id}, the incident on {node.target}.")
    command = "incidents --all" if ended else "incidents"
    raise UserError(f"{nothing} {wanted}; {suggested(command)} lists all of them.")
