"""Find the incident that a user names by its id or its target."""

from __future__ import annotations

from collections.abc import Mapping

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


def list_incidents(
    remediator: RemediatorClient, query: Mapping[str, str] | None = None
) -> IncidentsResponse:
    """Return all open and the latest ended incidents that match `query`, oldest first. Raises UserError."""
    try:
        return remediator.get("/api/v1/incidents", IncidentsResponse, query)
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
    found = _latest_on(remediator, wanted, ended=ended)
    if found is not None:
        return found.id
    if wanted.kind is TargetKind.GPU:
        node = _latest_on(remediator, Target(TargetKind.NODE, wanted.name), ended=ended)
        if node is not None:
            raise UserError(
                f"{nothing} {wanted}; specify {node.id}, the incident on {node.target}."
            )
    command = "incidents --all" if ended else "incidents"
    raise UserError(f"{nothing} {wanted}; {suggested(command)} lists incidents.")


def _latest_on(remediator: RemediatorClient, target: Target, *, ended: bool) -> IncidentDoc | None:
    """Return the latest incident on a target, or its latest open one; None if there is none."""
    # A remediator of an older version ignores the query, and returns incidents of other targets, too.
    found = [
        one
        for one in list_incidents(remediator, {"target": str(target)}).incidents
        if one.target == str(target) and (ended or one.state not in ENDED)
    ]
    return found[-1] if found else None
