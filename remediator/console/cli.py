"""Define the commands `fleetmedic incidents` and `fleetmedic why`, which query a running remediator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
EVENTS_PER_ROW = 10  # a row of `why` combines the events of one step
MOST = 10_000  # limit of the HTTP API for the length of a list
_JSON_HELP = "JSON output: the response of the HTTP API."


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


def _limit(default: int, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind = IntegerRange(1, MOST)
    return click.option("--limit", default=default, show_default=True, type=kind, help=text)


class _IncidentsGroup(click.Group):
    """A click group that accepts `incidents ID` and `incidents NODE/INDEX` as `incidents show`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].startswith("inc-") or "/" in args[0]:  # an incident or a target such as node2/3
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


def _list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select incidents to a command."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help=_JSON_HELP),
        click.option(
            "--before", metavar="ID", help="Only incidents that were opened before this incident."
        ),
        _limit(1000, "Maximum number of incidents to list, in addition to open incidents."),
        click.option(
            "--all", "ended", is_flag=True, help="Include incidents that ended more than 24 h ago."
        ),
    ):
        command = option(command)
    return command


@click.group(cls=_IncidentsGroup, invoke_without_command=True)
@_list_options
@remote
def incidents(
    remediator: RemediatorClient, ended: bool, limit: int, before: str | None, as_json: bool
) -> None:
    """List incidents, newest first.

    The list includes all open incidents, and the incidents that ended in the last 24 h. `fleetmedic
    incidents ID` is the same as `fleetmedic incidents show ID`, also with a target such as node2/3.

    \b
    Examples:
      fleetmedic incidents
      fleetmedic incidents --all --json
      fleetmedic incidents show inc-0123456789
    """
    _list(remediator, _Selection(ended, limit, before), as_json)


@incidents.command("list")
@_list_options
@remote
def list_(
    remediator: RemediatorClient, ended: bool, limit: int, before: str | None, as_json: bool
) -> None:
    """List incidents, newest first. Same as `fleetmedic incidents`.

    \b
    Example:
      fleetmedic incidents list --all
    """
    _list(remediator, _Selection(ended, limit, before), as_json)


@incidents.command()
@click.argument("incident", shell_complete=complete.incidents)
@_limit(1000, "Maximum number of events to print.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@remote
def show(remediator: RemediatorClient, incident: str, limit: int, as_json: bool) -> None:
    """Show an incident and its events in the journal.

    INCIDENT is an incident id, or a target, such as node2/3. A target selects its latest incident.

    \b
    Examples:
      fleetmedic incidents show inc-0123456789
      fleetmedic incidents show node2/3
    """
    identity = latest_incident(remediator, incident)
    path, query = f"/api/v1/incidents/{identity}", {"limit": str(limit)}
    try:
        if as_json:
            click.echo(remediator.get_raw(path, query).decode(errors="replace").rstrip())
            return
        story = remediator.get(path, IncidentResponse, query)
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
    if story.truncated:
        click.echo(_cut("events", len(story.events), limit, f"incidents show {identity}"))
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
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
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
    if limit * EVENTS_PER_ROW > 200:  # the default of the HTTP API
        query["limit"] = str(limit * EVENTS_PER_ROW)
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
    shown = decision_rows(answer.decisions, limit)
    if answer.truncated:
        click.echo(_older_decisions(wanted, limit))
    rows(HEADINGS, shown, STYLES)
    if answer.still_firing:
        names = clean(", ".join(answer.still_firing))
        click.echo(f"Still firing, and not handled by an open incident: {names}.")


def _no_decisions(remediator: RemediatorClient, target: Target, said: str) -> str:
    """Return the message for a target without decisions: the server's message, or a hint about
    incidents of its GPUs."""
    if target.kind is TargetKind.NODE:
        found = list_incidents(remediator, {"node": target.name}).incidents
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


@dataclass(frozen=True, slots=True)
class _Selection:
    """The incidents that a user wants to list. `ended` includes those that ended more than 24 h ago."""

    ended: bool
    limit: int
    before: str | None

    def page(self) -> dict[str, str]:
        """Return the query for incidents of any age."""
        page = {"limit": str(self.limit)}
        return page if self.before is None else {**page, "before": self.before}

    def query(self, day_ago: float) -> dict[str, str]:
        """Return the query that leaves out incidents that ended before `day_ago` (Unix seconds)."""
        return self.page() if self.ended else {**self.page(), "since": f"{day_ago:.3f}"}


def _cut(what: str, count: int, limit: int, command: str) -> str:
    """Return the notice above a list that lacks its earliest entries."""
    more = (
        f"{suggested(f'{command} --limit {min(limit * 10, MOST)}')} shows more"
        if limit < MOST
        else "`fleetmedic remediator journal` prints all of them"
    )
    return f"Only the latest {count} {what} are shown; {more}."


def _older_decisions(target: Target, limit: int) -> str:
    """Return the notice that the response of the HTTP API lacks the earliest decisions."""
    if limit < 1000:
        more = f"why {str(target).removeprefix('gpu/')} --limit {min(limit * 10, 1000)}"
        return f"Earlier decisions are not shown; {suggested(more)} shows more."
    return "Earlier decisions are not shown; `fleetmedic remediator journal` prints all of them."


def _list(remediator: RemediatorClient, selection: _Selection, as_json: bool) -> None:
    day_ago = time.time() - DAY
    try:
        if as_json:
            raw = remediator.get_raw("/api/v1/incidents", selection.page())
            click.echo(raw.decode(errors="replace").rstrip())
            return
        answer = list_incidents(remediator, selection.query(day_ago))
    except LookupError:
        raise remediator.unknown_path() from None
    _print_stops(answer)
    found = answer.incidents
    shown = [
        one for one in found if selection.ended or one.state not in ENDED or one.since > day_ago
    ]
    if not shown:
        click.echo(_no_incidents(answer, selection))
        return
    if answer.left_out:
        click.echo(_left_out(answer, selection))
    rows(
        ("id", "target", "state", "playbook", "opened", "why"),
        [
            (one.id, one.target, one.shown_state, one.playbook, moment(one.opened), one.text)
            for one in sorted(shown, key=lambda one: one.opened, reverse=True)
        ],
        STYLES,
    )


def _no_incidents(answer: IncidentsResponse, selection: _Selection) -> str:
    total = len(answer.incidents) if answer.total is None else answer.total
    if selection.before is not None:
        return f"No incident was opened before {selection.before[:80]}."
    return f"No incident is open{f'; {total} ended earlier (--all lists them)' if total else ''}."


def _left_out(answer: IncidentsResponse, selection: _Selection) -> str:
    """Return the notice above a list without its earliest incidents."""
    number = answer.left_out
    noun, verb = ("incident", "is") if number == 1 else ("incidents", "are")
    command = f"incidents{' --all' if selection.ended else ''} --before {answer.before}"
    return (
        f"{number} earlier {noun} {verb} not shown; {suggested(command)} lists earlier incidents."
    )
