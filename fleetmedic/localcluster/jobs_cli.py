"""Define the commands of `fleetmedic jobs`: list, show and cancel jobs, and print their output."""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from fleetmedic.hardware.simulated_load import without_load
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import valid_name
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.job_output import JobOutput, follow_output
from fleetmedic.localcluster.model import JobView
from fleetmedic.localcluster.tables import as_json as render_json
from fleetmedic.localcluster.tables import print_jobs
from fleetmedic.terminal.numbers import IntegerRange
from fleetmedic.terminal.output import lines_option
from fleetmedic.terminal.stack_option import (
    StackLocation,
    selected_stack,
    stack_option,
    suggested,
)
from fleetmedic.terminal.times import moment

STALE_SECONDS = 5.0


def open_cluster(state: Path) -> LocalCluster:
    """Return the embedded cluster of the stack in this state directory. Raises UserError if missing."""
    if not (state / "cluster" / "cluster.db").exists():
        raise UserError(
            f"{state} has no embedded cluster. Run {suggested('up')}, or select another stack with "
            "--state-dir or --port-base."
        )
    return LocalCluster(state / "cluster")


def checked_name(text: str, what: str) -> str:
    """Return a valid job name unchanged. Raises UserError with a message that starts with `what`."""
    if not valid_name(text):
        raise UserError(
            f"{what}: expected letters, digits, '.', '_' and '-', starting with a letter or digit, "
            f"got {text[:80]!r}."
        )
    return text


def _job_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of jobs, newest first."""
    try:
        found = open_cluster(selected_stack(ctx).state).jobs()
    except (UserError, OSError):
        return []
    return [
        CompletionItem(job.id, help=f"{job.state} {job.text}")
        for job in reversed(found)
        if job.id.startswith(incomplete)
    ]


_job_id = click.argument("job_id", metavar="ID", shell_complete=_job_ids)
_json = click.option("--json", "as_json", is_flag=True, help="JSON output.")


def warn_if_stopped(cluster: LocalCluster) -> None:
    """Print a warning if the controller is not running: the states are outdated, and requests are
    not carried out."""
    beat = cluster.heartbeat()
    if beat is None or time.time() - beat > STALE_SECONDS:
        click.echo(
            f"The controller is not running: jobs neither start nor stop until {suggested('up')} starts it.",
            err=True,
        )


class _JobsGroup(click.Group):
    """A click group that accepts `jobs ID` as `jobs show ID`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "show", self.commands["show"], args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        ids = _job_ids(ctx, self.params[0], incomplete) if incomplete[:1] != "-" else []
        return ids + super().shell_complete(ctx, incomplete)


@click.group(cls=_JobsGroup, invoke_without_command=True)
@_json
@click.option(
    "--cancel",
    "cancelled",
    metavar="ID",
    help="ID of a job to cancel. Same as `fleetmedic jobs cancel ID`.",
)
@stack_option
@click.pass_context
def jobs(ctx: click.Context, as_json: bool, cancelled: str | None, stack: StackLocation) -> None:
    """List the jobs of the embedded cluster.

    The subcommands show a job, print its output or cancel it. `fleetmedic jobs ID` is the same as
    `fleetmedic jobs show ID`. AGE is the time since the job was submitted. DURATION is the time from
    the start of the first attempt until the end of the job, or until now. Each restart of the job is
    a new ATTEMPT. MOVES is the number of restarts on other GPUs.

    \b
    Examples:
      fleetmedic jobs
      fleetmedic jobs --json
      fleetmedic jobs train-a
      fleetmedic jobs logs train-a --follow
      fleetmedic jobs cancel train-a
    """
    if ctx.invoked_subcommand is not None:
        return
    cluster = open_cluster(stack.state)
    warn_if_stopped(cluster)
    if cancelled is not None:
        _cancel(cluster, cancelled)
    elif as_json:
        click.echo(render_json(cluster.jobs()))
    else:
        print_jobs(cluster.jobs(), time.time())


@jobs.command("show")
@_job_id
@_json
@stack_option
def show_job(job_id: str, as_json: bool, stack: StackLocation) -> None:
    """Show a job and its details.

    The output shows the state, node, GPUs, attempts, times, command, checkpoint directory and output
    file of the job.

    \b
    Example:
      fleetmedic jobs show train-a
    """
    cluster = open_cluster(stack.state)
    warn_if_stopped(cluster)
    job = cluster.job(checked_name(job_id, "ID"))
    if as_json:
        click.echo(render_json([job]))
    else:
        _show_one(job)


@jobs.command("logs")
@_job_id
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Print new output as it is written, until the job ends or Ctrl-C.",
)
@click.option(
    "--attempt",
    type=IntegerRange(min=1),
    help="Number of the attempt; each restart of the job is a new attempt. [default: the latest attempt]",
)
@lines_option
@stack_option
def job_logs(
    job_id: str, follow: bool, attempt: int | None, count: int, stack: StackLocation
) -> None:
    """Print the last output lines of a job's attempt.

    With --follow, the command also prints the output of all later attempts.

    \b
    Examples:
      fleetmedic jobs logs train-a
      fleetmedic jobs logs train-a -n 200 --follow
      fleetmedic jobs logs train-a --attempt 1
    """
    cluster = open_cluster(stack.state)
    job = cluster.job(checked_name(job_id, "ID"))
    latest = max(1, job.latest_attempt)
    if attempt is not None and attempt > latest:
        raise UserError(f"--attempt: the latest attempt of {job_id} is {latest}, got {attempt}.")
    output = JobOutput(cluster, job_id, attempt or latest)
    if lines := output.last_lines(count):
        click.echo(lines, nl=False)
    else:
        now = "" if follow else f" {job.state}: {job.text}"
        click.echo(f"{job_id} has no output of attempt {output.attempt}.{now}", err=True)
    if follow:
        sys.exit(follow_output(output))


@jobs.command("cancel")
@_job_id
@stack_option
def cancel_job(job_id: str, stack: StackLocation) -> None:
    """Cancel a job. The cluster stops the job's processes and does not restart the job.

    \b
    Example:
      fleetmedic jobs cancel train-a
    """
    cluster = open_cluster(stack.state)
    warn_if_stopped(cluster)
    _cancel(cluster, job_id)


def _cancel(cluster: LocalCluster, job_id: str) -> None:
    running = cluster.cancel(checked_name(job_id, "ID"), op_id=f"cancel-{secrets.token_hex(8)}")
    click.echo(f"{job_id} {'is being stopped' if running else 'has already ended'}.")


def _show_one(job: JobView) -> None:
    gpus = ", ".join(map(str, job.gpus)) or "none"
    own = without_load(job.command)
    for name, value in (
        ("job", job.id),
        ("state", f"{job.state}: {job.text} ({job.reason})"),
        ("node", f"{job.node or 'none yet'}, GPUs {gpus}"),
        ("attempt", job.latest_attempt or "none yet"),
        ("restarts", f"{job.restarts}, {job.moves} of them on other GPUs"),
        ("failures", f"{job.attempts} of the command itself"),
        ("submitted", moment(job.submitted)),
        ("started", moment(job.started or 0)),
        ("ended", moment(job.finished or 0)),
        ("command", shlex.join(job.command if own is None else own)),
        *((("load", "simulated"),) if own is not None else ()),
        ("user", job.user),
        ("checkpoints", job.checkpoint_dir),
        ("output", job.log or "none yet"),
    ):
        click.echo(f"{name + ':':13}{value}")
    if job.restarts:
        logs = suggested(f"jobs logs {job.id} --attempt {job.restarts}")
        click.echo(f"Output of the previous attempt: {logs}.")
