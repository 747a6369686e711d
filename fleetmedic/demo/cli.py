"""Define the command `fleetmedic demo`."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import click

from fleetmedic.demo.director import Director
from fleetmedic.demo.scenario import Scenario, plan
from fleetmedic.demo.scenario_file import load_scenario
from fleetmedic.demo.timeline import Timeline, lines
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import DEFAULT_PORT_BASE, home
from fleetmedic.stack.lifecycle import Stack, StackOptions
from fleetmedic.terminal.numbers import IntegerRange, NumberRange
from fleetmedic.terminal.stack_option import port_base_option

FACTOR = 30.0


@click.command()
@click.option(
    "--seed",
    type=IntegerRange(0, 2**31 - 1),
    help="Seed for the random choice of each fault's GPU, strength and time. [default: random]",
)
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file that configures the faults. docs/demo.md lists the keys.",
)
@click.option(
    "--timeline",
    "timeline_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file for the timeline, in JSON.",
)
@click.option("--keep", is_flag=True, help="Keep the stack running after the demo, until Ctrl-C.")
@click.option(
    "--timeout",
    type=NumberRange(10, 1800),
    default=200.0,
    show_default=True,
    help="Time limit in seconds for all expected steps together.",
)
@port_base_option
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="State directory of the demo. The demo deletes the contents of this directory first. Default: "
    "$FLEETMEDIC_HOME/demo, or $FLEETMEDIC_HOME/demo-PORT if --port-base is not "
    f"{DEFAULT_PORT_BASE}.",
)
@click.option(
    "--stop",
    "stopped",
    metavar="NAME",
    help="Process to stop before the faults are injected, such as remediator. The demo then fails.",
)
def demo(
    seed: int | None,
    timeline_file: Path | None,
    scenario_file: Path | None,
    keep: bool,
    timeout: float,
    port_base: int | None,
    state_dir: Path | None,
    stopped: str | None,
) -> None:
    """Demonstrate how fleetmedic detects, quarantines and repairs failed GPUs.

    Only the GPUs are simulated. Prometheus, Alertmanager, the exporters, the rules and the remediator
    are real. The exit code is 0 if the demo observed every expected step, otherwise 1.

    \b
    Examples:
      fleetmedic demo
      fleetmedic demo --seed 7 --timeline timeline.json
      fleetmedic demo --keep                  keep the stack running for inspection
      fleetmedic demo --stop remediator       run a demo that fails, because the remediator is stopped
    """
    if scenario_file is not None and seed is not None:
        raise UserError(
            "--seed and --scenario are mutually exclusive. Set `seed` in the scenario file instead."
        )
    if timeline_file is not None:
        _require_place(timeline_file)
    chosen = _scenario(seed, scenario_file)
    base = port_base or DEFAULT_PORT_BASE
    name = "demo" if base == DEFAULT_PORT_BASE else f"demo-{base}"
    stack = Stack(
        StackOptions(
            state_dir=(state_dir or home() / name).absolute(),
            port_base=base,
            factor=FACTOR,
            level="repair",
            simulate=True,
            reset=True,
        )
    )
    click.echo(
        f"Demo with seed {chosen.seed}. The GPUs are SIMULATED, all other parts are real. "
        f"Rule durations are divided by {FACTOR:g}."
    )
    try:
        result = _play(stack, chosen, timeout, stopped)
        _report(result, timeline_file)
        if keep:
            _stay(stack)
    finally:
        stack.stop()
    sys.exit(0 if all(check.kept for check in result.checks) else 1)


def _require_place(file: Path) -> None:
    """Raise UserError immediately, instead of minutes later, if the timeline cannot be written."""
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise UserError(
            f"--timeline {file}: the directory does not exist or is not writable. Choose another file."
        )


def _scenario(seed: int | None, file: Path | None) -> Scenario:
    if file is not None:
        return load_scenario(file)
    return plan(random.randrange(10_000) if seed is None else seed)  # noqa: S311 - not a secret


def _play(stack: Stack, scenario: Scenario, timeout: float, stopped: str | None) -> Timeline:
    started = time.time()
    stack.prepare(click.echo)
    stack.start()
    stack.wait_ready(60.0, click.echo)
    ready = time.time()
    click.echo(
        f"Stack ready after {ready - started:.1f} s. State directory: {stack.options.state_dir}"
    )
    if stopped:
        stack.stop_one(stopped)
        click.echo(f"Stopped {stopped} because of --stop: the demo is expected to fail.")
    director = Director(stack.options.state_dir, stack.urls(), scenario, click.echo)
    return director.run(started, ready, timeout)


def _report(result: Timeline, timeline_file: Path | None) -> None:
    for line in lines(result):
        click.echo(line)
    click.echo()
    for check in result.checks:
        click.echo(f"{'ok  ' if check.kept else 'FAIL'} {check.name}: {check.text}")
    if timeline_file:
        result.save(timeline_file)
        click.echo(f"Timeline written to {timeline_file}")
    totals = result.totals
    parts = [f"{len([c for c in result.checks if c.kept])} of {len(result.checks)} checks passed"]
    if "lost_job_elsewhere_seconds" in totals:
        parts.append(f"fault to job resumed {totals['lost_job_elsewhere_seconds']:.1f} s")
    if "lost_readmitted_seconds" in totals:
        parts.append(f"fault to GPU back in service {totals['lost_readmitted_seconds']:.1f} s")
    if "first_incident_closed_seconds" in totals:
        parts.append(
            f"first incident closed {totals['first_incident_closed_seconds']:.0f} s after the start"
        )
    click.echo("\n" + "; ".join(parts) + f"; total {totals['total_seconds']:.0f} s.")


def _stay(stack: Stack) -> None:
    for name, url in stack.urls().items():
        click.echo(f"  {name:<16} {url}")
    click.echo("The stack keeps running. Ctrl-C stops it.")
    stack.watch()
