"""Define the options --state-dir and --port-base, with which every command selects a stack.

Commands that a command suggests to the user repeat these options.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from fleetmedic.kernel.home import DEFAULT_PORT_BASE, stack_options, state_dir
from fleetmedic.terminal.numbers import IntegerRange

_OPTIONS = ("state_dir", "port_base")
# The other options that a suggested command repeats. Only commands that query a remediator have them.
_REMEDIATOR_OPTIONS = ("url", "token_file")


class StackLocation(NamedTuple):
    """The state directory of a stack, and Prometheus' port, which determines all other ports."""

    state: Path
    port_base: int


class _StateDirectory(click.Path):
    """A path that is not empty. An empty path would be the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected a directory, got an empty string.", param, ctx)
        return super().convert(value, param, ctx)


def port_base_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --port-base to a command. The value is None if the user does not set the
    option."""
    return click.option(
        "--port-base",
        type=IntegerRange(1024, 65_000),
        metavar="PORT",
        help="Port of Prometheus. The other processes use higher ports: Alertmanager +3, remediator +5, "
        f"exporters from +320. [default: {DEFAULT_PORT_BASE}]",
    )(command)


def stack_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --state-dir and --port-base to a command, which gets the StackLocation as `stack`."""

    @click.option(
        "--state-dir",
        type=_StateDirectory(file_okay=False, readable=False, path_type=Path),
        help="State directory of the stack. Default: $FLEETMEDIC_STATE_DIR if it is set, otherwise "
        "$FLEETMEDIC_HOME/stack, or $FLEETMEDIC_HOME/stack-PORT if --port-base is not "
        f"{DEFAULT_PORT_BASE}.",
    )
    @port_base_option
    @wraps(command)
    def with_stack(*args: Any, **given: Any) -> Any:
        for name in _OPTIONS:
            del given[name]
        return command(*args, stack=selected_stack(click.get_current_context()), **given)

    return with_stack


def selected_stack(context: click.Context | None) -> StackLocation:
    """Return the stack that the options of a command select.

    Users write options before and after a subcommand. So an option that the command does not set is
    taken from its group.
    """
    given = _given(context, _OPTIONS)
    base = given["port_base"] or DEFAULT_PORT_BASE
    return StackLocation(state_dir(given["state_dir"], base), base)


def suggested(command: str, state: Path | None = None, port_base: int = 0) -> str:
    """Return `fleetmedic COMMAND` in backticks, with the options that select the stack in `state`.

    The default is the stack of the current command. Only `up` needs `port_base`.
    """
    context = click.get_current_context(silent=True)
    stack = selected_stack(context) if state is None else StackLocation(state, port_base)
    options = stack_options(stack.state, stack.port_base)
    if command.split()[0] != "up":  # `up` does not query a remediator
        for name, value in _given(context, _REMEDIATOR_OPTIONS).items():
            if value is not None:
                options += f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
    head, separator, tail = command.partition(" -- ")
    return f"`fleetmedic {head}{options}{separator}{tail}`"


def _given(context: click.Context | None, names: Iterable[str]) -> dict[str, Any]:
    """Return the value of each option, or None if neither the command nor its groups received it."""
    given: dict[str, Any] = dict.fromkeys(names)
    while context is not None:
        for name in given:
            if given[name] is None:
                given[name] = context.params.get(name)
        context = context.parent
    return given
