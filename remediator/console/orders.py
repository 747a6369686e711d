"""Define the commands pause, resume, release, close, retry, approve and reject.

The journal records each order with its user and reason.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping

import click

from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.kernel.labels import Target
from fleetmedic.terminal.numbers import IntegerRange
from fleetmedic.terminal.output import clean, legible
from remediator.console import complete
from remediator.console.cli import remote
from remediator.console.incident_argument import not_found, open_incident
from remediator.console.remote import RemediatorClient

MAX_WHY = 500
_why = click.option(
    "--reason", required=True, metavar="WHY", help="Reason to record in the journal."
)


@click.command()
@click.option(
    "--reason",
    default="no reason given",
    show_default=True,
    metavar="WHY",
    help="Reason to record in the journal.",
)
@remote
def pause(remediator: RemediatorClient, reason: str) -> None:
    """Pause the remediator: it starts no new steps until `fleetmedic resume`.

    The paused remediator still receives alerts, opens incidents and sends notifications. A step that
    is already running continues. `fleetmedic release` still works.

    \b
    Example:
      fleetmedic pause --reason "switch maintenance in rack 4"
    """
    body = {"by": _user(), "reason": shortened(clean(reason), MAX_WHY)}
    click.echo(clean(remediator.post("/api/v1/pause", body)))


@click.command()
@remote
def resume(remediator: RemediatorClient) -> None:
    """Resume the remediator after `fleetmedic pause`. Waiting incidents continue immediately.

    \b
    Example:
      fleetmedic resume
    """
    click.echo(clean(remediator.post("/api/v1/resume", {"by": _user()})))


@click.command()
@click.argument("target", shell_complete=complete.releasable)
@_why
@remote
def release(remediator: RemediatorClient, target: str, reason: str) -> None:
    """Return TARGET to service: release its quarantine, and close its incident.

    TARGET is NODE, or NODE/INDEX for a GPU. The remediator releases only its own quarantines. For the
    next 4 h, the remediator does not quarantine the target again, even if an alert fires. If
    `timing.factor` is set in remediator.yml, this time is 4 h divided by the factor.

    \b
    Examples:
      fleetmedic release node2/3 --reason "cable replaced and tested manually"
      fleetmedic release node2 --reason "vendor returned it"
    """
    wanted = Target.parse(target)
    why = _reason(reason)
    body = {"target": str(wanted), "by": _user(), "reason": why}
    try:
        click.echo(clean(remediator.order("/api/v1/targets/release", body)))
    except LookupError:
        raise remediator.unknown_path() from None


@click.command()
@click.argument("incident", shell_complete=complete.open_incidents)
@_why
@click.option(
    "--keep-quarantine",
    is_flag=True,
    help="Keep the incident's targets quarantined until an operator releases them.",
)
@remote
def close(remediator: RemediatorClient, incident: str, reason: str, keep_quarantine: bool) -> None:
    """Close INCIDENT without further steps.

    INCIDENT is an incident id, or the target of an open incident, such as node2/3. If a target of the
    incident is still quarantined, add --keep-quarantine. To end the quarantine too, use
    `fleetmedic release` instead.

    \b
    Examples:
      fleetmedic close inc-0123456789 --reason "the playbook was removed"
      fleetmedic close node2/3 --keep-quarantine --reason "RMA 4711, waiting for a new board"
    """
    why = _reason(reason)
    identity = open_incident(remediator, incident)
    body: dict[str, str | bool] = {"by": _user(), "reason": why, "keep_quarantine": keep_quarantine}
    click.echo(_about(remediator, identity, "close", body))


@click.command()
@click.argument("incident", shell_complete=complete.escalated)
@_why
@remote
def retry(remediator: RemediatorClient, incident: str, reason: str) -> None:
    """Restart the playbook of INCIDENT, which must be in state ESCALATED.

    INCIDENT is an incident id, or the target of an open incident, such as node2/3. All safety checks
    (guards) still apply.

    \b
    Examples:
      fleetmedic retry inc-0123456789 --reason "the board was reseated"
      fleetmedic retry node2/3 --reason "the driver was updated"
    """
    why = _reason(reason)
    identity = open_incident(remediator, incident)
    click.echo(_about(remediator, identity, "retry", {"by": _user(), "reason": why}))


_request = click.option(
    "--request",
    type=IntegerRange(min=1),
    metavar="N",
    help="Number of the request, as in its notification. [default: the current request]",
)
_by = click.option("--by", metavar="NAME", help="Author of the order. [default: the current user]")


@click.command()
@click.argument("incident", shell_complete=complete.awaiting)
@_why
@_by
@_request
@remote
def approve(
    remediator: RemediatorClient, incident: str, reason: str, by: str | None, request: int | None
) -> None:
    """Approve the return to service of the target of INCIDENT, which must be in state AWAIT_APPROVAL.

    INCIDENT is an incident id, or the target of an open incident, such as node2/3. The remediator asks
    for an approval if the cluster has no test under load. Before the release, it checks the alerts once
    more. A request expires after 30 min, divided by `timing.factor` in remediator.yml.

    
    Examples:
      fleetmedic approve inc-0123456789 --reason "ran a burn-in by hand"
      fleetmedic approve node2/3 --request 1 --reason "the board was replaced" --by alice
    """
    click.echo(_answer_request(remediator, "approve", incident, reason, by, request))


@click.command()
@click.argument("incident", shell_complete=complete.awaiting)
@_why
@_by
@_request
@remote
def reject(
    remediator: RemediatorClient, incident: str, reason: str, by: str | None, request: int | None
) -> None:
    """Reject the return to service of the target of INCIDENT, which must be in state AWAIT_APPROVAL.

    INCIDENT is an incident id, or the target of an open incident, such as node2/3. The target stays
    quarantined, and the incident is escalated.

    
    Example:
      fleetmedic reject node2/3 --reason "the fans still fail"
    """
    click.echo(_answer_request(remediator, "reject", incident, reason, by, request))


def _answer_request(
    remediator: RemediatorClient,
    order: str,
    incident: str,
    reason: str,
    by: str | None,
    request: int | None,
) -> str:
    """Send the answer to a request for an approval. Returns the text of the response."""
    body: dict[str, str | bool | int] = {"by": _author(by), "reason": _reason(reason)}
    if request is not None:
        body["request"] = request
    return _about(remediator, open_incident(remediator, incident), order, body)


def _about(
    remediator: RemediatorClient, identity: str, order: str, body: Mapping[str, str | bool | int]
) -> str:
    """Send an operator's order about an incident to the remediator. Returns the text of the response."""
    try:
        return clean(remediator.order(f"/api/v1/incidents/{identity}/{order}", body))
    except LookupError:
        raise not_found(identity) from None


def _reason(text: str) -> str:
    cleaned = shortened(legible(text), MAX_WHY)
    if not cleaned:
        raise UserError("--reason: expected a reason for the journal, got an empty string.")
    return cleaned


def _author(text: str | None) -> str:
    """Return the author of an order: the name that the user gave, or the current user."""
    if text is None:
        return _user()
    cleaned = clean(text).strip()[:80]
    if not cleaned:
        raise UserError("--by: expected a name for the journal, got an empty string.")
    return cleaned


def _user() -> str:
    """Return the name of the current user, or "somebody" if it is unknown, as in some containers."""
    try:
        return clean(getpass.getuser())[:80]
    except (KeyError, OSError):
        return "somebody"
