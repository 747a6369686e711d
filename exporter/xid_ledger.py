"""What was counted of the kernel log so far, and up to which record. Kept on disk by the collector.

Counts and position are one value, written whole: after a crash the records behind the position are
read again on top of the counts that belong to it, so none is lost and none counted twice.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporter.boot import BootTime
from exporter.kmsg import Position, Record
from exporter.xid import Bus, Event, LineParser, Losses, xid_catalogue
from fleetmedic.kernel.files import write_atomic

MAX_UNKNOWN_CODES = 64
_BACKWARDS = 1_000_000  # microseconds: the clock of the log starts anew with a boot


class Totals(msgspec.Struct):
    """Counts and latest times by uuid and code (as text; `other` where there are too many)."""

    boot_id: str = ""
    boot_at: float = 0.0
    sequence: int = -1
    microseconds: int = 0
    position: Position = Position()
    counts: dict[str, dict[str, int]] = {}
    latest: dict[str, dict[str, float]] = {}
    losses: dict[str, tuple[float, bool]] = {}
    unmatched: int = 0
    dropped: int = 0


class Ledger:
    """Takes records in. `totals` is what it knows; `dirty` says that it must be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parser = LineParser()
        self.dirty = False
        try:
            self.totals = msgspec.json.decode(path.read_bytes(), type=Totals)
        except (OSError, msgspec.DecodeError):
            self.totals = Totals()

    def save(self) -> None:
        """Write counts and position together. Raises OSError; then they are still to be written."""
        write_atomic(self._path, msgspec.json.encode(self.totals))
        self.dirty = False

    def take(
        self,
        records: list[Record],
        position: Position,
        boot: BootTime,
        gpus: dict[Bus, str],
        now: float,
    ) -> None:
        """Count the records of this read. `gpus` maps a bus address to a uuid.

        A regular file (position.inode is not 0) may hold several boots, told apart by the kernel's
        first record or a clock that runs backwards; a device holds the present boot alone.
        """
        totals = self.totals
        if position.inode == 0 or not totals.boot_id:
            self._enter(boot)
        if position.inode and position.inode != totals.position.inode:
            records = _after_last_boot(records)
            self._enter(boot)
        for record in records:
            if position.inode and _starts_boot(record, totals.microseconds):
                self._enter(boot, force=True)
            self._record(record, gpus, now)
        totals.position = position

    def _enter(self, boot: BootTime, *, force: bool = False) -> None:
        totals = self.totals
        if force or totals.boot_id != boot.boot_id:
            totals.sequence, totals.microseconds = -1, 0
        totals.boot_id, totals.boot_at = boot.boot_id, boot.at

    def _record(self, record: Record, gpus: dict[Bus, str], now: float) -> None:
        totals = self.totals
        if record.sequence <= totals.sequence:
            return
        if totals.sequence >= 0:
            totals.dropped += record.sequence - totals.sequence - 1
        totals.sequence, totals.microseconds = record.sequence, record.microseconds
        event = self._parser.feed(record.text)
        if event is not None:
            at = min(now, totals.boot_at + record.microseconds / 1e6)
            self._event(event, gpus, at)
            self.dirty = True

    def _event(self, event: Event, gpus: dict[Bus, str], at: float) -> None:
        totals = self.totals
        uuid = gpus.get(event.bus) if event.bus else None
        if uuid is None:
            totals.unmatched += 1
            return
        if not Losses(totals.losses).counts(uuid, event, at):
            return
        counts = totals.counts.setdefault(uuid, {})
        code = str(event.code)
        if code not in counts and event.code not in xid_catalogue():
            unknown = sum(
                1 for key in counts if not key.isdigit() or int(key) not in xid_catalogue()
            )
            code = "other" if unknown >= MAX_UNKNOWN_CODES else code
        counts[code] = counts.get(code, 0) + 1
        totals.latest.setdefault(uuid, {})[code] = at


def _starts_boot(record: Record, before: int) -> bool:
    return record.first_of_boot or record.microseconds < before - _BACKWARDS


def _after_last_boot(records: list[Record]) -> list[Record]:
    """The records of the latest boot in a file that is read from its start."""
    start = 0
    for number, record in enumerate(records):
        if number and _starts_boot(record, records[number - 1].microseconds):
            start = number
    return records[start:]
