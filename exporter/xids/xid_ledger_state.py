"""The stored state of the XID ledger: the structure of its file."""

from __future__ import annotations

import msgspec

from exporter.xids.kmsg import Position
from exporter.xids.pairing import Waiting, Witness
from exporter.xids.xid import Bus
from exporter.xids.xid_catalogue import Action, Severity


class XidReport(msgspec.Struct, frozen=True):
    """One report of an XID. `at` is the time of the error, `seen` the arrival time (for pairing), `boot`
    the boot of the error."""

    witness: Witness
    uuid: str
    bus: Bus | None
    code: int
    at: float
    seen: float
    boot: str = ""
    coded: bool = True
    fatal: bool | None = None
    subcode: int | None = None
    recovery: Action | None = None
    text: str = ""


class UnresolvedXid(msgspec.Struct):
    """An XID that calls for an action and is not known to be fixed."""

    code: int
    action: Action
    since: float
    at: float


class RecentError(msgspec.Struct):
    """An error for the list of recent events. Repeats within a minute are merged into one event with a
    `count`. `device` is a GPU's uuid, or for an SXID the switch's bus address."""

    kind: str
    device: str
    code: int
    name: str
    severity: Severity
    action: Action
    first: float
    last: float
    count: int
    source: str
    text: str


class GpuObservation(msgspec.Struct):
    """The latest observation of a GPU, for detecting resets: whether it was lost, and its energy counter."""

    lost: bool = False
    energy: float | None = None
    at: float = 0.0


class LedgerState(msgspec.Struct):
    """The whole state. Counts and latest times are by uuid and code (as text; `other` when there are too
    many), those of switches by bus address and code."""

    boot_id: str = ""
    boot_at: float = 0.0
    sequence: int = -1
    microseconds: int = 0
    position: Position = Position()
    drift: float = 0.0
    excused: int = 0
    counts: dict[str, dict[str, int]] = {}
    latest: dict[str, dict[str, float]] = {}
    switches: dict[str, dict[str, int]] = {}
    switches_latest: dict[str, dict[str, float]] = {}
    kernel: dict[str, int] = {}
    sources: dict[str, int] = {}
    losses: dict[str, tuple[float, bool]] = {}
    pending: dict[str, Waiting] = {}
    homeless: list[tuple[float, XidReport]] = []
    standing: dict[str, dict[str, UnresolvedXid]] = {}
    seen: dict[str, GpuObservation] = {}
    recent: list[RecentError] = []
    unmatched: int = 0
    dropped: int = 0
