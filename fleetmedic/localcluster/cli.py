"""The commands `run`, `jobs` and `localcluster`."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import time
from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import state_dir
from fleetmedic.kernel.labels import valid_name
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState, JobView

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
STALE_SECONDS = 5.0
STATE_OPTION = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The stack's state directory. [default: FLEETMEDIC_STATE_DIR, else `stack` in "
    "FLEETMEDIC_HOME]",
)


def _cluster(given: Path | None) -> LocalCluster:
    state = state_dir(given)
    if not (state / "cluster" / "cluster.db").exists():
        raise UserError(
            f"{state} has no embedded cluster. Run `fleetmedic up`, or set --state-dir."
        )
    return LocalCluster(state / "cluster")


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


def _checked(text: str, what: str) -> str:
    if not valid_name(text):
        raise UserError(
            f"{what}: expected letters, digits, '.', '_' and '-', starting with a letter or digit, "
            f"got {text[:80]!r}."
        )
    return text


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--gpus",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Number of GPUs, all on one node.",
)
@click.option("--name", help="The job's name. [default: `job-` and six digits]")
@click.option(
    "--checkpoint-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The job's checkpoint directory. [default: a directory of the cluster]",
)
@click.option(
    "--env",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Environment variable of the job. PATH, HOME and similar ones are always passed.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0.1, 600),
    default=5.0,
    show_default=True,
    help="Grace period between SIGTERM and SIGKILL, in seconds.",
)
@click.option(
    "--follow/--detach",
    default=False,
    help="Print the job's output until it ends, or return at once. [default: detach]",
)
@STATE_OPTION
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    gpus: int,
    name: str | None,
    checkpoint_dir: Path | None,
    env: tuple[str, ...],
    grace: float,
    follow: bool,
    state_dir: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND as a job on the embedded cluster, on GPUs that are in service.

    The job gets its GPUs in CUDA_VISIBLE_DEVICES and its checkpoint directory in
    FLEETMEDIC_CHECKPOINT_DIR. If a GPU fails, the cluster restarts the job, if necessary on other
    GPUs.

    \b
    Examples:
      fleetmedic run --gpus 4 --name train-a -- python train.py
      fleetmedic run --gpus 1 --follow -- python -m mypackage.evaluate --fast
    """
    cluster = _cluster(state_dir)
    if name and any(one.id == name and not one.state.ended for one in cluster.jobs()):
        raise UserError(
            f"--name: a job {name} has not ended. Use another name, or cancel that job with "
            f"`fleetmedic jobs --cancel {name}`."
        )
    spec = JobSpec(
        name=_checked(name or f"job-{secrets.randbelow(10**6):06d}", "--name"),
        command=command,
        gpus=gpus,
        cwd=str(Path.cwd()),
        env=_environment(env),
        checkpoint_dir=str(checkpoint_dir.absolute()) if checkpoint_dir else None,
        user=_user(),
        grace=grace,
    )
    job_id = cluster.submit(spec)
    where = f" --state-dir {state_dir}" if state_dir else ""
    click.echo(f"{job_id} is queued. Show it with: fleetmedic jobs {job_id}{where}")
    beat = cluster.heartbeat()
    if beat is None or time.time() - beat > STALE_SECONDS:
        click.echo(
            "The controller is not running. The job stays queued until `fleetmedic up` starts it.",
            err=True,
        )
    if follow:
        sys.exit(_follow(cluster, job_id))


def _user() -> str:
    try:
        found = getpass.getuser()
    except (KeyError, OSError):
        found = str(os.getuid())
    return found if valid_name(found) else str(os.getuid())


def _follow(cluster: LocalCluster, job_id: str) -> int:
    """Print the output of all attempts. Ctrl-C ends only this command, not the job."""
    shown: dict[Path, int] = {}
    while True:
        job = cluster.job(job_id)
        if job.log is not None:
            _show(job.log, shown)
        if job.state.ended:
            click.echo(f"{job_id} {job.state}: {job.text}", err=True)
            return 0 if job.state is JobState.COMPLETED else 1
        time.sleep(0.2)


def _show(log: Path, shown: dict[Path, int]) -> None:
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset = shown.get(log, 0)
            file.seek(offset if offset <= size else 0)  # smaller: the log was rotated
            data = file.read(1_000_000)
            shown[log] = file.tell()
    except OSError:
        return
    click.echo(data.decode(errors="replace"), nl=False)


@click.command()
@click.argument("job_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Output as JSON.")
@click.option("--cancel", metavar="ID", help="Job to cancel; it is not restarted.")
@STATE_OPTION
def jobs(job_id: str | None, as_json: bool, cancel: str | None, state_dir: Path | None) -> None:
    """List the jobs of the embedded cluster, or show one.

    \b
    Examples:
      fleetmedic jobs
      fleetmedic jobs train-a
      fleetmedic jobs --json
      fleetmedic jobs --cancel train-a
    """
    cluster = _cluster(state_dir)
    if cancel is not None:
        _checked(cancel, "--cancel")
        going = cluster.cancel(cancel, op_id=f"cancel-{secrets.token_hex(8)}")
        said = "is being stopped" if going else "has already ended"
        click.echo(f"{cancel} {said}.")
        return
    found = [cluster.job(_checked(job_id, "job"))] if job_id else cluster.jobs()
    if as_json:
        from fleetmedic.localcluster.tables import as_json as render

        click.echo(render(found))
    elif job_id:
        _show_one(found[0])
    else:
        from fleetmedic.localcluster.tables import print_jobs

        print_jobs(found, time.time())


def _show_one(job: JobView) -> None:
    gpus = ", ".join(map(str, job.gpus)) or "none"
    for name, value in (
        ("job", job.id),
        ("state", f"{job.state}: {job.text} ({job.reason})"),
        ("node", f"{job.node or 'none yet'}, GPUs {gpus}"),
        (
            "history",
            f"{job.restarts} restarts, {job.moves} moves, {job.attempts} failures of the job itself",
        ),
        ("command", " ".join(job.command)),
        ("user", job.user),
        ("checkpoints", job.checkpoint_dir),
        ("output", job.log or "none yet"),
    ):
        click.echo(f"{name + ':':13}{value}")


@click.group()
def localcluster() -> None:
    """Run the embedded cluster's controller, list its nodes, stop its jobs.

    \b
    Examples:
      fleetmedic localcluster serve --state-dir /tmp/fm
      fleetmedic localcluster nodes
    """


@localcluster.command()
@STATE_OPTION
@click.option(
    "--pool.listen-address",
    "listen",
    default="127.0.0.1:9097",
    show_default=True,
    help="Listen address of the worker pool's gateway, HOST:PORT.",
)
@click.option("--pool/--no-pool", default=True, help="Run the worker pool `serve`. [default: pool]")
def serve(state_dir: Path | None, listen: str, pool: bool) -> None:
    """Run the controller, which places jobs, retries them and runs the worker pool.

    The controller can be stopped and started at any time. Jobs and workers keep running meanwhile.

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
    serve_forever(_state(state_dir), PoolSettings(listen) if pool else None)


@localcluster.command()
@STATE_OPTION
def nodes(state_dir: Path | None) -> None:
    """List the nodes with their GPUs, and the job or quarantine of each GPU.

    \b
    Example:
      fleetmedic localcluster nodes
    """
    from fleetmedic.localcluster.tables import print_nodes

    print_nodes(_cluster(state_dir).nodes())


@localcluster.command()
@STATE_OPTION
@click.option(
    "--grace",
    type=click.FloatRange(0, 60),
    default=4.0,
    show_default=True,
    help="Grace period between SIGTERM and SIGKILL, in seconds.",
)
def stop(state_dir: Path | None, grace: float) -> None:
    """Stop every job and worker. The next controller restarts the jobs from their checkpoints.

    Stop the controller first, otherwise it restarts them at once.

    \b
    Example:
      fleetmedic localcluster stop
    """
    from fleetmedic.localcluster.shutdown import shutdown

    ended = shutdown(_state(state_dir), grace)
    click.echo(f"Stopped {ended} processes.")


def _state(given: Path | None) -> Path:
    return state_dir(given)
