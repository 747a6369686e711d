"""Parses XIDs and SXIDs in lines of the kernel log, and determines their severity and action. Pure.

A GPU that falls off the bus is logged as XID 79, as a line without a code, or as both. Both within
a few seconds are one error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from exporter.gpu_inventory import bus_key
from exporter.xids.xid_catalogue import DRIVER_SAYS, MAX_SXID, MAX_XID, Action, Code, Severity

FALLEN_OFF_THE_BUS = 79
RECOVERY_ACTION_CHANGED = 154
SAME_EVENT_SECONDS = 5.0
MAX_TEXT = 300

Bus = tuple[int, int, int]

_XID = re.compile(
    r"NVRM: Xid \(((?:PCI:)?[0-9a-fA-F:.]{4,20})(?: GPU-I:[0-9]{1,4})?\)[^:]{0,60}: ([0-9]{1,4})(?=[,\s]|$)"
)
_BUS = r"([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_FALLEN = re.compile(rf"NVRM:\s+GPU {_BUS}: GPU has fallen off the bus")
_NAMED = re.compile(rf"NVRM: The NVIDIA GPU {_BUS}")
_FALLEN_LATER = re.compile(r"NVRM:\s+(?:GPU )?(?:has )?fallen off the bus and is not responding")
_LINK = re.compile(r"\b(Fatal|Non-?fatal)\b(?:[^(]{0,80}\((0x[0-9a-fA-F]{1,8}))?", re.IGNORECASE)
_RECOVERY = re.compile(r"recovery action changed from .{0,60}? to 0x([0-9a-fA-F]{1,2})\b")
# An SXID is logged as three lines; the data and severity lines belong to the first.
_SXID = re.compile(
    rf"nvidia-nvswitch[0-9]{{1,3}}: SXid \((?:PCI:)?{_BUS}\): ([0-9]{{4,6}}), (?!Data |Severity )"
)
_RECOVERIES: dict[int, Action] = dict(enumerate(DRIVER_SAYS.values()))


@dataclass(frozen=True, slots=True)
class XidEvent:
    """An XID in a line of the kernel log. `coded` is False for a lost GPU that was logged without a
    code.

    The line may also say whether an NVLink error is `fatal`, why a link went down (`subcode`), and
    which action the driver recommends (`recovery`).
    """

    bus: Bus | None
    code: int
    coded: bool = True
    fatal: bool | None = None
    subcode: int | None = None
    recovery: Action | None = None
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SwitchEvent:
    """An SXID in a line of the kernel log. `switch` is the bus address of the NVSwitch."""

    switch: str
    code: int
    text: str = field(default="", compare=False)


class LineParser:
    """Parses lines of the kernel log. Remembers the GPU named in the first line of a multi-line
    message."""

    def __init__(self) -> None:
        self._named: Bus | None = None
        self._left = 0

    def feed(self, text: str) -> XidEvent | SwitchEvent | None:
        """Parse a line of the kernel log. Returns its XID or SXID; None if the line contains no error."""
        if text.startswith("nvidia-nvswitch"):
            return _switch_event(text)
        if not text.startswith("NVRM:"):
            return None
        if match := _XID.match(text):
            code = int(match[2])
            if not 0 < code <= MAX_XID:
                return None
            return _detailed(bus_key(match[1]), code, text, text[match.end() :])
        if match := _FALLEN.match(text):
            return XidEvent(
                bus_key(match[1]), FALLEN_OFF_THE_BUS, coded=False, text=text[:MAX_TEXT]
            )
        return self._later(text)

    def _later(self, text: str) -> XidEvent | None:
        if match := _NAMED.match(text):
            self._named, self._left = bus_key(match[1]), 4
        self._left -= 1
        if self._left >= 0 and self._named and _FALLEN_LATER.match(text):
            bus, self._named = self._named, None
            return XidEvent(bus, FALLEN_OFF_THE_BUS, coded=False, text=text[:MAX_TEXT])
        return None


def _detailed(bus: Bus | None, code: int, text: str, details: str) -> XidEvent:
    """Return the XID event with the details that its line contains."""
    fatal: bool | None = None
    subcode: int | None = None
    recovery: Action | None = None
    if 144 <= code <= 150 and (link := _LINK.search(details)):
        fatal = link[1].lower() == "fatal"
        subcode = int(link[2], 16) >> 20 & 0x3F if link[2] else None
    elif code == RECOVERY_ACTION_CHANGED and (wanted := _RECOVERY.search(details)):
        recovery = _RECOVERIES.get(int(wanted[1], 16))
    return XidEvent(bus, code, True, fatal, subcode, recovery, text[:MAX_TEXT])


def _switch_event(text: str) -> SwitchEvent | None:
    match = _SXID.match(text)
    if match is None or int(match[2]) > MAX_SXID:
        return None
    return SwitchEvent(match[1].lower(), int(match[2]), text[:MAX_TEXT])


def classify(
    code: Code, fatal: bool | None, subcode: int | None, recovery: Action | None
) -> tuple[Severity, Action]:
    """Return the severity and action of an XID from its catalogue entry and the details in its
    line of the kernel log.

    For some XIDs only the line determines the action. Until it is read, the action is none.
    """
    if not code.by_line:
        return code.severity, code.action
    if recovery is not None:
        return ("info" if recovery == "none" else "critical"), recovery
    if not fatal:
        return "warning", "none"
    if subcode in code.inspect_subcodes:
        return code.severity, "inspect"
    return code.severity, code.action


@dataclass(slots=True)
class Losses:
    """Recognises when the kernel log reports the same loss of a GPU twice, and counts it once.

    `open` contains, by GPU, the time of the counted loss and whether its line had a code.
    """

    open: dict[str, tuple[float, bool]]

    def counts(self, uuid: str, coded: bool, at: float) -> bool:
        """Record a lost GPU at Unix time `at`. Returns whether the loss counts as a new one.

        Every line with a code counts, except one that completes a pair.
        """
        before = self.open.get(uuid)
        if before is not None and abs(at - before[0]) <= SAME_EVENT_SECONDS:
            was_coded = before[1]
            if coded and not was_coded:
                self.open[uuid] = (before[0], True)
                return False
            if not coded:
                return False
        self.open[uuid] = (at, coded)
        return True
