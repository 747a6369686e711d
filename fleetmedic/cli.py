"""The command line: a table of commands, each imported only when it runs.

Late imports keep `fleetmedic version` fast. They also allow a container image with one process and
without the libraries of the others.
"""

from __future__ import annotations

import importlib
import os
import sys

import click
from click.shell_completion import CompletionItem

from fleetmedic import __version__
from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.terminal.disk_errors import explain
from fleetmedic.terminal.mistyped import advice, without_guess
from fleetmedic.terminal.ownership import require_sole_owner

# name -> (module:attribute, extra that installs its libraries, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "doctor": (
        "fleetmedic.stack.doctor:doctor",
        "stack",
        "Check the requirements on this machine: programs, libraries, ports, disk.",
    ),
    "up": (
        "fleetmedic.stack.cli:up",
        "all",
        "Start Prometheus, Alertmanager and fleetmedic on this machine.",
    ),
    "demo": ("fleetmedic.demo.cli:demo", "all", "Demonstrate the remediation of simulated GPUs."),
    "run": ("fleetmedic.localcluster.cli:run", "stack", "Run a job on the embedded cluster."),
    "jobs": (
        "fleetmedic.localcluster.jobs_cli:jobs",
        "stack",
        "List, show and cancel the jobs of the embedded cluster.",
    ),
    "inject": ("fleetmedic.stack.inject:inject", "stack", "Inject a fault into a simulated GPU."),
    "incidents": (
        "remediator.console.cli:incidents",
        "remediator",
        "List incidents, or show one of them.",
    ),
    "why": (
        "remediator.console.cli:why",
        "remediator",
        "Show the remediator's decisions about a GPU, node or job.",
    ),
    "pause": (
        "remediator.console.orders:pause",
        "remediator",
        "Pause the remediator: no new actions until `resume`.",
    ),
    "resume": (
        "remediator.console.orders:resume",
        "remediator",
        "Resume the remediator's actions after `pause`.",
    ),
    "release": (
        "remediator.console.orders:release",
        "remediator",
        "Return a quarantined GPU or node to service.",
    ),
    "close": ("remediator.console.orders:close", "remediator", "Close an incident."),
    "retry": (
        "remediator.console.orders:retry",
        "remediator",
        "Restart the playbook of an escalated incident.",
    ),
    "approve": (
        "remediator.console.orders:approve",
        "remediator",
        "Approve the return to service of a GPU or node that no load test verified.",
    ),
    "reject": (
        "remediator.console.orders:reject",
        "remediator",
        "Reject the return to service of a GPU or node that no load test verified.",
    ),
    "config": (
        "fleetmedic.stack.config_snippets:config",
        "stack",
        "Print configuration for your own Prometheus and Alertmanager.",
    ),
    "exporter": ("exporter.cli:exporter", "exporter", "Serve GPU and node metrics."),
    "rules": ("rules.cli:rules", "rules", "Lint and render alert rules, and run the detectors."),
    "alertmanager": (
        "fleetmedic.alerting.cli:alertmanager",
        "stack",
        "Render Alertmanager's configuration for your teams and channels.",
    ),
    "remediator": (
        "remediator.cli:remediator",
        "remediator",
        "Run the remediator, and check its settings.",
    ),
    "localcluster": (
        "fleetmedic.localcluster.cli:localcluster",
        "stack",
        "Run the embedded cluster, list its nodes, or stop its jobs.",
    ),
    "version": ("fleetmedic.cli:version", "", "Print the version."),
}
OWNED = {"exporter": "exporter", "rules": "rules", "remediator": "remediator"}


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command runs.

    If a library is missing, the error names the extra that installs it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        path, extra, _ = COMMANDS[cmd_name]
        module, _, attribute = path.partition(":")
        if cmd_name in OWNED:
            require_sole_owner(OWNED[cmd_name])
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in (
                "fleetmedic",
                "exporter",
                "rules",
                "remediator",
            ):
                raise
            raise UserError(
                f"`fleetmedic {cmd_name}` needs the library {error.name}, which is not installed. "
                f"Run `pip install 'fleetmedic[{extra}]'`."
            ) from None
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table only, so that completion is fast and needs no extras."""
        names = [
            CompletionItem(name, help=text)
            for name, (_, _, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="fleetmedic %(version)s", help="Print the version.")
def cli() -> None:
    """Monitor GPU fleets, alert on failures, and remediate failed GPUs and nodes.

    fleetmedic quarantines a failed GPU or node and restarts its jobs elsewhere. It then repairs and
    tests the hardware, and returns it to service.

    \b
    Examples:
      fleetmedic demo                     demonstrate remediation on simulated GPUs
      fleetmedic up --detach              start the stack in the background
      fleetmedic why node2/3              show the decisions about GPU 3 of node2
      eval "$(_FLEETMEDIC_COMPLETE=bash_source fleetmedic)"      enable completion in bash (in zsh, use zsh_source)

    \b
    Environment variables:
      FLEETMEDIC_HOME         directory for all state  [default: $XDG_STATE_HOME/fleetmedic if XDG_STATE_HOME is set,
                              otherwise ~/.local/state/fleetmedic]
      FLEETMEDIC_STATE_DIR    state directory of one stack  [default: $FLEETMEDIC_HOME/stack]
      FLEETMEDIC_DEBUG=1      print a traceback for unexpected errors
    """


@click.command()
def version() -> None:
    """Print the version.

    \b
    Example:
      fleetmedic version
    """
    click.echo(f"fleetmedic {__version__}")


def main() -> None:
    """Run the command line.

    A UserError is printed to stderr without a traceback; the exit code is 2. Any other error is
    printed the same way; the exit code is 1. FLEETMEDIC_DEBUG=1 shows the traceback.
    """
    if sys.stdout is None:  # closed by the caller, as with `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    try:
        result = _run()
        sys.exit(result if isinstance(result, int) else 0)
    except click.Abort:
        click.echo("fleetmedic: stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        if isinstance(error, click.UsageError):
            without_guess(error)
        error.show()
        if isinstance(error, click.UsageError) and (more := advice(error, sys.argv[1:])):
            click.echo(more, err=True)
        sys.exit(2)
    except UserError as error:
        click.echo(f"fleetmedic: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if os.environ.get("FLEETMEDIC_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename is None:
            # A full output would fail again when Python flushes it at the end, with another exit code.
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
        if sentence := explain(error):
            click.echo(f"fleetmedic: {sentence}", err=True)
            sys.exit(2)
        text = shortened(" ".join(str(error).split()), 300)
        click.echo(
            f"fleetmedic: {type(error).__name__}: {text}. Set FLEETMEDIC_DEBUG=1 for a traceback.",
            err=True,
        )
        sys.exit(1)


def _run() -> object:
    """Run the command. Raises BrokenPipeError if the reader of the output has gone."""
    output = sys.stdout
    try:
        return cli.main(standalone_mode=False, prog_name="fleetmedic")
    except SystemExit:
        if sys.stdout is not output:  # click replaces a closed pipe, and exits with code 1
            raise BrokenPipeError from None
        raise


if __name__ == "__main__":
    main()
