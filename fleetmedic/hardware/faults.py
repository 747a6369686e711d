"""The faults that can be injected, each as the driver and the kernel log would show it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, get_args

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError

HealsBy = Literal["reset", "reboot", "none"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault and what one sees of it."""

    name: str
    summary: str


FAULTS = (
    Fault("lost", "the GPU falls off the bus (XID 79)"),
    Fault("hang", "the driver no longer answers for this GPU"),
    Fault("slow", "the GPU keeps to --speed of its clock and says nothing"),
    Fault("xid", "the driver logs --xid, --count times"),
    Fault("ecc", "an uncorrectable memory error (XID 48), row remap pending"),
    Fault("hot", "the GPU runs 40 degrees too hot"),
    Fault("heal", "every fault of this GPU is gone, as if repaired by hand"),
)
NAMES = tuple(fault.name for fault in FAULTS)


def inject(
    hardware: Hardware, node: str, index: int, fault: str,
    *, speed: float = 0.75, xid: int = 31, count: int = 1, heals_by: HealsBy = "reset",
) -> float:  # fmt: skip
    """Let a fault happen to a GPU now; returns the Unix time at which it did.

    Raises UserError for an unknown node, GPU or fault, or a value out of range.
    """
    if fault not in NAMES:
        raise UserError(f"there is no fault {fault!r}; known: {', '.join(NAMES)}.")
    if not 0.05 <= speed < 1:
        raise UserError(
            f"--speed {speed} is out of range: give a share of the clock from 0.05 to 0.99."
        )
    if not (1 <= xid <= 999 and 1 <= count <= 1000):
        raise UserError("--xid goes from 1 to 999 and --count from 1 to 1000.")
    if heals_by not in get_args(HealsBy):
        raise UserError(f"--heals-by {heals_by!r} is unknown: give reset, reboot or none.")
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
            node, index, lost=False, hung=False, speed=1.0, heat=0.0, fault="", fault_at=at,
            heals_by="reset", remap_pending=False, remap_failure=False,
        )  # fmt: skip
    return at
