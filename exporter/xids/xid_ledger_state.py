"""The stored state of the XID ledger: the structure of its file."""

from __future__ import annotations

import msgspec

from exporter.xids.kmsg import Position
from exporter.xids.pairing import Waiting, Witness
from exporter.xids.xid import Bus
from exporter.xids.xid_catalogue import Action, Severity


class XidReport(msgspec.Struct, frozen=True):
    """One report of an XID by the kernel log or the driver.

    `at` is the time of the error and `seen` the arrival time (for pairing). `boot` is the boot id.
    """

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
    """An XID that requires an action and is not known to be fixed."""

    code: int
    action: Action
    since: float
    at: float


class RecentError(msgspec.Struct):
    """An entry in the list of recent errors. Repeats within a minute are merged, with a `count`.

    `device` is a GPU's UUID, or for an SXID the bus address of the NVSwitch.
    """

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
    """The latest observation of a GPU, to detect resets: whether it was lost, and its energy
    counter."""

    lost: bool = False
    energy: float | None = None
    at: float = 0.0


class LedgerState(msgspec.Struct):
    """The whole state of the XID ledger.

    Counts and latest times are stored by UUID and code. For NVSwitches, they are stored by bus
    address and code. A code is a string, or `other` if there are too many codes.
    """

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
