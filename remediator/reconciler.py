"""The reconciler: compares Alertmanager's alerts, the cluster and the journal at regular intervals.

A webhook only makes the reaction faster. The reconciler finds alerts that webhooks missed and
alerts that are over, and starts a new decision for every open incident.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from fleetmedic.kernel.labels import WATCHDOG, Target
from remediator.alert_states import AlertStates
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import ClusterError
from remediator.core import events
from remediator.core.evidence import AlertStatus
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert
from remediator.engine import Engine
from remediator.engine_context import EventAppender
from remediator.journal import JournalDown
from remediator.metrics import RemediatorMetrics
from remediator.notices import stray_notice
from remediator.senses import Senses

log = structlog.get_logger("remediator")


@dataclass(frozen=True, slots=True)
class ReconcilerSources:
    """The sources that the reconciler compares."""

    alerts: AlertStates
    senses: Senses
    journal_state: JournalState
    now: Callable[[], float]


class Reconciler:
    """Compares alerts, cluster and journal at every interval. `wake` starts a comparison immediately."""

    def __init__(
        self,
        sources: ReconcilerSources,
        engine: Engine,
        journal: EventAppender,
        metrics: RemediatorMetrics,
        every: float,
    ) -> None:
        self._from = sources
        self._engine = engine
        self._journal = journal
        self._metrics = metrics
        self._every = every
        self._wake = asyncio.Event()
        self._strays: frozenset[Target] = frozenset()
        self._logged: frozenset[Target] = frozenset()

    def wake(self) -> None:
        """Start the next comparison as soon as possible."""
        self._wake.set()

    async def run(self) -> None:
        """Compare alerts, cluster and journal at every interval, until cancelled."""
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
        """Compare alerts, cluster and journal once, and start new decisions."""
        now, alerts = self._from.now(), self._from.alerts
        await alerts.refresh(0.0)
        missed = await self._engine.receive(list(alerts.active()), "reconciler")
        await self._engine.withheld.record(alerts.withheld())
        await self._engine.receive(ended_alerts(self._from.journal_state, alerts), "reconciler")
        await self._engine.reconsider(alerts.active())
        await self._check_cluster()
        firing = sum(
            1
            for record in self._from.journal_state.firing_records()
            if record.alert.name != WATCHDOG
        )
        incidents = len(self._from.journal_state.open_incidents())
        if firing or incidents:
            await self._journal.append((events.reconciled(now, firing, missed, incidents),))
        self._metrics.set_last_reconciliation(now)
        self._engine.wake_all()

    async def _check_cluster(self) -> None:
        """Query the cluster: update the gauge of quarantined targets, start and end storms, find
        stray quarantines.
        """
        try:
            snapshot = await self._from.senses.snapshot()
        except ClusterError as error:
            log.warning("cluster_unreachable", error=str(error))
            self._metrics.set_nodes(None)
            return
        self._metrics.set_nodes(snapshot.nodes)
        await self._engine.storms.update(snapshot)
        await self._check_quarantines(snapshot)

    async def _check_quarantines(self, snapshot: ClusterSnapshot) -> None:
        """Notify people of the remediator's quarantines that belong to no incident and no order.

        While a step is in progress, nothing is decided. The log has one line for each change.
        """
        journal_state = self._from.journal_state
        if any(one.prepared for one in journal_state.open_incidents()):
            return
        strays = stray_quarantines(snapshot, journal_state)
        lasting = strays & self._strays  # seen in two passes, so no step has just ended
        if lasting and lasting != self._logged:
            log.warning("quarantine_without_incident", targets=sorted(map(str, lasting)))
        self._strays, self._logged = strays, lasting
        await self._journal.append(stray_notice(lasting, journal_state, self._from.now()))


def stray_quarantines(snapshot: ClusterSnapshot, journal_state: JournalState) -> frozenset[Target]:
    """Return the targets that the remediator quarantined, and that neither an open incident nor an
    operator's order keeps out of service. Pure.
    """
    known = {
        one
        for identity in journal_state.taking
        for one in journal_state.incidents[identity].quarantined
    }
    return snapshot.ours - known - journal_state.kept.keys()


def ended_alerts(journal_state: JournalState, alerts: AlertStates) -> list[Alert]:
    """Return the alerts that are recorded as firing but are over in a complete response. Pure."""
    if not alerts.complete:
        return []
    return [
        replace(record.alert, firing=False)
        for record in journal_state.firing_records()
        if alerts.evidence(record.alert, record.received).standing is AlertStatus.OVER
    ]
