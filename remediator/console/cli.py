"""Define the commands `fleetmedic incidents` and `fleetmedic why`, which query a running remediator."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import click

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.terminal.numbers import IntegerRange
from fleetmedic.terminal.output import clean, rows
from fleetmedic.terminal.stack_option import StackLocation, stack_option, suggested
from fleetmedic.terminal.times import instant, moment
from remediator.console import complete
from remediator.console.decision_rows import HEADINGS, decision_rows
from remediator.console.incident_argument import latest_incident, list_incidents, not_found
from remediator.console.remote import RemediatorClient
from remediator.console.responses import (
    ENDED,
    IncidentResponse,
    IncidentsResponse,
    WhyResponse,
)
from remediator.console.show import STYLES, stop_lines

P = ParamSpec("P")
DAY = 86_400.0


def remote(command: Callable[Concatenate[RemediatorClient, P], None]) -> Callable[P, None]:
    """Add the options that select a remediator to a command, and pass its client to the command."""

    @stack_option
    @click.option(
        "--url",
        metavar="URL",
        help="URL of the remediator, http://HOST:PORT. [default: the remediator of the stack]",
    )
    @click.option(
        "--token-file",
        metavar="FILE",
        help="File with the remediator's bearer token. [default: the token file of the stack]",
    )
    @wraps(command)
    def found(*args: Any, stack: StackLocation, **options: Any) -> None:
        context = click.get_current_context()
        # The options of a group apply to its commands.
        above = context.parent.params if context.parent else {}
        url, token_file = (options.pop(name) or above.get(name) for name in ("url", "token_file"))
        if context.invoked_subcommand is None:
            command(RemediatorClient.find(url, token_file, stack.state), *args, **options)

    return found


class _IncidentsGroup(click.Group):
    """A click group that accepts `incidents ID` and `incidents NODE/INDEX` as `incidents show`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].startswith("inc-") or "/" in args[0]:  # an incident or a target such as node2/3
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_IncidentsGroup, invoke_without_command=True)
@click.option(
    "--all", "ended", is_flag=True, help="Include incidents that ended more than 24 h ago."
)
@click.option("--json", "as_json", is_flag=True, help="JSON output: the response of the HTTP API.")
@remote
def incidents(remediator: RemediatorClient, ended: bool, as_json: bool) -> None:
    """List incidents, newest first.

    The list includes all open incidents, and the incidents that ended in the last 24 h. `fleetmedic
    incidents ID` is the same as `fleetmedic incidents show ID`, also with a target such as node2/3.

    \b
    Examples:
      fleetmedic incidents
      fleetmedic incidents --all --json
      fleetmedic incidents show inc-0123456789
    """
    _list(remediator, ended, as_json)


@incidents.command("list")
@click.option(
    "--all", "ended", is_flag=True, help="Include incidents that ended more than 24 h ago."
)
@click.option("--json", "as_json", is_flag=True, help="JSON output: the response of the HTTP API.")
@remote
def list_(remediator: RemediatorClient, ended: bool, as_json: bool) -> None:
    """List incidents, newest first. Same as `fleetmedic incidents`.

    \b
    Example:
      fleetmedic incidents list --all
    """
    _list(remediator, ended, as_json)


@incidents.command()
@click.argument("incident", shell_complete=complete.incidents)
@click.option("--json", "as_json", is_flag=True, help="JSON output: the response of the HTTP API.")
@remote
def show(remediator: RemediatorClient, incident: str, as_json: bool) -> None:
    """Show an incident and its events in the journal.

    INCIDENT is an incident id, or a target, such as node2/3. A target selects its latest incident.

    \b
    Examples:
      fleetmedic incidents show inc-0123456789
      fleetmedic incidents show node2/3
    """
    identity = latest_incident(remediator, incident)
    path = f"/api/v1/incidents/{identity}"
    try:
        if as_json:
            click.echo(remediator.get_raw(path).decode(errors="replace").rstrip())
            return
        story = remediator.get(path, IncidentResponse)
    except LookupError:
        raise not_found(identity) from None
    about = story.incident
    since = f" since {moment(about.held_since)}" if about.held_since is not None else ""
    click.echo(
        clean(
            f"{about.id}: {about.target} is {about.shown_state}{since}, playbook {about.playbook}"
        )
    )
    click.echo(f"opened {moment(about.opened)}, level {clean(about.level or '-')}")
    click.echo(clean(story.summary or about.text))
    rows(
        ("time", "event", "reason", "what happened"),
        [(instant(one.at), one.event, one.reason or "", one.text) for one in story.events],
        STYLES,
    )


@click.command()
@click.argument("target", shell_complete=complete.targets)
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=IntegerRange(1, 1000),
    help="Maximum number of decisions to print.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON output: the response of the HTTP API.")
@remote
def why(remediator: RemediatorClient, target: str, limit: int, as_json: bool) -> None:
    """Show the remediator's latest decisions about TARGET, and the reason for each decision.

    TARGET is NODE, NODE/INDEX for a GPU, job/ID or workload/NAME. The newest decision is the last
    line. The output shows one line for each step: the result, or the planned action while the step is in
    progress. If a safety check (guard) blocks the next step, the last line gives the reason.
    docs/lifecycle.md lists the reason codes.

    \b
    Examples:
      fleetmedic why node2/3
      fleetmedic why job/train-a --limit 5
    """
    wanted = Target.parse(target)
    query = {"target": str(wanted)}
    try:
        if as_json:
            click.echo(remediator.get_raw("/api/v1/why", query).decode(errors="replace").rstrip())
            return
        answer = remediator.get("/api/v1/why", WhyResponse, query)
    except LookupError:
        raise remediator.unknown_path() from None
    _print_stops(answer)
    if not answer.decisions:
        click.echo(_no_decisions(remediator, wanted, answer.text))
        return
    rows(HEADINGS, decision_rows(answer.decisions, limit), STYLES)
    if answer.still_firing:
        names = clean(", ".join(answer.still_firing))
        click.echo(f"Still firing, and not handled by an open incident: {names}.")


def _no_decisions(remediator: RemediatorClient, target: Target, said: str) -> str:
    """Return the message for a target without decisions: the server's message, or a hint about
    incidents of its GPUs."""
    if target.kind is TargetKind.NODE:
        found = list_incidents(remediator).incidents
        gpus = sorted({one.target for one in found if one.target.startswith(f"gpu/{target.name}/")})
        if gpus:
            ask = ", ".join(suggested(f"why {one.removeprefix('gpu/')}") for one in gpus[:8])
            return clean(f"{target}: no decision about the node itself; see {ask}.")
        for kind in (TargetKind.JOB, TargetKind.WORKLOAD):
            other = Target(kind, target.name)
            if remediator.get("/api/v1/why", WhyResponse, {"target": str(other)}).decisions:
                ask = suggested(f"why {other}")
                return clean(f"{target}: no decision about a node of this name; see {ask}.")
    return clean(said) or f"No decision about {target}: no alert named it."


def _print_stops(answer: IncidentsResponse | WhyResponse) -> None:
    """Print a line above the output for each cause for which the remediator takes no action."""
    for line in stop_lines(answer):
        click.echo(line)


def _list(remediator: RemediatorClient, ended: bool, as_json: bool) -> None:
    try:
        if as_json:
            click.echo(remediator.get_raw("/api/v1/incidents").decode(errors="replace").rstrip())
            return
        answer = list_incidents(remediator)
    except LookupError:
        raise remediator.unknown_path() from None
    _print_stops(answer)
    found = answer.incidents
    day_ago = time.time() - DAY
    shown = [one for one in found if ended or one.state not in ENDED or one.since > day_ago]
    if not shown:
        older = f"; {len(found)} ended earlier (--all lists them)" if found else ""
        click.echo(f"No incident is open{older}.")
        return
    rows(
        ("id", "target", "state", "playbook", "opened", "why"),
        [
            (one.id, one.target, one.shown_state, one.playbook, moment(one.opened), one.text)
            for one in sorted(shown, key=lambda one: one.opened, reverse=True)
        ],
        STYLES,
    )
