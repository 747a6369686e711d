"""The shared reader of the kernel log, for XIDs, NVSwitch errors and host events.

It reads new records, pairs them with the driver's events, counts them, and saves the counts before
they are exported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from exporter.boot import BootReader
from exporter.gpu_inventory import bus_key
from exporter.gpu_states import AHEAD, GpuStates, NodeSnapshot
from exporter.xids.kmsg import Batch, KmsgReader
from exporter.xids.recommend import LOOKBACK_SECONDS, Recommendation, recommendations
from exporter.xids.xid_ledger import XidLedger
from exporter.xids.xid_ledger_state import LedgerState, RecentError

LIVE_SECONDS = 5.0
SAME_SECONDS = 0.5  # two collectors read each second and share one read of the log
LATELY_SECONDS = 15.0  # a working collector reads each second
MAX_BATCHES = 50  # of 4 MB each, in one call


Numbers = dict[str, dict[str, int]]
Times = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """The error counts after a read. `failure` is the reason why the kernel log cannot be read, or
    empty."""

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
    def of(cls, totals: LedgerState, failure: str) -> ErrorCounts:
        """Return an immutable copy of the error counts in the ledger."""
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
    """Reads the kernel log and counts its errors. All methods are thread-safe."""

    def __init__(
        self,
        gpu_states: GpuStates,
        reader: KmsgReader,
        boot: BootReader,
        ledger: XidLedger,
        log: Callable[..., None],
        lookback: float = LOOKBACK_SECONDS,
    ) -> None:
        self._gpu_states = gpu_states
        self._reader = reader
        self._boot = boot
        self._ledger = ledger
        self._log = log
        self._lookback = lookback
        # `_turn` serialises reads of the log, including their file access. `_lock` is only held for the change
        # itself, so that readers do not wait for the disk.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._drained = 0.0
        self._turned = float("-inf")
        self._logged = ""
        self._counted: tuple[float, ErrorCounts] | None = None
        self._since: dict[str, Recommendation] = {}
        self.failure = ""  # why the latest read of the kernel log failed, or empty

    @property
    def zeros(self) -> tuple[str, ...]:
        """The XIDs that are exported with the count 0 before they occur."""
        return self._ledger.codes.zeros

    def read_lately(self, now: float) -> bool:
        """Return whether a read was attempted shortly before Unix time `now`."""
        return -AHEAD <= now - self._turned <= LATELY_SECONDS

    def counted(self, now: float) -> ErrorCounts:
        """Return the counts at Unix time `now`. Reads the log unless this was just done.

        Raises the same exceptions as `advance`.
        """
        with self._turn:
            if self._counted is not None and 0 <= now - self._counted[0] <= SAME_SECONDS:
                return self._counted[1]
            return self._advance(self._gpu_states.snapshot(now), now)

    def advance(self, view: NodeSnapshot, now: float) -> ErrorCounts:
        """Count all new records and events at Unix time `now`.

        An unreadable kernel log is reported in `failure` of the result. Raises OSError or UserError
        if the boot cannot be determined.
        """
        with self._turn:
            return self._advance(view, now)

    def _advance(self, view: NodeSnapshot, now: float) -> ErrorCounts:
        """Count all new records and events, as `advance` does. The caller holds the lock `_turn`."""
        boot = self._boot.read()
        gpus = {key: gpu.uuid for gpu in view.gpus if (key := bus_key(gpu.device.pci_bus_id))}
        ledger, failure = self._ledger, ""
        driver_events = self._gpu_states.take_events()
        for _ in range(MAX_BATCHES):
            live = 0 <= now - self._drained <= LIVE_SECONDS
            try:
                batch = self._reader.read(ledger.totals.position)
            except OSError as error:
                failure = f"cannot read the kernel log: {error.strerror}"
                batch = Batch([], ledger.totals.position)
            with self._lock:
                ledger.take(batch, boot, gpus, now, live=live, driver_events=driver_events)
            driver_events = []
            if not batch.full:
                break
        self.failure, self._turned = failure, now
        self._drained = 0.0 if failure or batch.full else now
        with self._lock:
            ledger.observe(view, now)
        if ledger.due(now):
            self._save(now)
        counted = ErrorCounts.of(ledger.totals, failure)
        self._counted = (now, counted)
        return counted

    def _save(self, now: float) -> None:
        """Save the counts before they are exported. A failed save is repeated at the next read."""
        try:
            self._ledger.save(now)
            complaint = ""
        except OSError as error:
            complaint = error.strerror or str(error)
        if complaint != self._logged:
            self._logged = complaint
            event = "xid_counts_not_saved" if complaint else "xid_counts_saved_again"
            self._log(event, why=complaint)

    def recommendations(self, view: NodeSnapshot, now: float) -> dict[str, Recommendation]:
        """Return the recommended action of each GPU with a known state, by UUID."""
        with self._lock:
            standing = self._ledger.totals.standing
            found = recommendations(view, standing, now, self._lookback)
            for uuid, each in found.items():
                before = self._since.get(uuid)
                if before is not None and before[:2] == each[:2]:
                    found[uuid] = before
            self._since = found
            return dict(found)

    def recent(self) -> tuple[RecentError, ...]:
        """Return the latest XIDs and NVSwitch errors, oldest first."""
        with self._lock:
            return tuple(msgspec.structs.replace(each) for each in self._ledger.totals.recent)

    def latest(self) -> dict[str, int]:
        """Return the latest XID of each GPU that has one, by UUID."""
        with self._lock:
            times = self._ledger.totals.latest
            found = {
                uuid: max(codes, key=codes.__getitem__) for uuid, codes in times.items() if codes
            }
        return {uuid: int(code) for uuid, code in found.items() if code.isdecimal()}
