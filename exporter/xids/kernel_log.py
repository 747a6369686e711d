"""The one reader of the kernel log, for all that is told of it: XIDs, NVSwitch errors, the host.

Reads what is new, joins it with what the driver told of its own accord, counts, and writes the counts
before they are shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from exporter.board import AHEAD, Board, BoardView
from exporter.boot import BootReader
from exporter.inventory import bus_key
from exporter.xids.kmsg import Batch, KmsgReader
from exporter.xids.recommend import LOOKBACK_SECONDS, Recommendation, recommendations
from exporter.xids.xid_ledger import Ledger
from exporter.xids.xid_totals import Recent, Totals

LIVE_SECONDS = 5.0
SAME_SECONDS = 0.5  # two collectors ask each second, and one reading serves both
LATELY_SECONDS = 15.0  # whoever reads it does so each second
MAX_BATCHES = 50  # of 4 MB each, in one advance


Numbers = dict[str, dict[str, int]]
Times = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Counted:
    """What stands after an advance, as the ledger has it. `failure` is why the kernel log cannot be
    read, or empty."""

    xids: Numbers
    xids_latest: Times
    sxids: Numbers
    sxids_latest: Times
    kernel: dict[str, int]
    sources: dict[str, int]
    unmatched: int
    dropped: int
    failure: str

    @classmethod
    def of(cls, totals: Totals, failure: str) -> Counted:
        """A copy that nobody changes any more."""
        return cls(
            xids={uuid: dict(codes) for uuid, codes in totals.counts.items()},
            xids_latest={uuid: dict(codes) for uuid, codes in totals.latest.items()},
            sxids={switch: dict(codes) for switch, codes in totals.switches.items()},
            sxids_latest={switch: dict(codes) for switch, codes in totals.switches_latest.items()},
            kernel=dict(totals.kernel),
            sources=dict(totals.sources),
            unmatched=totals.unmatched,
            dropped=totals.dropped,
            failure=failure,
        )


class KernelLog:
    """Every method may be called from any thread."""

    def __init__(
        self,
        board: Board,
        reader: KmsgReader,
        boot: BootReader,
        ledger: Ledger,
        log: Callable[..., None],
        lookback: float = LOOKBACK_SECONDS,
    ) -> None:
        self._board = board
        self._reader = reader
        self._boot = boot
        self._ledger = ledger
        self._log = log
        self._lookback = lookback
        # Whose turn it is to change what is known; whoever reads and writes files has it. Only a change
        # itself is made under the lock, so that nobody who asks waits for a disk.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._drained = 0.0
        self._turned = float("-inf")
        self._complaint = ""
        self._counted: tuple[float, Counted] | None = None
        self._since: dict[str, Recommendation] = {}
        self.failure = ""  # why the kernel log could not be read the last time, or empty

    @property
    def zeros(self) -> tuple[str, ...]:
        """The XIDs that are counted from 0."""
        return self._ledger.codes.zeros

    def read_lately(self, now: float) -> bool:
        """Whether somebody read it, or tried to, a moment before Unix time `now`."""
        return -AHEAD <= now - self._turned <= LATELY_SECONDS

    def counted(self, now: float) -> Counted:
        """What stands at Unix time `now`, as it was read a moment ago or is read now. Raises as
        `advance` does."""
        with self._turn:
            if self._counted is not None and 0 <= now - self._counted[0] <= SAME_SECONDS:
                return self._counted[1]
            return self._advance(self._board.view(now), now)

    def advance(self, view: BoardView, now: float) -> Counted:
        """Take in all that is new at Unix time `now`. Raises OSError or UserError when the boot
        cannot be known; a kernel log that cannot be read is told in the answer."""
        with self._turn:
            return self._advance(view, now)

    def _advance(self, view: BoardView, now: float) -> Counted:
        """The advance of whoever has the turn."""
        boot = self._boot.read()
        gpus = {key: gpu.uuid for gpu in view.gpus if (key := bus_key(gpu.device.pci_bus_id))}
        ledger, failure = self._ledger, ""
        told = self._board.take_events()
        for _ in range(MAX_BATCHES):
            live = 0 <= now - self._drained <= LIVE_SECONDS
            try:
                batch = self._reader.read(ledger.totals.position)
            except OSError as error:
                failure = f"the kernel log cannot be read: {error.strerror}"
                batch = Batch([], ledger.totals.position)
            with self._lock:
                ledger.take(batch, boot, gpus, now, live=live, told=told)
            told = []
            if not batch.full:
                break
        self.failure, self._turned = failure, now
        self._drained = 0.0 if failure or batch.full else now
        with self._lock:
            ledger.observe(view, now)
        if ledger.due(now):
            self._save(now)
        counted = Counted.of(ledger.totals, failure)
        self._counted = (now, counted)
        return counted

    def _save(self, now: float) -> None:
        """Written before it is shown; what cannot be written stays in memory for the next time."""
        try:
            self._ledger.save(now)
            complaint = ""
        except OSError as error:
            complaint = error.strerror or str(error)
        if complaint != self._complaint:
            self._complaint = complaint
            event = "xid_counts_not_saved" if complaint else "xid_counts_saved_again"
            self._log(event, why=complaint)

    def recommendations(self, view: BoardView, now: float) -> dict[str, Recommendation]:
        """What should be done about each GPU whose state is known, by uuid."""
        with self._lock:
            standing = self._ledger.totals.standing
            found = recommendations(view, standing, now, self._lookback)
            for uuid, each in found.items():
                before = self._since.get(uuid)
                if before is not None and before[:2] == each[:2]:
                    found[uuid] = before
            self._since = found
            return dict(found)

    def recent(self) -> tuple[Recent, ...]:
        """The latest errors, oldest first."""
        with self._lock:
            return tuple(msgspec.structs.replace(each) for each in self._ledger.totals.recent)

    def latest(self) -> dict[str, int]:
        """The code of the latest XID of each GPU that had one, by uuid."""
        with self._lock:
            times = self._ledger.totals.latest
            found = {
                uuid: max(codes, key=codes.__getitem__) for uuid, codes in times.items() if codes
            }
        return {uuid: int(code) for uuid, code in found.items() if code.isdecimal()}
