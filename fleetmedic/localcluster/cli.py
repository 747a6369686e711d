"""Define the commands `fleetmedic run` and `fleetmedic localcluster`."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from fleetmedic.hardware.simulated_load import with_load
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import valid_name
from fleetmedic.localcluster.job_output import JobOutput, follow_output
from fleetmedic.localcluster.jobs_cli import checked_name, open_cluster, warn_if_stopped
from fleetmedic.localcluster.model import JobSpec
from fleetmedic.localcluster.tables import print_nodes
from fleetmedic.terminal.numbers import IntegerRange, NumberRange
from fleetmedic.terminal.stack_option import StackLocation, stack_option, suggested
from fleetmedic.wording.counts import counted

KEPT_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
)


def _environment(given: tuple[str, ...]) -> dict[str, str]:
    found = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals and name not in os.environ:
            raise UserError(
                f"--env {name[:80]}: the variable is not set in this environment. Use NAME=VALUE."
            )
        found[name] = value if equals else os.environ[name]
    return found


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--gpus",
    type=IntegerRange(1, 1024),
    default=1,
    show_default=True,
    help="Number of GPUs for the job, all on one node.",
)
@click.option(
    "--node",
    help="Node of the job's first attempt. After a fault, the job can move to another node. "
    "[default: any node]",
)
@click.option("--name", help="Name of the job. [default: `job-` and six random digits]")
@click.option(
    "--checkpoint-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Checkpoint directory of the job. [default: a directory in the state directory]",
)
@click.option(
    "--env",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Environment variable of the job. Can be repeated. PATH, HOME and similar variables are always "
    "passed.",
)
@click.option(
    "--grace",
    type=NumberRange(0.1, 600),
    default=5.0,
    show_default=True,
    help="Grace period between SIGTERM and SIGKILL, in seconds.",
)
@click.option(
    "--simulate-load",
    is_flag=True,
    help="Put load on the job's simulated GPUs while the command runs.",
)
@click.option(
    "--follow/--detach",
    default=False,
    help="Print the output until the job ends (--follow), or return immediately (--detach). [default: detach]",
)
@stack_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str | None,
    simulate_load: bool,
    follow: bool,
    stack: StackLocation,
    command: tuple[str, ...],
    **given: Any,
) -> None:
    """Run COMMAND as a job on the embedded cluster, on GPUs that are in service.

    The cluster sets CUDA_VISIBLE_DEVICES to the job's GPUs and FLEETMEDIC_CHECKPOINT_DIR to its
    checkpoint directory. If a GPU fails, the cluster restarts the job, on other GPUs if necessary.

    \b
    Examples:
      fleetmedic run --gpus 4 --name train-a -- python train.py
      fleetmedic run --gpus 1 --follow -- python -m mypackage.evaluate --fast
      fleetmedic run --gpus 8 --simulate-load -- sleep 600     put load on the simulated GPUs
    """
    cluster = open_cluster(stack.state)
    if name and any(one.id == name and not one.state.ended for one in cluster.jobs()):
        raise UserError(
            f"--name: a job {name} has not ended. Use another name, or cancel that job with "
            f"{suggested(f'jobs cancel {name}')}."
        )
    if (checkpoints := given["checkpoint_dir"]) is not None:
        try:
            checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--checkpoint-dir {checkpoints}: cannot create the directory ({error.strerror})."
            ) from None
    if simulate_load:
        if not (stack.state / "hardware").is_dir():
            raise UserError(f"--simulate-load: {stack.state} has no simulated GPUs.")
        command = with_load(command)
    spec = JobSpec(
        name=checked_name(name or f"job-{secrets.randbelow(10**6):06d}", "--name"),
        command=command,
        gpus=given["gpus"],
        cwd=str(Path.cwd()),
        env=_environment(given["env"]),
        checkpoint_dir=str(given["checkpoint_dir"].absolute()) if given["checkpoint_dir"] else None,
        user=_user(),
        grace=given["grace"],
        node=given["node"],
    )
    job_id = cluster.submit(spec)
    click.echo(f"{job_id} is queued. Show it with {suggested(f'jobs {job_id}')}.")
    warn_if_stopped(cluster)
    if follow:
        sys.exit(follow_output(JobOutput(cluster, job_id, attempt=1)))


def _user() -> str:
    try:
        found = getpass.getuser()
    except (KeyError, OSError):
        found = str(os.getuid())
    return found if valid_name(found) else str(os.getuid())


@click.group()
def localcluster() -> None:
    """Run the embedded cluster's controller, list its nodes, or stop its jobs.

    \b
    Examples:
      fleetmedic localcluster serve --state-dir /tmp/fm
      fleetmedic localcluster nodes
    """


@localcluster.command()
@stack_option
@click.option(
    "--pool.listen-address",
    "listen",
    default="127.0.0.1:9097",
    show_default=True,
    help="Listen address of the worker pool's gateway, HOST:PORT.",
)
@click.option(
    "--pool/--no-pool",
    default=True,
    help="Run the worker pool named `serve`, a simulated inference service. [default: pool]",
)
def serve(stack: StackLocation, listen: str, pool: bool) -> None:
    """Run the embedded cluster's controller.

    The controller places jobs on GPUs, restarts failed jobs and runs the worker pool. Jobs and workers
    keep running while the controller is stopped.

    \b
    Example:
      fleetmedic localcluster serve --state-dir /tmp/fm --pool.listen-address 127.0.0.1:9097
    """
    from fleetmedic.kernel.logs import configure_logs
    from fleetmedic.localcluster.controller import serve as serve_forever
    from fleetmedic.localcluster.replicas import PoolSettings

    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
        raise UserError(f"--pool.listen-address: expected HOST:PORT, got {listen[:80]!r}.")
    configure_logs()
    serve_forever(stack.state, PoolSettings(listen) if pool else None)


@localcluster.command()
@stack_option
def nodes(stack: StackLocation) -> None:
    """List the nodes and GPUs, with the job or quarantine of each GPU.

    \b
    Example:
      fleetmedic localcluster nodes
    """
    cluster = open_cluster(stack.state)
    warn_if_stopped(cluster)
    print_nodes(cluster.nodes())


@localcluster.command()
@stack_option
@click.option(
    "--grace",
    type=NumberRange(0, 60),
    default=4.0,
    show_default=True,
    help="Grace period between SIGTERM and SIGKILL, in seconds.",
)
def stop(stack: StackLocation, grace: float) -> None:
    """Stop all jobs and workers of the embedded cluster.

    Stop the controller first. A running controller restarts the jobs and workers immediately. When the
    controller starts again, it restarts the jobs from their checkpoints.

    \b
    Example:
      fleetmedic localcluster stop
    """
    from fleetmedic.localcluster.shutdown import shutdown

    ended = shutdown(stack.state, grace)
    click.echo(f"Stopped {counted(ended, 'process')}.")
