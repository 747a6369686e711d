"""Print jobs and nodes as tables or JSON."""

from __future__ import annotations

import click
import msgspec

from fleetmedic.kernel.durations import format_duration
from fleetmedic.localcluster.model import GpuView, JobView, NodeView
from fleetmedic.terminal.output import clean, rows
from fleetmedic.terminal.stack_option import suggested

STYLES = {"RUNNING": "green", "FAILED": "red", "RETRYING": "yellow", "MOVING": "yellow"}


def as_json(found: list[JobView]) -> str:
    """Return jobs as a JSON list. Paths are strings, times are Unix seconds."""
    plain = [msgspec.to_builtins(job, enc_hook=str) for job in found]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def print_jobs(found: list[JobView], now: float) -> None:
    """Print one line per job."""
    if not found:
        click.echo(f"No jobs. Start one with {suggested('run --gpus 1 -- COMMAND')}.")
        return
    rows(
        ("JOB", "STATE", "NODE", "GPUS", "AGE", "DURATION", "ATTEMPT", "MOVES", "REASON"),
        [
            (
                job.id,
                job.state,
                job.node or "-",
                ",".join(map(str, job.gpus)) or "-",
                format_duration(round(now - job.submitted)),
                format_duration(round((job.finished or now) - job.started)) if job.started else "-",
                str(job.latest_attempt or "-"),
                str(job.moves),
                job.text,
            )
            for job in found
        ],
        STYLES,
    )


def print_nodes(found: list[NodeView]) -> None:
    """Print one line per node, and one for each of its GPUs that is not free."""
    for node in found:
        state = "in service" if node.alive else "not found in the inventory"
        if node.quarantined is not None:
            reason = node.quarantined.reason.removesuffix(".")
            state = f"quarantined by {node.quarantined.owner}: {reason}"
        free = sum(_gpu(gpu) == "" for gpu in node.gpus)
        click.echo(clean(f"{node.name}: {state}; {free} of {len(node.gpus)} GPUs free"))
        for gpu in node.gpus:
            if words := _gpu(gpu):
                click.echo(clean(f"  GPU {gpu.index}: {words}"))


def _gpu(gpu: GpuView) -> str:
    words = [f"job {gpu.job_id}"] if gpu.job_id else []
    if gpu.quarantined is not None:
        words.append(f"quarantined by {gpu.quarantined.owner}: {gpu.quarantined.reason}")
    if gpu.marked is not None:
        words.append(f"marked: {gpu.marked}")
    return "; ".join(words)
