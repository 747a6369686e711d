"""The catalogue of XIDs and SXIDs with their severity and action, and a site's overrides.

The files are xid_catalogue.yml and sxid_catalogue.yml. `python -m exporter.xids.xid_catalogue`
prints docs/xids.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load, load_rows

XIDS = Path(__file__).with_name("xid_catalogue.yml")
SXIDS = Path(__file__).with_name("sxid_catalogue.yml")
MAX_XID = 999
MAX_SXID = 99_999

Severity = Literal["critical", "warning", "info"]
Action = Literal["none", "restart_app", "reset_gpu", "drain_reset", "reboot_node", "inspect"]

# The actions, in ascending order of rank.
ACTIONS: tuple[Action, ...] = (
    "none",
    "restart_app",
    "reset_gpu",
    "drain_reset",
    "reboot_node",
    "inspect",
)
RANK: dict[Action, int] = {action: rank for rank, action in enumerate(ACTIONS)}

# The driver's recovery actions (field 230, XID 154) by their names in gpu_recovery_action, in the order of
# their numbers. recover_imex means restarting the IMEX service and the job.
DRIVER_SAYS: dict[str, Action] = {
    "none": "none",
    "gpu_reset": "reset_gpu",
    "node_reboot": "reboot_node",
    "drain_p2p": "drain_reset",
    "drain_reset": "drain_reset",
    "recover_imex": "restart_app",
    "bus_reset": "drain_reset",
    "system_reboot": "reboot_node",
}

_RESETS: tuple[Action, ...] = ("reset_gpu", "drain_reset")
# Our actions that are equivalent to NVIDIA's immediate action.
NVIDIA_SAYS: dict[str, tuple[Action, ...]] = {
    "": ACTIONS,
    "IGNORE": ("none",),
    "CONTACT_SUPPORT": ("none", "inspect"),
    "RESTART_APP": ("restart_app",),
    "RESET_GPU": _RESETS,
    "RESTART_BM": ("reboot_node",),
    "RESTART_VM": ("reboot_node",),
    "CHECK_MECHANICALS": ("inspect",),
    "CHECK_UVM": ("none",),
    "UPDATE_SWFW": ("none",),
    "WORKFLOW_XID_45": ("none",),
    "WORKFLOW_XID_48": _RESETS,
    "WORKFLOW_NVLINK_ERR": _RESETS,
    "WORKFLOW_NVLINK5_ERR": ("none", *_RESETS, "inspect"),
    "XID_154": ACTIONS,
}
# Our actions that are equivalent to GPUd's first action.
GPUD_SAYS: dict[str, tuple[Action, ...]] = {
    "absent": ACTIONS,
    "none": ("none",),
    "ignore": ("none",),
    "check_app": ("restart_app",),
    "reboot": ("reboot_node",),
    "inspect": ("inspect",),
}


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The catalogue entry of an XID or SXID.

    `zero`: the count starts at 0 for every GPU. `by_line`: the line in the kernel log decides the
    severity.
    """

    code: int
    name: str
    severity: Severity
    action: Action
    nvidia: str = ""
    gpud: str = "absent"
    zero: bool = False
    by_line: bool = False
    inspect_subcodes: tuple[int, ...] = ()
    why: str = ""


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site's changes to one catalogue entry. Fields that are not set keep their values."""

    name: str | None = None
    severity: Severity | None = None
    action: Action | None = None
    zero: bool | None = None
    why: str | None = None


class _Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    xids: dict[int, Override] = {}
    sxids: dict[int, Override] = {}


@cache
def xid_catalogue() -> Mapping[int, Code]:
    """Return the shipped catalogue entries of XIDs, by code."""
    return {each.code: each for each in load_rows(XIDS, "xids", Code)}


@cache
def sxid_catalogue() -> Mapping[int, Code]:
    """Return the shipped catalogue entries of SXIDs, by code."""
    return {each.code: each for each in load_rows(SXIDS, "sxids", Code)}


class Codes:
    """The catalogue of XIDs and SXIDs with the overrides of this site."""

    def __init__(self, overrides: _Overrides | None = None) -> None:
        given = overrides or _Overrides()
        self._xids = dict(xid_catalogue())
        self._sxids: dict[int, Code] | None = (
            None  # loaded at the first SXID, because most nodes never log one
        )
        self._sxid_overrides = given.sxids
        _apply(self._xids, given.xids, "XID")
        self.zeros = tuple(str(code) for code, each in self._xids.items() if each.zero)

    @classmethod
    def of_site(cls, path: Path | None) -> Codes:
        """Return the catalogue with the overrides of a YAML file. Raises UserError with the invalid
        key."""
        if path is None:
            return cls()
        overrides = load(path, _Overrides)
        _check(path, "xids", overrides.xids, MAX_XID)
        _check(path, "sxids", overrides.sxids, MAX_SXID)
        return cls(overrides)

    def knows(self, code: int) -> bool:
        """Return whether an XID is in the catalogue or in the site's overrides."""
        return code in self._xids

    def xid(self, code: int) -> Code:
        """Return the entry of an XID. An unknown XID has the severity warning and the action none."""
        return self._xids.get(code) or Code(code, f"XID {code}", "warning", "none")

    def sxid(self, code: int) -> Code:
        """Return the entry of an SXID. An unknown SXID has the severity warning and the action
        none."""
        if self._sxids is None:
            self._sxids = dict(sxid_catalogue())
            _apply(self._sxids, self._sxid_overrides, "SXID")
        return self._sxids.get(code) or Code(code, f"SXID {code}", "warning", "none")


def _apply(codes: dict[int, Code], overrides: Mapping[int, Override], kind: str) -> None:
    for code, override in overrides.items():
        given = {
            name: value
            for name in Override.__struct_fields__
            if (value := getattr(override, name)) is not None
        }
        before = codes.get(code) or Code(code, f"{kind} {code}", "warning", "none")
        codes[code] = msgspec.structs.replace(before, **given)


def _check(path: Path, where: str, overrides: Mapping[int, Override], most: int) -> None:
    for code in overrides:
        if not 0 < code <= most:
            raise UserError(f"{path}: at $.{where}: expected a code from 1 to {most}, got {code}.")


def differences(each: Code) -> tuple[bool, bool]:
    """Return whether fleetmedic's action differs from NVIDIA's immediate, and from GPUd's first action."""
    first = each.gpud.partition("/")[2].partition("+")[0] or each.gpud
    return each.action not in NVIDIA_SAYS[each.nvidia], each.action not in GPUD_SAYS[first]


def _row(each: Code, marks: tuple[bool, bool]) -> str:
    nvidia = (each.nvidia or "-") + (" ≠" if marks[0] else "")
    gpud = each.gpud + (" ≠" if marks[1] else "")
    counted = "yes" if each.zero else ""
    return (
        f"| {each.code} | {each.name} | {each.severity} | {each.action} | {nvidia} | {gpud} "
        f"| {counted} | {each.why} |"
    )


def markdown() -> Iterator[str]:
    """Yield the lines of docs/xids.md."""
    yield from (
        "# XIDs and SXIDs",
        "",
        "<!-- Generated by `python -m exporter.xids.xid_catalogue > docs/xids.md`; edit exporter/xids/xid_catalogue.yml and",
        "exporter/xids/sxid_catalogue.yml. -->",
        "",
        "The tables show the severity and the recommended action of each code. The actions, in ascending order, are:",
        f"{' < '.join(ACTIONS)}.",
        "The columns `NVIDIA` and `GPUd` show the actions that NVIDIA's guide and GPUd recommend. The format of the column",
        "`GPUd` is severity/action; `+` separates a first and a second action. The sign `≠` marks an action (for GPUd, a",
        "first action) that differs from the action of fleetmedic. The last column gives the reason for a difference, also",
        "for a difference from GPUd's second action. The exporter also counts codes",
        "that are not in the tables, with the severity warning and the action none. You can override severities and actions",
        "in the file that `--collector.xid.overrides` names. If a code starts at 0, its count exists for every GPU before",
        "the first error, so that `increase()` includes the first error.",
        "",
        "Application errors (13, 31, 43, 45) and errors that the driver contained (94) never remove a GPU from service.",
        "",
        "| code | name | severity | action | NVIDIA | GPUd | starts at 0 | reason for a difference |",
        "|---|---|---|---|---|---|---|---|",
    )
    for each in xid_catalogue().values():
        yield _row(each, differences(each))
    yield from (
        "",
        "## NVSwitch errors (SXIDs)",
        "",
        "SXIDs affect a switch and its links; an affected GPU reports XID 74 itself. The column `NVIDIA` shows the class of",
        "the code in NVIDIA's guide.",
        "",
        "| code | name | severity | action | NVIDIA | GPUd | starts at 0 | reason for a difference |",
        "|---|---|---|---|---|---|---|---|",
    )
    for each in sxid_catalogue().values():
        first = each.gpud.partition("/")[2].partition("+")[0]
        yield _row(each, (False, each.action not in GPUD_SAYS[first]))


if __name__ == "__main__":
    print("\n".join(markdown()))
