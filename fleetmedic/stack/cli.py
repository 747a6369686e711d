"""Define the commands of `fleetmedic up`: start the whole stack, show its status and logs, stop it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.shell_completion import CompletionItem

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.stack import status as view
from fleetmedic.stack.binaries import OVERRIDES
from fleetmedic.stack.detach import run_detached
from fleetmedic.stack.directory_lock import holder
from fleetmedic.stack.identity import alive
from fleetmedic.stack.lifecycle import Stack, StackOptions, end_leftovers
from fleetmedic.stack.logs import follow, last_lines
from fleetmedic.stack.plan import LEVELS, decide
from fleetmedic.stack.reaper import send, wait_for_end
from fleetmedic.stack.services import log_names, log_of
from fleetmedic.terminal.disk_errors import access_cure, user_name
from fleetmedic.terminal.numbers import IntegerRange, NumberRange
from fleetmedic.terminal.output import lines_option
from fleetmedic.terminal.stack_option import (
    StackLocation,
    selected_stack,
    stack_option,
    suggested,
)
from fleetmedic.wording.counts import counted

READY_SECONDS = 90.0
DOWN_SECONDS = 15.0


@click.group(invoke_without_command=True)
@stack_option
@click.option(
    "--detach", is_flag=True, help="Run in the background; return when the stack is ready."
)
@click.option(
    "--reset",
    is_flag=True,
    help="Delete the state of earlier runs first: the stack's directories with everything in them, and its logs. "
    "Other files in the state directory are kept.",
)
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    help="Automation level of the remediator. [default: repair for simulated GPUs, observe for real GPUs]",
)
@click.option(
    "--simulate/--no-simulate",
    default=None,
    help="Simulated or real GPUs. [default: simulated if this machine has no NVIDIA driver]",
)
@click.option(
    "--nodes",
    type=IntegerRange(1, 64),
    default=4,
    show_default=True,
    help="Number of simulated nodes.",
)
@click.option(
    "--gpus",
    type=IntegerRange(1, 16),
    default=8,
    show_default=True,
    help="GPUs per simulated node.",
)
@click.option(
    "--time-factor",
    type=NumberRange(1, 1000),
    default=1.0,
    show_default=True,
    help="Speed-up factor for tests: all durations in rules, detectors and the remediator are divided by it. Use 1 in production.",
)
@click.option(
    "--scrape-interval",
    type=NumberRange(1, 300),
    default=5.0,
    show_default=True,
    help="Prometheus' scrape interval in seconds.",
)
@click.option(
    "--history/--no-history",
    default=True,
    help="Preload 24 h of healthy metrics for the detectors; simulated GPUs only. [default: history]",
)
@click.option(
    "--notifications",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Path of notifications.yml: teams, channels and maintenance windows.",
)
@click.option(
    "--prometheus-bin",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Prometheus binary. fleetmedic looks for promtool in the same directory first.",
)
@click.option(
    "--alertmanager-bin",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Alertmanager binary. fleetmedic looks for amtool in the same directory first.",
)
@click.pass_context
def up(ctx: click.Context, /, stack: StackLocation, **given: Any) -> None:
    """Start the stack on this machine: exporters, Prometheus, detectors, Alertmanager and remediator.

    All processes listen on 127.0.0.1 only. The state directory keeps the stack's state between runs.
    If this machine has no NVIDIA driver, the stack simulates 4 nodes of 8 GPUs. Ctrl-C stops the stack.

    \b
    Examples:
      fleetmedic up                                     run in the foreground and show the status
      fleetmedic up --detach                            run in the background
      fleetmedic up --port-base 19090 --detach          run a second stack
      fleetmedic up --state-dir /srv/fm --reset         start with an empty state
      fleetmedic up --notifications notifications.yml   use your teams, channels and maintenance windows
      fleetmedic up status
      fleetmedic up logs remediator -f
      fleetmedic up down
    """
    if ctx.invoked_subcommand is not None:
        return
    for name in ("prometheus", "alertmanager"):
        if path := given[f"{name}_bin"]:
            os.environ[OVERRIDES[name]] = str(path.absolute())
    options = StackOptions(
        state_dir=stack.state,
        port_base=stack.port_base,
        factor=given["time_factor"],
        level=given["level"],
        nodes=given["nodes"],
        gpus=given["gpus"],
        simulate=given["simulate"],
        scrape=given["scrape_interval"],
        reset=given["reset"],
        history=given["history"],
        notifications=str(given["notifications"].absolute()) if given["notifications"] else None,
    )
    decide(options)  # rejects invalid options before a process or a directory exists
    if given["detach"]:
        run_detached(options, click.echo, READY_SECONDS)
        _show(options.state_dir, options.port_base)
        click.echo(f"Stop the stack with {suggested('up down')}.")
    else:
        _stay(options)


@up.command()
@stack_option
def status(stack: StackLocation) -> None:
    """Show the status of each process of the stack.

    A process is healthy if it is ready for requests. For a process that is not ready, the output
    gives the reason. The exit code is 0 if all processes are healthy, otherwise 1.

    \b
    Examples:
      fleetmedic up status
      fleetmedic up status --port-base 19090
    """
    sys.exit(0 if _show(stack.state, stack.port_base) else 1)


@up.command()
@stack_option
def down(stack: StackLocation) -> None:
    """Stop the stack and its jobs. The command keeps the state directory.

    \b
    Examples:
      fleetmedic up down
      fleetmedic up down --port-base 19090
    """
    state = stack.state
    # a stack that is starting has no stack.json yet, or the one of an earlier run
    if (supervisor := holder(state)) is None:
        if not (state / "stack.json").exists():
            click.echo(f"No stack is running in {state}: no stack was started there.")
            return
        supervisor = StackFile.read(state, stack.port_base).supervisor
    if supervisor is None or not alive(supervisor):
        left = end_leftovers(state)
        click.echo(
            f"No stack is running in {state}."
            if not left
            else f"Ended {counted(left, 'process')} that an earlier stack left in {state}."
        )
        return
    began = time.monotonic()
    try:
        send(supervisor, signal.SIGTERM)
    except PermissionError:
        owner = user_name(Path(f"/proc/{supervisor[0]}").stat().st_uid)
        raise UserError(
            f"permission denied: {owner} started the stack in {state}. Run the command as that user."
        ) from None
    if not wait_for_end(supervisor, DOWN_SECONDS):
        send(supervisor, signal.SIGKILL)
        wait_for_end(supervisor, 5.0)
        end_leftovers(state)
    click.echo(f"Stopped after {time.monotonic() - began:.1f} s. The state is kept in {state}.")


def _log_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the processes of the selected stack that have a log."""
    try:
        found = log_names(selected_stack(ctx).state)
    except OSError:
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


@up.command()
@stack_option
@click.argument("name", required=False, shell_complete=_log_names)
@click.option(
    "-f",
    "--follow",
    "go_on",
    is_flag=True,
    help="Print new lines as they are written, until Ctrl-C.",
)
@lines_option
def logs(stack: StackLocation, name: str | None, go_on: bool, count: int) -> None:
    """Print the last lines of a process's log.

    NAME is a process, such as remediator or exporter-node1, or `up` for the supervisor of a stack in
    the background. `fleetmedic up status` lists all processes. The process `pool` has no log of
    its own: localcluster runs it and writes its output to the log of localcluster.

    \b
    Examples:
      fleetmedic up logs remediator
      fleetmedic up logs exporter-node1 -f
    """
    known = log_names(stack.state)
    if name is None or name not in known:
        StackFile.read(stack.state, stack.port_base)  # raises if no stack was ever started
        given = f", got {name[:80]!r}" if name else ""
        raise UserError(f"NAME: expected one of: {', '.join(known)}{given}.")
    log = log_of(stack.state, name)
    if not os.access(log, os.R_OK):
        raise UserError(f"cannot use {log}: permission denied. {access_cure(log)}")
    for line in last_lines(log, count):
        click.echo(line)
    if go_on:
        for text in follow(log):
            click.echo(text, nl=False)


def _stay(options: StackOptions) -> None:
    """Run the stack in the foreground until Ctrl-C or SIGTERM."""
    stack = Stack(options)
    previous = {signal.SIGINT: signal.getsignal(signal.SIGINT)} | {
        number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        stack.prepare(click.echo)
        stack.start()
        stack.wait_ready(READY_SECONDS, click.echo if view.use_plain_output() else None)
        click.echo(f"Ready. State and logs: {options.state_dir}. Ctrl-C stops the stack.")
        click.echo(view.dashboards_line(StackFile.read(options.state_dir)))
        if view.use_plain_output():
            stack.watch()
        else:
            _draw(stack, options.state_dir)
    except KeyboardInterrupt:
        click.echo("Stopping ...")
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    click.echo(f"Stopped. The state is kept in {options.state_dir}.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _draw(stack: Stack, state: Path) -> None:
    """Redraw the status table each second. Messages are printed above it."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        stack.send_messages_to(lambda text: live.console.print(text, markup=False, highlight=False))
        try:
            while True:
                now = StackFile.read(state)
                rows = view.check_processes(now)
                live.update(
                    view.table(rows, view.title(now, state), live.console.width), refresh=True
                )
                time.sleep(1.0)
        finally:
            stack.send_messages_to(click.echo)


def _show(state: Path, port_base: int) -> bool:
    if text := view.starting(state):
        click.echo(text)
        return False
    stack = StackFile.read(state, port_base)
    if text := view.stopped(stack, state):
        click.echo(text)
        return False
    rows = view.check_processes(stack)
    if view.use_plain_output():
        click.echo(view.title(stack, state))
        click.echo("\n".join(view.lines(rows)))
    else:
        from rich.console import Console

        console = Console()
        console.print(view.table(rows, view.title(stack, state), console.width))
    click.echo(view.dashboards_line(stack))
    for line in view.stops(stack):
        click.echo(line)
    return view.all_healthy(stack, rows)
