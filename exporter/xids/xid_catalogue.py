"""What XIDs and SXIDs mean and call for: xid_catalogue.yml, sxid_catalogue.yml, and what a site says
otherwise. `python -m exporter.xids.xid_catalogue` prints docs/xids.md.
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

# The actions from the weakest to the strongest.
ACTIONS: tuple[Action, ...] = (
    "none", "restart_app", "reset_gpu", "drain_reset", "reboot_node", "inspect",
)  # fmt: skip
RANK: dict[Action, int] = {action: rank for rank, action in enumerate(ACTIONS)}

# What the driver asks for (field 230, XID 154), in the words of gpu_recovery_action and in the order of
# its numbers. To recover IMEX is to restart that service and the job.
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
# Which of our actions say the same as NVIDIA's immediate action.
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
# The same for what GPUd does first.
GPUD_SAYS: dict[str, tuple[Action, ...]] = {
    "absent": ACTIONS,
    "none": ("none",),
    "ignore": ("none",),
    "check_app": ("restart_app",),
    "reboot": ("reboot_node",),
    "inspect": ("inspect",),
}


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code. `zero` says that it is counted from 0 for every GPU, `by_line` that the line in the
    kernel log decides how bad it is."""

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
    """What a site says of one code; what it leaves out stays."""

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
    """The shipped XIDs by code."""
    return {each.code: each for each in load_rows(XIDS, "xids", Code)}


@cache
def sxid_catalogue() -> Mapping[int, Code]:
    """The shipped SXIDs by code."""
    return {each.code: each for each in load_rows(SXIDS, "sxids", Code)}


class Codes:
    """The codes as they hold at this site."""

    def __init__(self, overrides: _Overrides | None = None) -> None:
        given = overrides or _Overrides()
        self._xids = dict(xid_catalogue())
        self._sxids: dict[int, Code] | None = None  # few nodes ever log one: read at the first
        self._sxid_overrides = given.sxids
        _apply(self._xids, given.xids, "XID")
        self.zeros = tuple(str(code) for code, each in self._xids.items() if each.zero)

    @classmethod
    def of_site(cls, path: Path | None) -> Codes:
        """The catalogue with the overrides of a YAML file. Raises UserError that names the place."""
        if path is None:
            return cls()
        overrides = load(path, _Overrides)
        _check(path, "xids", overrides.xids, MAX_XID)
        _check(path, "sxids", overrides.sxids, MAX_SXID)
        return cls(overrides)

    def knows(self, code: int) -> bool:
        """Whether an XID is in the catalogue or named by the site."""
        return code in self._xids

    def xid(self, code: int) -> Code:
        """What an XID means; one that nobody knows is a warning that calls for nothing."""
        return self._xids.get(code) or Code(code, f"XID {code}", "warning", "none")

    def sxid(self, code: int) -> Code:
        """What an SXID means; one that nobody knows is a warning that calls for nothing."""
        if self._sxids is None:
            self._sxids = dict(sxid_catalogue())
            _apply(self._sxids, self._sxid_overrides, "SXID")
        return self._sxids.get(code) or Code(code, f"SXID {code}", "warning", "none")


def _apply(codes: dict[int, Code], overrides: Mapping[int, Override], kind: str) -> None:
    for code, override in overrides.items():
        given = {name: value for name in Override.__struct_fields__
                 if (value := getattr(override, name)) is not None}  # fmt: skip
        before = codes.get(code) or Code(code, f"{kind} {code}", "warning", "none")
        codes[code] = msgspec.structs.replace(before, **given)


def _check(path: Path, where: str, overrides: Mapping[int, Override], most: int) -> None:
    for code in overrides:
        if not 0 < code <= most:
            raise UserError(f"{path}: at $.{where}: there is no code {code}; give 1 to {most}.")


def differences(each: Code) -> tuple[bool, bool]:
    """Whether our action differs from NVIDIA's and from what GPUd does first."""
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
    """docs/xids.md, line by line."""
    yield from (
        "# XIDs and SXIDs",
        "",
        "<!-- Generated by `python -m exporter.xids.xid_catalogue > docs/xids.md`; edit exporter/xids/xid_catalogue.yml and",
        "exporter/xids/sxid_catalogue.yml. -->",
        "",
        "What the codes mean to an operations team, and what cures them:",
        f"{' < '.join(ACTIONS)}. `≠` marks where our action is another one than",
        "NVIDIA's immediate action, or than what GPUd does first; the last column says why. A code that is not here is",
        "counted all the same, as a warning that calls for nothing. A site says otherwise in the file of",
        "`--collector.xid.overrides`.",
        "",
        "Errors that programs make (13, 31, 43, 45) and that the driver contained (94) never take a GPU away.",
        "",
        "| code | name | severity | action | NVIDIA | GPUd | from 0 | why |",
        "|---|---|---|---|---|---|---|---|",
    )
    for each in xid_catalogue().values():
        yield _row(each, differences(each))
    yield from (
        "",
        "## NVSwitch errors (SXIDs)",
        "",
        "They concern a switch and the links on it; a GPU that is hit says so itself with XID 74. `NVIDIA` is the class",
        "in NVIDIA's guide.",
        "",
        "| code | name | severity | action | NVIDIA | GPUd | from 0 | why |",
        "|---|---|---|---|---|---|---|---|",
    )
    for each in sxid_catalogue().values():
        first = each.gpud.partition("/")[2].partition("+")[0]
        yield _row(each, (False, each.action not in GPUD_SAYS[first]))


if __name__ == "__main__":
    print("\n".join(markdown()))
