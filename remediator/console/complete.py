"""Shell completion of targets and incidents, read from the remediator.

Completion never fails, and waits at most SECONDS for the remediator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import click
from click.shell_completion import CompletionItem

from fleetmedic.kernel.errors import UserError
from fleetmedic.terminal.stack_option import selected_stack
from remediator.console.remote import RemediatorClient
from remediator.console.responses import ENDED, IncidentDoc, IncidentsResponse

MOST = 200
SECONDS = 1.0


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the targets of incidents in short form: node2/3 for gpu/node2/3."""
    known = {_written(one.target): f"{one.state} {one.playbook}" for one in _incidents(ctx)}
    return _matching(known.items(), incomplete)


def releasable(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the GPUs and nodes with incidents, those with an open incident first."""
    found = [one for one in _incidents(ctx) if one.target.startswith(("gpu/", "node/"))]
    known: dict[str, str] = {}
    for one in sorted(found, key=lambda one: one.state in ENDED):
        known.setdefault(_written(one.target), f"{one.state} {one.playbook}")
    return _matching(known.items(), incomplete)


def incidents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of all incidents, newest first, and their targets."""
    return _matching(_named(_incidents(ctx)), incomplete)


def open_incidents(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the ids of open incidents, and their targets."""
    return _matching(_named(one for one in _incidents(ctx) if one.state not in ENDED), incomplete)


def escalated(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of the incidents that can be retried, and their targets."""
    return _matching(_named(one for one in _incidents(ctx) if one.state == "ESCALATED"), incomplete)


def awaiting(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of the incidents that wait for an approval, and their targets."""
    waiting = [one for one in _incidents(ctx) if one.state == "AWAIT_APPROVAL"]
    return _matching(_named(waiting), incomplete)


def _named(incidents: Iterable[IncidentDoc]) -> list[tuple[str, str]]:
    """Return the ids, newest first, and then the targets, each with a description."""
    found = list(incidents)
    ids = [(one.id, f"{_written(one.target)} {one.state}") for one in reversed(found)]
    return ids + list({_written(one.target): one.state for one in found}.items())


def _incidents(ctx: click.Context) -> Iterable[IncidentDoc]:
    # The options of a group apply to its commands.
    above = ctx.parent.params if ctx.parent else {}
    given = above | {name: value for name, value in ctx.params.items() if value is not None}
    try:
        found = RemediatorClient.find(
            given.get("url"), given.get("token_file"), selected_stack(ctx).state
        )
        return replace(found, timeout=SECONDS).get("/api/v1/incidents", IncidentsResponse).incidents
    except (UserError, LookupError, OSError):
        return ()


def _written(target: str) -> str:
    kind, _, rest = target.partition("/")
    return rest if kind in ("gpu", "node") else target


def _matching(known: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(text, help=more) for text, more in known if text.startswith(incomplete)]
    return found[:MOST]
