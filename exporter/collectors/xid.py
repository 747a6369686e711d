"""XID errors counted from the kernel log."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from exporter.board import Board, BoardView
from exporter.boot import BootReader
from exporter.collectors.base import CollectorError
from exporter.exposition import Sample
from exporter.inventory import bus_key
from exporter.kmsg import KmsgReader
from exporter.xid import xid_catalogue
from exporter.xid_ledger import Ledger


class XidErrors:
    """Reads what the kernel log has new, counts it, keeps the counts, and only then shows them."""

    name = "xid"
    inline = False
    interval = 1.0

    def __init__(
        self,
        board: Board,
        reader: KmsgReader,
        boot: BootReader,
        ledger: Ledger,
        log: Callable[..., None],
    ) -> None:
        self._board = board
        self._reader = reader
        self._boot = boot
        self._ledger = ledger
        self._log = log

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._board.view(now)
        if view.failure and not view.gpus:
            raise CollectorError("no GPU is known yet, so no XID could be given to one")
        ledger = self._ledger
        records, position = self._reader.read(ledger.totals.position)
        gpus = {key: gpu.uuid for gpu in view.gpus if (key := bus_key(gpu.device.pci_bus_id))}
        ledger.take(records, position, self._boot.read(), gpus, now)
        if ledger.dirty:
            try:
                ledger.save()
            except OSError as error:  # the counts stay, in memory, and are written next time
                self._log("xid_counts_not_saved", why=str(error))
        yield from self._samples(view)

    def _samples(self, view: BoardView) -> Iterator[Sample]:
        totals = self._ledger.totals
        zeros = {str(xid.code): 0 for xid in xid_catalogue().values() if xid.zero}
        for gpu in view.gpus:
            key = (str(gpu.index), gpu.uuid)
            for code, count in (zeros | totals.counts.get(gpu.uuid, {})).items():
                yield Sample("gpu_xid_errors_total", (*key, code), count)
            for code, at in totals.latest.get(gpu.uuid, {}).items():
                yield Sample("gpu_xid_last_timestamp_seconds", (*key, code), round(at, 3))
        yield Sample("gpu_exporter_xid_unmatched_total", (), totals.unmatched)
        lost = totals.dropped + self._reader.malformed
        yield Sample("gpu_exporter_kmsg_dropped_total", (), lost)
