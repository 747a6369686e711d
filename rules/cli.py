"""`fleetmedic rules`: a table of commands, each loaded when it is used."""

from __future__ import annotations

import importlib

import click

# name -> (module:attribute, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "lint": ("rules.commands:lint", "Check rule files against the metrics and the runbooks."),
    "render": (
        "rules.commands:render",
        "Write the rules for one place: files, or objects for the Prometheus operator.",
    ),
    "slo": ("rules.commands:slo", "Write the rules that watch service level objectives."),
    "mutate": ("rules.commands:mutate", "Make each alert slightly wrong and see a test notice."),
    "fit": ("rules.serve:fit", "Learn rules from history once."),
    "serve": ("rules.serve:serve", "Learn rules from history, keep them live, export scores."),
    "reference": ("rules.commands:reference", "Print the table of all alerts."),
}


class LazyGroup(click.Group):
    """Loads a command's module when it is called: detectors bring libraries that lint does not need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup)
def rules() -> None:
    """Alert rules: the shipped ones, and those that detectors learn from history.

    \b
    Examples:
      fleetmedic rules lint rules/static
      fleetmedic rules render --factor 1 --runbook-base https://wiki.example.org/runbooks --out /etc/prometheus/rules
    """
