"""Add a sentence to a usage error: the command that was probably meant, or the place of an option.

Works with every supported version of click; only newer versions suggest a command themselves.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import click

from fleetmedic.kernel.errors import UserError

MOST = 3
_UNKNOWN = re.compile(r"No such command '(?P<name>[^']*)'")
# words for which no command has a similar name
_SAME = {"start": "up", "stop": "up down"}


def without_guess(error: click.UsageError) -> None:
    """Remove the command that newer versions of click suggest, because click accepts less similar names."""
    if _UNKNOWN.match(error.message) and getattr(error, "possibilities", None):
        error.possibilities = None  # type: ignore[attr-defined]


def advice(error: click.UsageError, words: Sequence[str]) -> str:
    """Return the hint for a usage error of the command line `words`; empty if no hint applies."""
    if error.ctx is None or getattr(error, "possibilities", None):
        return ""
    if isinstance(error, click.NoSuchOption):
        return _place(error.option_name, error.ctx, words)
    unknown = _UNKNOWN.match(error.message)
    return _meant(unknown["name"], error.ctx) if unknown else ""


def _meant(name: str, context: click.Context) -> str:
    """Return the question with the commands whose name is similar, as in `up status` for `status`."""
    known = {path: path.rpartition(" ")[2] for path in _paths(context.command, context)}
    close = get_close_matches(name, set(known.values()), cutoff=0.75)
    found = [path for path, last in known.items() if last in close or last.startswith(name)]
    if context.parent is None and name in _SAME:
        found = [_SAME[name]]
    shown = [f"`{context.command_path} {path}`" for path in found[:MOST]]
    listed = " or ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
    return f"Did you mean {listed}?" if shown else ""


def _paths(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the names of the commands below a group: each child, followed by the commands below it."""
    for name, child in _children(command, context):
        yield name
        yield from (f"{name} {path}" for path in _paths(child, context))


def _children(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        try:
            child = command.get_command(context, name)
        except UserError:  # a library of this command is not installed
            continue
        if child is not None:
            yield name, child


def _place(option: str, context: click.Context, words: Sequence[str]) -> str:
    """Return the sentence that says where the option belongs: to a group above, or after a command."""
    above = context.parent
    while above is not None:
        if option in _options(above.command):
            return f"{option} is an option of `{above.command_path}`."
        above = above.parent
    below = dict(_children(context.command, context))
    owners = [name for name, child in below.items() if option in _options(child)]
    at = next(n for n, word in enumerate([*words, option]) if word.partition("=")[0] == option)
    named = next((n for n, word in enumerate(words) if n > at and word in owners), None)
    if named is not None:
        moved = [*words[:at], words[named], *words[at:named], *words[named + 1 :]]
        return f"Write the option after the command: `fleetmedic {shlex.join(moved)}`."
    example = f"`{context.command_path} {owners[0]} {option}`" if owners else ""
    return f"Write the option after a command, such as {example}." if example else ""


def _options(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
