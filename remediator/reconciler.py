"""The real driver: every so often, Alertmanager's active alerts, the cluster and the journal are compared.

A webhook is only a hint that comes sooner. What it missed is picked up here, what is over is noticed
here, and every open incident looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from remediator.clusters.base import Cluster, ClusterError
from remediator.core import events
from remediator.core.book import Book
from remediator.core.model import OWNER, Alert
from remediator.engine import Appends, Engine
from remediator.http import AlertmanagerClient, HttpError
from remediator.journal import JournalDown
from remediator.metrics import Metrics

log = structlog.get_logger("remediator")
# An alert that was received this lately may not be in Alertmanager's answer yet (seconds).
SETTLING = 60.0


@dataclass(frozen=True, slots=True)
class Sources:
    """What is compared; `alertmanager` is None where none is configured."""

    alertmanager: AlertmanagerClient | None
    cluster: Cluster
    book: Book
    now: Callable[[], float]


class Reconciler:
    """Runs until cancelled. `wake` makes the next pass come at once."""

    def __init__(
        self, sources: Sources, engine: Engine, journal: Appends, metrics: Metrics, every: float
    ) -> None:
        self._from = sources
        self._engine = engine
        self._journal = journal
        self._metrics = metrics
        self._every = every
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Compare as soon as possible."""
        self._wake.set()

    async def run(self) -> None:
        """Compare, wait, compare again."""
        while True:
            self._wake.clear()
            try:
                await self.once()
            except JournalDown as error:
                log.error("journal_down", error=str(error))
            except Exception:
                log.exception("reconcile_failed")
            try:
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def once(self) -> None:
        """One pass."""
        now = self._from.now()
        active = await self._active()
        missed = 0
        if active is not None:
            missed = await self._engine.receive(active, "reconciler")
            await self._engine.receive(gone(self._from.book, active, now), "reconciler")
        await self._look_at_quarantines()
        firing = sum(
            1
            for record in self._from.book.episodes.values()
            if record.alert.firing and record.alert.name != "Watchdog"
        )
        incidents = len(self._from.book.open_incidents())
        if firing or incidents:
            await self._journal.append((events.reconciled(now, firing, missed, incidents),))
        self._metrics.reconciled(now)
        self._engine.wake_all()

    async def _active(self) -> tuple[Alert, ...] | None:
        if self._from.alertmanager is None:
            return None
        try:
            return await self._from.alertmanager.active()
        except HttpError as error:
            log.warning("alertmanager_unreachable", error=str(error))
            return None

    async def _look_at_quarantines(self) -> None:
        """Say which quarantines carry our name and belong to no incident: a person must judge them."""
        try:
            nodes = await self._from.cluster.list_nodes()
        except ClusterError as error:
            log.warning("cluster_unreachable", error=str(error))
            return
        kept = {target for one in self._from.book.open_incidents() for target in one.quarantined}
        names = {str(target) for target in kept}
        ours = [
            name
            for node in nodes
            for name, held in (
                (f"node/{node.name}", node.quarantine),
                *((f"gpu/{node.name}/{gpu.index}", gpu.quarantine) for gpu in node.gpus),
            )
            if held is not None and held.owner == OWNER
        ]
        busy = any(one.prepared for one in self._from.book.open_incidents())
        if not busy and (strays := [name for name in ours if name not in names]):
            log.warning("quarantine_without_incident", targets=strays)


def gone(book: Book, active: tuple[Alert, ...], now: float) -> list[Alert]:
    """The alerts that fire as far as we heard, and that Alertmanager no longer has. Pure."""
    here = {alert.key for alert in active}
    return [
        replace(record.alert, firing=False)
        for key, record in book.episodes.items()
        if record.alert.firing and key not in here and now - record.received > SETTLING
    ]
