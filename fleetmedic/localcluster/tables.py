"""Prints jobs and nodes as tables or JSON."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetmedic.kernel.durations import format_duration
from fleetmedic.localcluster.model import GpuView, JobView, NodeView

COLOURS = {"RUNNING": "green", "FAILED": "red", "RETRYING": "yellow", "MOVING": "yellow"}


def as_json(found: list[JobView]) -> str:
    """Jobs as a JSON list; paths are strings, times Unix seconds."""
    plain = [msgspec.to_builtins(job, enc_hook=str) for job in found]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def print_jobs(found: list[JobView], now: float) -> None:
    """Print one line per job."""
    if not found:
        Console().print("No jobs. Start one with: fleetmedic run --gpus 1 -- COMMAND")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("JOB", "STATE", "NODE", "GPUS", "AGE", "RESTARTS", "MOVES", "REASON"):
        table.add_column(name, overflow="fold", no_wrap=name in ("JOB", "STATE", "NODE"))
    for job in found:
        age = format_duration(round((job.finished or now) - job.submitted))
        table.add_row(
            job.id,
            Text(job.state, style=COLOURS.get(job.state, "")),
            job.node or "-",
            ",".join(map(str, job.gpus)) or "-",
            age,
            str(job.restarts),
            str(job.moves),
            Text(job.text),
        )
    Console().print(table)


def print_nodes(found: list[NodeView]) -> None:
    """Print one line per node, and one for each of its GPUs that is not free."""
    console = Console()
    for node in found:
        state = "in service" if node.alive else "not found in the inventory"
        if node.quarantined is not None:
            reason = node.quarantined.reason.removesuffix(".")
            state = f"quarantined by {node.quarantined.owner}: {reason}"
        free = sum(_gpu(gpu) == "" for gpu in node.gpus)
        console.print(Text(f"{node.name}: {state}; {free} of {len(node.gpus)} GPUs free"))
        for gpu in node.gpus:
            if words := _gpu(gpu):
                console.print(Text(f"  GPU {gpu.index}: {words}"))


def _gpu(gpu: GpuView) -> str:
    words = [f"job {gpu.job_id}"] if gpu.job_id else []
    if gpu.quarantined is not None:
        words.append(f"quarantined by {gpu.quarantined.owner}: {gpu.quarantined.reason}")
    if gpu.marked is not None:
        words.append(f"marked: {gpu.marked}")
    return "; ".join(words)
