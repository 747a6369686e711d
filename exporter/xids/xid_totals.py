"""What the ledger of XIDs keeps: the shape of its file."""

from __future__ import annotations

import msgspec

from exporter.xids.kmsg import Position
from exporter.xids.pairing import Waiting, Witness
from exporter.xids.xid import Bus
from exporter.xids.xid_catalogue import Action, Severity


class Heard(msgspec.Struct, frozen=True):
    """One report of an XID. `at` is when it happened, `seen` when it reached us (for pairing), `boot`
    the boot that it belongs to."""

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


class Standing(msgspec.Struct):
    """An XID that calls for something and is not known to be cured."""

    code: int
    action: Action
    since: float
    at: float


class Recent(msgspec.Struct):
    """An error for people to read; one that repeats within a minute is one with a `count`. `device`
    is a GPU's uuid, or for an SXID the switch's bus address."""

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


class Seen(msgspec.Struct):
    """What was last seen of a GPU that tells of a reset: it was gone, or its energy began anew."""

    lost: bool = False
    energy: float | None = None
    at: float = 0.0


class Totals(msgspec.Struct):
    """Everything that is kept. Counts and latest times are by uuid and code (as text; `other` where
    there are too many), those of switches by bus address."""

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
    homeless: list[tuple[float, Heard]] = []
    standing: dict[str, dict[str, Standing]] = {}
    seen: dict[str, Seen] = {}
    recent: list[Recent] = []
    unmatched: int = 0
    dropped: int = 0
