"""Define `fleetmedic inject`, which injects a fault into a simulated GPU."""

from __future__ import annotations

import time
from dataclasses import replace

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fleetmedic.hardware import faults
from fleetmedic.hardware.state import GpuState, Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.stack.fault_notes import speed_note, xid_note
from fleetmedic.terminal.stack_option import (
    StackLocation,
    selected_stack,
    stack_option,
    suggested,
)

_FAULTS = "\n".join(f"  {fault.name:<6} {fault.summary}" for fault in faults.FAULTS)


def _gpus(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the simulated GPUs of the selected stack."""
    hardware = Hardware(selected_stack(ctx).state / "hardware")
    found = (f"{node}/{index}" for node in hardware.nodes() for index in hardware.gpus(node))
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def _faults(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the faults, with their symptoms."""
    return [
        CompletionItem(fault.name, help=fault.summary)
        for fault in faults.FAULTS
        if fault.name.startswith(incomplete)
    ]


@click.command(
    help=f"""Inject a fault into a simulated GPU.

The simulated driver and kernel log show the fault's symptoms. TARGET is NODE/INDEX: node2/3 is GPU 3
of node2.

\b
Faults:
{_FAULTS}

\b
Examples:
  fleetmedic inject node2/3 lost
  fleetmedic inject node2/3 lost --heals-by reboot     only a reboot clears this fault
  fleetmedic inject node1/0 slow --speed 0.7
  fleetmedic inject node4/7 xid --xid 31 --count 3
  fleetmedic inject node2/3 heal
"""
)
@click.argument("target", shell_complete=_gpus)
@click.argument("fault", metavar="FAULT", type=click.Choice(faults.NAMES), shell_complete=_faults)
@click.option(
    "--speed",
    type=float,
    default=0.75,
    show_default=True,
    help="For `slow`: the GPU's clock as a fraction of its normal clock, 0.05 to 0.99.",
)
@click.option(
    "--xid", type=int, default=31, show_default=True, help="For `xid`: the XID code, 1 to 999."
)
@click.option(
    "--count",
    type=int,
    default=1,
    show_default=True,
    help="For `xid`: the number of log entries, 1 to 1000.",
)
@click.option(
    "--heals-by",
    type=click.Choice(["reset", "reboot", "none"]),
    default="reset",
    show_default=True,
    help="Repair that clears the fault. Not used by `xid` and `heal`.",
)
@stack_option
def inject(
    target: str,
    fault: str,
    speed: float,
    xid: int,
    count: int,
    heals_by: faults.HealsBy,
    stack: StackLocation,
) -> None:
    _require_used_options(click.get_current_context(), fault)
    try:
        where = Target.parse(target)
    except UserError:
        where = None
    if where is None or where.kind is not TargetKind.GPU or where.gpu is None:
        raise UserError(f"TARGET: expected NODE/INDEX, such as node2/3, got {target[:80]!r}.")
    folder = stack.state / "hardware"
    if not folder.is_dir():
        raise UserError(
            f"{stack.state} has no simulated GPUs. Start a stack with {suggested('up')}, or select "
            "another stack with --state-dir or --port-base. Faults are never injected into real GPUs."
        )
    hardware = Hardware(folder)
    before = hardware.gpu(where.name, where.gpu)
    faults.inject(
        hardware,
        where.name,
        where.gpu,
        fault,
        speed=speed,
        xid=xid,
        count=count,
        heals_by=heals_by,
    )
    if fault == "heal" and _same_faults(before, hardware.gpu(where.name, where.gpu)):
        click.echo(f"{where}: the GPU has no fault, so there was nothing to remove.")
        return
    done = "removed all faults" if fault == "heal" else f"injected {fault}"
    why = suggested(f"why {where.name}/{where.gpu}")
    click.echo(f"{where}: {done}. Follow it with {suggested('incidents')} and {why}.")
    if fault in faults.UNDER_LOAD and not hardware.load(where.name, where.gpu, time.time()).at:
        click.echo(
            f"The GPU has no load, and `{fault}` shows only under load. {_how_to_load(stack, hardware, where)}"
        )
    note = {"xid": xid_note(xid, count), "slow": speed_note(speed)}.get(fault)
    if note:
        click.echo(note)


def _same_faults(before: GpuState, after: GpuState) -> bool:
    """Return whether two states of a GPU differ at most in the time of their last change."""
    return replace(before, fault_at=0.0, heals_by="none") == replace(
        after, fault_at=0.0, heals_by="none"
    )


def _how_to_load(stack: StackLocation, hardware: Hardware, where: Target) -> str:
    """Return how to put load on a GPU: start a job on the free GPUs of its node, or wait for its job.

    A job gets all of them, because detectors compare a GPU with others of its job.
    """
    folder = stack.state / "cluster"
    nodes = LocalCluster(folder).nodes() if (folder / "cluster.db").exists() else []
    node = next((one for one in nodes if one.name == where.name), None)
    gpu = next((one for one in node.gpus if one.index == where.gpu), None) if node else None
    if node is None or gpu is None:
        return _with_a_job(where, len(hardware.gpus(where.name)))
    if gpu.job_id:
        return f"Its job {gpu.job_id} puts no load on it; start a job with --simulate-load instead."
    if node.quarantined or gpu.quarantined or gpu.marked:
        return "It is out of service, so no job can start on it."
    free = sum(not (one.quarantined or one.marked or one.job_id) for one in node.gpus)
    return _with_a_job(where, free)


def _with_a_job(where: Target, gpus: int) -> str:
    run = f"run --node {where.name} --gpus {gpus} --simulate-load -- sleep 600"
    return f"Start a job on it, for example {suggested(run)}."


def _require_used_options(context: click.Context, fault: str) -> None:
    """Raise UserError if the user set an option that does not apply to the fault."""
    used = {one.name: one.parameters for one in faults.FAULTS}
    for name in sorted({name for names in used.values() for name in names} - set(used[fault])):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            valid = ", ".join(one for one, names in used.items() if name in names)
            raise UserError(
                f"--{name.replace('_', '-')}: not used by the fault {fault}, only by {valid}."
            )
