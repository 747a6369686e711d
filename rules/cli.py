"""The command `fleetmedic rules`. Each subcommand is imported only when it is called."""

from __future__ import annotations

import importlib

import click

# name -> (module:attribute, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "lint": (
        "rules.commands:lint",
        "Check rule files against the metric catalogue and the runbooks.",
    ),
    "render": (
        "rules.commands:render",
        "Write the shipped rules as rule files or PrometheusRule objects.",
    ),
    "slo": ("rules.commands:slo", "Write rules for service level objectives (SLOs)."),
    "mutate": (
        "rules.commands:mutate",
        "Change (mutate) the alert rules, and check that a test fails for each change.",
    ),
    "fit": (
        "rules.serve:fit",
        "Run the detectors once: generate rules from the history in Prometheus.",
    ),
    "serve": (
        "rules.serve:serve",
        "Run the detectors continuously: generate rules, and export anomaly scores.",
    ),
    "reference": ("rules.commands:reference", "Print the table of all alerts."),
}


class LazyRulesGroup(click.Group):
    """A click group that imports a subcommand only when it is called, because detectors need large
    libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - from COMMANDS
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyRulesGroup)
def rules() -> None:
    """Check alert rules, render the shipped rules, and generate rules from the history in Prometheus.

    \b
    Examples:
      fleetmedic rules lint rules/static
      fleetmedic rules render --factor 1 --runbook-base https://wiki.example.org/runbooks --out /etc/prometheus/rules
    """
