"""The XID ledger: the counts of errors in the kernel log and the driver's events, and the position
in the log.

Counts and position are saved together, atomically. After a crash, the records after the saved
position are read again and added to the saved counts, so that no record is lost or counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from exporter.boot import BootTime
from exporter.gpu_inventory import bus_key
from exporter.gpu_states import GpuStatus, NodeSnapshot
from exporter.sources.base import GpuEvent
from exporter.xids.kernel_events import kernel_event
from exporter.xids.kmsg import Batch, KmsgRecord
from exporter.xids.pairing import Pairs
from exporter.xids.xid import (
    FALLEN_OFF_THE_BUS,
    Bus,
    LineParser,
    Losses,
    SwitchEvent,
    XidEvent,
    classify,
)
from exporter.xids.xid_catalogue import RANK, Codes
from exporter.xids.xid_ledger_state import (
    GpuObservation,
    LedgerState,
    RecentError,
    UnresolvedXid,
    XidReport,
)
from fleetmedic.kernel.files import write_atomic

MAX_UNKNOWN_CODES = 64
MAX_SWITCHES = 64
MAX_SXIDS = 128
MAX_HOMELESS = 2000
MAX_RECENT = 200
HOLD_SECONDS = 60.0  # seconds for which an XID of an unknown GPU is kept
TOGETHER_SECONDS = 60.0  # repeated errors within this time are merged into one recent event
SAVE_SECONDS = 30.0  # interval at which the position is saved, even if nothing was counted
_BACKWARDS = 1_000_000  # microseconds; the log's clock restarts with each boot
_DRIFT = 2.0  # seconds; a larger drift of the log's clock is corrected


class XidLedger:
    """Counts error reports. `totals` is its state. `dirty`: the state must be saved now."""

    def __init__(self, path: Path, codes: Codes | None = None) -> None:
        self._path = path
        self.codes = codes or Codes()
        self._parser = LineParser()
        self.dirty = False
        self._moved = False
        self._saved = 0.0
        try:
            self.totals = msgspec.json.decode(path.read_bytes(), type=LedgerState)
        except (OSError, msgspec.DecodeError):
            self.totals = LedgerState()
        self._latest_recent = {_key(event): event for event in self.totals.recent}

    def due(self, now: float) -> bool:
        """Return whether the ledger must be saved at Unix time `now`."""
        return self.dirty or (self._moved and not 0 <= now - self._saved < SAVE_SECONDS)

    def save(self, now: float = 0.0) -> None:
        """Save counts and position together. If it raises OSError, the ledger must still be saved."""
        write_atomic(self._path, msgspec.json.encode(self.totals))
        self.dirty = self._moved = False
        self._saved = now

    def take(
        self,
        batch: Batch,
        boot: BootTime,
        gpus: Mapping[Bus, str],
        now: float,
        *,
        live: bool = False,
        driver_events: Sequence[tuple[float, GpuEvent]] = (),
    ) -> None:
        """Count the records of a read, and the driver's events with their arrival times.

        `gpus` maps bus addresses to UUIDs. `live`: the previous read was just before, so these
        records are new. A regular file (its inode is not 0) may contain several boots. A new boot
        is recognised by the kernel's first record, or by a clock that goes back. A device contains
        only records of the current boot.
        """
        reports = self._records(batch, boot, now, live=live)
        reports += [
            _report_of(at, event, boot) for at, event in driver_events if event.kind == "xid"
        ]
        reports.sort(key=lambda each: each.seen)
        waiting, self.totals.homeless = self.totals.homeless, []
        self.dirty |= bool(reports)
        for arrived, report in [*waiting, *((now, report) for report in reports)]:
            self._assign(report, gpus, arrived, now)
        Pairs(self.totals.pending).forget(now)
        if batch.gone and batch.records:
            self.dirty = True

    def _records(self, batch: Batch, boot: BootTime, now: float, *, live: bool) -> list[XidReport]:
        totals, records, position = self.totals, batch.records, batch.position
        if position.inode == 0 or not totals.boot_id or not records:
            self._enter_boot(boot)
        if position.inode and position.inode != totals.position.inode:
            records = _after_last_boot(records)
            self._enter_boot(boot)
        if live and records:
            last = max(record.microseconds for record in records)
            totals.drift = now - (totals.boot_at + last / 1e6)
        reports: list[XidReport] = []
        for record in records:
            if position.inode and _starts_boot(record, totals.microseconds):
                self._enter_boot(boot, force=True)
            reports += self._record(record, now, live=live)
        self._count_invalid(batch.junk)
        self._moved |= bool(records) or position != totals.position
        totals.position = position
        return reports

    def _enter_boot(self, boot: BootTime, *, force: bool = False) -> None:
        totals = self.totals
        if force or totals.boot_id != boot.boot_id:
            totals.sequence, totals.microseconds, totals.excused = -1, 0, 0
            totals.drift = 0.0
            totals.standing, totals.losses, totals.pending, totals.seen = {}, {}, {}, {}
            self.dirty = True
        totals.boot_id, totals.boot_at = boot.boot_id, boot.at

    def _count_invalid(self, lines: int) -> None:
        """Count invalid lines of the kernel log as dropped records.

        They are excluded from the gap in the sequence numbers, so that they are not counted twice.
        """
        self.totals.dropped += lines
        self.totals.excused += lines

    def _record(self, record: KmsgRecord, now: float, *, live: bool) -> list[XidReport]:
        totals = self.totals
        self._count_invalid(record.junk)
        if record.sequence <= totals.sequence:
            return []
        if totals.sequence >= 0:
            totals.dropped += max(0, record.sequence - totals.sequence - 1 - totals.excused)
        totals.excused = 0
        totals.sequence, totals.microseconds = record.sequence, record.microseconds
        drift = totals.drift if abs(totals.drift) > _DRIFT else 0.0
        at = min(now, totals.boot_at + record.microseconds / 1e6 + drift)
        seen = max(at, now - _DRIFT) if live else at
        event = self._parser.feed(record.text)
        if isinstance(event, XidEvent):
            return [
                XidReport(
                    "kernel",
                    "",
                    event.bus,
                    event.code,
                    at,
                    seen,
                    totals.boot_id,
                    event.coded,
                    event.fatal,
                    event.subcode,
                    event.recovery,
                    event.text,
                )
            ]
        if isinstance(event, SwitchEvent):
            self._switch(event, at)
        elif kind := kernel_event(record.text):
            totals.kernel[kind] = totals.kernel.get(kind, 0) + 1
            self.dirty = True
        return []

    def _assign(
        self, report: XidReport, gpus: Mapping[Bus, str], arrived: float, now: float
    ) -> None:
        """Count a report for its GPU, or keep the report until the GPU is known."""
        uuid = report.uuid if report.uuid in gpus.values() else ""
        if not uuid and report.bus is not None:
            uuid = gpus.get(report.bus, "")
        totals = self.totals
        if uuid:
            self._event(report, uuid)
        elif len(totals.homeless) < MAX_HOMELESS and (not gpus or now - arrived < HOLD_SECONDS):
            totals.homeless.append((arrived if gpus else now, report))
            return
        else:
            totals.unmatched += 1
        self.dirty = True

    def _event(self, report: XidReport, uuid: str) -> None:
        totals = self.totals
        loss = report.code == FALLEN_OFF_THE_BUS and report.witness == "kernel"
        if loss and not Losses(totals.losses).counts(uuid, report.coded, report.seen):
            return
        totals.sources[report.witness] = totals.sources.get(report.witness, 0) + 1
        pair = Pairs(totals.pending)
        counts = pair.counts(f"{uuid} {report.code}", report.witness, report.seen)
        by_code = totals.counts.setdefault(uuid, {})
        label = self._label(by_code, report.code)
        if counts:
            by_code[label] = by_code.get(label, 0) + 1
        latest = totals.latest.setdefault(uuid, {})
        latest[label] = max(report.at, latest.get(label, 0.0))
        self._record_xid(report, uuid, counts=counts)

    def _label(self, by_code: dict[str, int], code: int) -> str:
        label = str(code)
        if label in by_code or self.codes.knows(code):
            return label
        unknown = sum(1 for key in by_code if not key.isdigit() or not self.codes.knows(int(key)))
        return "other" if unknown >= MAX_UNKNOWN_CODES else label

    def _record_xid(self, report: XidReport, uuid: str, *, counts: bool) -> None:
        """Record the action of an XID, and add the XID to the recent errors."""
        code = self.codes.xid(report.code)
        severity, action = classify(code, report.fatal, report.subcode, report.recovery)
        standing = self.totals.standing.setdefault(uuid, {})
        if report.recovery == "none":  # the driver reports that no recovery is needed any more
            self.clear_unresolved(uuid, report.at)
        elif RANK[action] and report.boot == self.totals.boot_id:
            before = standing.get(str(report.code))
            if before and not report.recovery and RANK[before.action] > RANK[action]:
                action = before.action
            since = before.since if before and before.action == action else report.at
            at = max(report.at, before.at) if before else report.at
            standing[str(report.code)] = UnresolvedXid(report.code, action, since, at)
        self._add_recent(
            RecentError(
                "xid",
                uuid,
                report.code,
                code.name,
                severity,
                action,
                report.at,
                report.at,
                int(counts),
                report.witness,
                report.text,
            )
        )

    def _add_recent(self, event: RecentError) -> None:
        recent, key = self.totals.recent, _key(event)
        before = self._latest_recent.get(key)
        if before is not None and _same(before, event):
            before.last = max(before.last, event.last)
            before.count += event.count
            before.text = before.text or event.text
            before.source = event.source if before.source == event.source else "both"
            if RANK[event.action] > RANK[before.action]:
                before.severity, before.action = event.severity, event.action
            return
        recent.append(event)
        self._latest_recent[key] = event
        for old in recent[:-MAX_RECENT]:
            if self._latest_recent.get(_key(old)) is old:
                del self._latest_recent[_key(old)]
        del recent[:-MAX_RECENT]

    def _switch(self, event: SwitchEvent, at: float) -> None:
        totals = self.totals
        self.dirty = True
        switch = event.switch
        if switch not in totals.switches and len(totals.switches) >= MAX_SWITCHES:
            switch = "other"
        counts = totals.switches.setdefault(switch, {})
        label = str(event.code)
        if label not in counts and len(counts) >= MAX_SXIDS:
            label = "other"
        counts[label] = counts.get(label, 0) + 1
        totals.switches_latest.setdefault(switch, {})[label] = at
        code = self.codes.sxid(event.code)
        self._add_recent(
            RecentError(
                "sxid",
                switch,
                event.code,
                code.name,
                code.severity,
                code.action,
                at,
                at,
                1,
                "kernel",
                event.text,
            )
        )

    def clear_unresolved(self, uuid: str, before: float) -> None:
        """Remove the unresolved XIDs of this GPU up to Unix time `before`."""
        standing = self.totals.standing.get(uuid, {})
        for key in [key for key, each in standing.items() if each.at <= before]:
            del standing[key]
            self.dirty = True

    def observe(self, view: NodeSnapshot, now: float) -> None:
        """Detect resets: a lost GPU is back, or the energy counter of a GPU restarted."""
        for gpu in view.gpus:
            seen = self.totals.seen.setdefault(gpu.uuid, GpuObservation())
            if gpu.status is GpuStatus.LOST and not seen.lost:
                seen.lost = self.dirty = True
            elif gpu.status is GpuStatus.UP and seen.lost:
                seen.lost, self.dirty = False, True
                self.clear_unresolved(gpu.uuid, now)
            energy = gpu.value("load", "gpu_energy_joules_total")
            if energy is None:
                continue
            if seen.energy is not None and energy < seen.energy - 1.0:
                self.clear_unresolved(gpu.uuid, seen.at)
            seen.energy, seen.at = energy, gpu.groups["load"].at


def _report_of(at: float, event: GpuEvent, boot: BootTime) -> XidReport:
    """Convert a driver event to an XID report."""
    return XidReport(
        "nvml", event.uuid, bus_key(event.pci_bus_id), event.code, at, at, boot.boot_id
    )


def _key(event: RecentError) -> tuple[str, str, int]:
    return event.kind, event.device, event.code


def _same(before: RecentError, event: RecentError) -> bool:
    """Return whether two errors of the same kind are merged into one entry of the recent errors."""
    same_action = before.action == event.action or not before.text or not event.text
    return same_action and abs(event.first - before.last) <= TOGETHER_SECONDS


def _starts_boot(record: KmsgRecord, before: int) -> bool:
    return record.first_of_boot or record.microseconds < before - _BACKWARDS


def _after_last_boot(records: list[KmsgRecord]) -> list[KmsgRecord]:
    """Return the records of the latest boot in a file that was read from its start."""
    start = 0
    for number, record in enumerate(records):
        if number and _starts_boot(record, records[number - 1].microseconds):
            start = number
    return records[start:]
