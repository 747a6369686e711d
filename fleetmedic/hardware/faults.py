"""Inject faults into simulated GPUs, with the symptoms of real faults in the driver and the kernel log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, get_args

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError

HealsBy = Literal["reset", "reboot", "none"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A type of fault, its symptom, and the parameters of `inject` that apply to it."""

    name: str
    summary: str
    parameters: tuple[str, ...] = ("heals_by",)


FAULTS = (
    Fault("lost", "the GPU falls off the bus (XID 79)"),
    Fault("hang", "driver calls for this GPU do not return"),
    Fault("slow", "the GPU's clock is reduced to --speed, without an error", ("speed", "heals_by")),
    Fault("xid", "the driver logs the XID given by --xid, --count times", ("xid", "count")),
    Fault("ecc", "the GPU has an uncorrectable ECC error (XID 48), and a row remap is pending"),
    Fault("hot", "the GPU is 40 degrees C hotter than normal"),
    Fault("heal", "all faults of this GPU are removed, as after a manual repair", ()),
)
UNDER_LOAD = ("slow", "hot")  # their symptoms show only while a job uses the GPU
NAMES = tuple(fault.name for fault in FAULTS)


def inject(
    hardware: Hardware,
    node: str,
    index: int,
    fault: str,
    *,
    speed: float = 0.75,
    xid: int = 31,
    count: int = 1,
    heals_by: HealsBy = "reset",
) -> float:
    """Inject a fault into a GPU now; returns the Unix time of the fault.

    Raises UserError for an unknown node, GPU or fault, or a value out of range.
    """
    if fault not in NAMES:
        raise UserError(f"FAULT: expected one of {', '.join(NAMES)}, got {fault!r}.")
    if not 0.05 <= speed < 1:
        raise UserError(
            f"--speed: expected a fraction of the clock from 0.05 to 0.99, got {speed}."
        )
    if not (1 <= xid <= 999 and 1 <= count <= 1000):
        raise UserError(
            f"expected --xid from 1 to 999 and --count from 1 to 1000, got {xid} and {count}."
        )
    if heals_by not in get_args(HealsBy):
        raise UserError(f"--heals-by: expected reset, reboot or none, got {heals_by!r}.")
    state = hardware.gpu(node, index)
    at = time.time()
    mark = {"fault": fault, "fault_at": at, "heals_by": heals_by}
    bus = state.pci_bus_id.removesuffix(".0")
    if fault == "lost":
        hardware.change(node, index, lost=True, **mark)
        hardware.log(
            node,
            f"NVRM: Xid (PCI:{bus}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        )
        hardware.log(node, f"NVRM: GPU {state.pci_bus_id}: GPU has fallen off the bus.")
    elif fault == "hang":
        hardware.change(node, index, hung=True, **mark)
    elif fault == "slow":
        hardware.change(node, index, speed=speed, **mark)
    elif fault == "hot":
        hardware.change(node, index, heat=40.0, **mark)
    elif fault == "ecc":
        hardware.change(
            node, index, ecc_uncorrected=state.ecc_uncorrected + 1, remap_pending=True, **mark
        )
        hardware.log(
            node,
            f"NVRM: Xid (PCI:{bus}): 48, pid='<unknown>', name=<unknown>, DBE (double bit error).",
        )
    elif fault == "xid":
        for _ in range(count):
            hardware.log(node, f"NVRM: Xid (PCI:{bus}): {xid}, pid=4242, name=python, Ch 00000008")
    else:
        hardware.change(
            node,
            index,
            lost=False,
            hung=False,
            speed=1.0,
            heat=0.0,
            fault="",
            fault_at=at,
            heals_by="reset",
            remap_pending=False,
            remap_failure=False,
        )
    return at
