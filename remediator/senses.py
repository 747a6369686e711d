"""Gather the facts for decisions from the cluster, Alertmanager, Prometheus and the journal.

A missing fact is unknown; it never counts as zero or healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.alert_evidence import IncidentEvidence, event_time, gather_evidence
from remediator.alert_states import AlertStates
from remediator.clocks import WallClock
from remediator.cluster_snapshot import ClusterSnapshot, ClusterView
from remediator.clusters.base import Cluster, ClusterError, NodeFacts
from remediator.core.evidence import AlertStatus
from remediator.core.facts import Facts, Identity, PoolFacts, ScalingFacts, SensorFacts, Stops
from remediator.core.guards import Limits
from remediator.core.instruments import signals
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Episode, Incident, IncidentState, Level, Playbook
from remediator.core.routing import BEFORE_REPAIR, covers_gpus
from remediator.hardware_facts import Gathered, assemble, target_jobs
from remediator.health import HealthReport
from remediator.identity import alerts_on_other_hardware, identify
from remediator.job_failures import FailureSources, failures_of
from remediator.job_progress import is_dead, refuted_alerts, stalled_jobs
from remediator.pool_status import PoolStatus
from remediator.reported_hardware import Reported, ReportedHardware
from remediator.sensors import Sensors
from remediator.stops import stops_of

EARLY = frozenset({IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD})
LATE = frozenset(
    {
        IncidentState.JOBS_MOVED,
        IncidentState.REPAIRING,
        IncidentState.VERIFYING,
        IncidentState.PROBATION,
        IncidentState.AWAIT_APPROVAL,
        IncidentState.ESCALATED,
    }
)
# Longest age (seconds) of Alertmanager's response for a decision.
RECENT = 1.0
FRESH = 0.1


@dataclass(frozen=True, slots=True)
class FactSources:
    """The sources of facts. `other_installation` returns a reason if another remediator acts on the cluster."""

    cluster: Cluster
    sensors: Sensors
    alerts: AlertStates
    journal_state: JournalState
    clock: WallClock
    reported_hardware: ReportedHardware
    other_installation: Callable[[], str | None] = lambda: None


class Senses:
    """Gathers the facts that a decision about an incident needs."""

    def __init__(
        self, sources: FactSources, *, ceiling: Level, limits: Limits, factor: float = 1.0
    ) -> None:
        self._sources = sources
        self._ceiling = ceiling
        self._factor = factor
        self._limits = limits
        # Monotonic seconds; None until this process has received a Watchdog.
        self._watchdog_at: float | None = None
        self._view = ClusterView(sources.cluster)
        self._pools = PoolStatus(sources.journal_state)

    def record_watchdog(self) -> None:
        """Record that the Watchdog alert arrived, which shows that the alert path works."""
        self._watchdog_at = monotonic()

    async def facts(self, incident: Incident, playbook: Playbook, *, fresh: bool = False) -> Facts:
        """Gather the facts for the next decision on an incident. Never raises; a failed query means unknown.

        `fresh`: query Alertmanager and the exporters again, as needed right before a step.
        """
        alerts = self._sources.alerts
        # The quarantine of a new incident does not wait: its alert has just arrived.
        if fresh or incident.state not in (IncidentState.NEW, IncidentState.TRIAGED):
            await alerts.refresh(FRESH if fresh else RECENT)
        facts = replace(
            self.stopped(incident),
            capabilities=frozenset(map(str, self._sources.cluster.capabilities)),
            attempts=self._attempts(incident),
            recently_received=self._recently_received(incident),
        )
        incident_evidence = await self._incident_evidence(
            incident, playbook, confirm=incident.state not in EARLY
        )
        facts = replace(
            facts,
            evidence=incident_evidence.combined(),
            alerts_active=incident_evidence.active,
            event_at=incident_evidence.latest_event,
        )
        try:
            if incident.target.kind is TargetKind.WORKLOAD:
                facts = await self._of_workload(incident, facts)
            elif incident.target.kind is TargetKind.JOB:
                facts = await self._of_job(incident, playbook, facts, fresh=fresh)
            else:
                facts = await self._of_hardware(
                    incident, playbook, facts, incident_evidence, fresh=fresh
                )
        except ClusterError:
            return replace(facts, known=False)
        return await self._with_sensors(incident, playbook, facts, fresh=fresh)

    async def _incident_evidence(
        self, incident: Incident, playbook: Playbook, *, confirm: bool
    ) -> IncidentEvidence:
        source = self._sources
        return await gather_evidence(
            incident,
            source.journal_state,
            source.alerts,
            source.sensors,
            lambda alert: source.reported_hardware.concerns(alert, playbook),
            confirm=confirm,
        )

    async def refresh(self) -> None:
        """Query Alertmanager now, even if the last query was just before."""
        await self._sources.alerts.refresh(0.0)

    def stopped(self, incident: Incident) -> Facts:
        """Return the facts that block every step, such as a pause, without querying anything."""
        source = self._sources
        other = source.other_installation() or ""
        stops = stops_of(incident, source.journal_state, source.clock, other, self._limits.pin)
        paused = source.journal_state.pause is not None
        return Facts(level=self._ceiling, paused=paused, stops=stops)

    async def health(self, target: Target, since: float, *, settles: bool = True) -> HealthReport:
        """Judge a target by metrics sampled after `since` (Unix seconds).

        `settles`: the target was repaired at `since`, so unhealthy samples soon afterwards do not
        count.
        """
        now = self._sources.clock.now()
        return await self._sources.sensors.health(target, since, now, settles=settles)

    async def event_at(self, alert: Alert, target: Target) -> float | None:
        """Return when the event that an alert reports happened (Unix seconds); None if unknown."""
        return await event_time(alert, target, self._sources.sensors)

    async def active_since(self, alert: Alert) -> float | None:
        """Return the start of the alert's latest episode in Prometheus (Unix seconds); None if unknown."""
        return await self._sources.sensors.active_since(alert)

    def has_active_alert(self, incident: Incident, playbook: Playbook) -> bool:
        """Return whether Alertmanager lists an active alert that justifies the playbook."""
        records = (self._sources.journal_state.episodes.get(one.key) for one in incident.alerts)
        return any(
            self._sources.alerts.evidence(one.alert, one.received).standing is AlertStatus.ACTIVE
            for one in records
            if one is not None and self._sources.reported_hardware.concerns(one.alert, playbook)
        )

    async def quiet(self, target: Target) -> bool | None:
        """Return whether no hardware alert names the target; None if Alertmanager's response is incomplete."""
        await self._sources.alerts.refresh(RECENT)
        named = self.is_reported(target)
        return None if named is None else not named

    def refusal(self) -> str | None:
        """Return the reason why this remediator may take no action; None if actions are allowed."""
        return self._sources.other_installation()

    def is_reported(self, target: Target) -> bool | None:
        """Return whether a firing hardware alert names the target; None if unknown."""
        if not self._sources.alerts.complete:
            return None
        return self._sources.reported_hardware.is_reported(target, self._sources.alerts)

    @property
    def reported_now(self) -> tuple[Target, ...]:
        """Return the hardware that active alerts report as unhealthy now, in order."""
        return self._reported().ordered

    def storm_in(self, snapshot: ClusterSnapshot, pool: str) -> str | None:
        """Return a description if too much of a pool is reported unhealthy now, otherwise None."""
        return self._pools.storm(snapshot, pool, self._reported())

    async def snapshot(self) -> ClusterSnapshot:
        """Query the cluster. Raises ClusterError."""
        return await self._view.snapshot(0.0)

    def cluster_changed(self) -> None:
        """Record that a step has just changed the cluster, so that earlier results are no longer used."""
        self._view.changed()

    def _reported(self) -> Reported:
        return self._sources.reported_hardware.active(self._sources.alerts)

    def _recently_received(self, incident: Incident) -> bool:
        """Return whether an alert of the incident was received so recently that it needs no confirmation."""
        records = (self._sources.journal_state.episodes.get(one.key) for one in incident.alerts)
        now = self._sources.clock.now()
        return any(one is not None and 0 <= now - one.received <= 60.0 for one in records)

    async def _of_job(
        self, incident: Incident, playbook: Playbook, facts: Facts, *, fresh: bool
    ) -> Facts:
        job = await self._sources.cluster.job(incident.target.name)
        if job is not None and playbook.ends_jobs:
            snapshot = await self._snapshot(incident, fresh=fresh)
            storms = (
                self._with_storm(facts.stops, pool, self.storm_in(snapshot, pool))
                for pool in sorted(snapshot.pools)
            )
            stops = next((one for one in storms if one.storm), facts.stops)
            source = self._sources
            known = FailureSources(source.journal_state, source.alerts, source.reported_hardware)
            failures = failures_of(
                job, incident, playbook, snapshot.nodes, known, self.reported_now
            )
            facts = replace(facts, stops=stops, failures=failures)
        return replace(
            facts,
            jobs=() if job is None or job.finished else target_jobs((job,)),
            job_known=job is not None,
            witnesses=signals(incident.alerts, identified=True),
            reported_hardware=self.reported_now,
        )

    async def _of_hardware(
        self,
        incident: Incident,
        playbook: Playbook,
        facts: Facts,
        incident_evidence: IncidentEvidence,
        *,
        fresh: bool,
    ) -> Facts:
        target, source = incident.target, self._sources
        snapshot = await self._snapshot(incident, fresh=fresh)
        node = snapshot.node(target.name)
        if node is None or (target.gpu is not None and node.gpu(target.gpu) is None):
            return replace(facts, known=False)
        jobs = await source.cluster.jobs_on(target)
        other_hardware = alerts_on_other_hardware(incident, node)
        counted = incident_evidence.counted_alerts(other_hardware)
        if incident.state not in EARLY:
            refuted = await refuted_alerts(source.sensors, incident, counted, jobs)
            counted = tuple(one for one in counted if one not in refuted)
        identity = await self._identity(
            target, incident_evidence.identifying_alerts(other_hardware), snapshot
        )
        siblings = await self._siblings(incident, playbook, node)
        whole = Target(TargetKind.NODE, target.name)
        repairing = incident.state is IncidentState.REPAIRING
        node_jobs = await source.cluster.jobs_on(whole) if repairing else ()
        # Nothing is awaited until the facts are assembled: the budget and the storm belong to one moment.
        reported = self._reported()
        gathered = Gathered(
            node,
            snapshot,
            incident_evidence,
            other_hardware,
            counted,
            identity,
            self._pool(snapshot, node.pool, incident),
            reported,
            jobs,
            node_jobs,
            siblings,
            self._widens(target),
        )
        facts = assemble(facts, incident, gathered, source.journal_state)
        storm = self._pools.storm(snapshot, node.pool, reported)
        facts = replace(facts, stops=self._with_storm(facts.stops, node.pool, storm))
        return replace(facts, dead=await is_dead(source.sensors, incident, facts, counted))

    async def _snapshot(self, incident: Incident, *, fresh: bool) -> ClusterSnapshot:
        """Return the cluster as it is now. Held incidents ask often, so their result may be older."""
        if fresh:
            return await self._view.snapshot(0.0)
        return await self._view.snapshot(RECENT if incident.state is IncidentState.HELD else FRESH)

    def _pool(self, snapshot: ClusterSnapshot, pool: str, incident: Incident) -> PoolFacts:
        since = self._sources.clock.now() - self._limits.max_new_window
        observe = self._ceiling is Level.OBSERVE
        return self._pools.view(snapshot, pool, incident, since, observe=observe)

    async def _identity(
        self, target: Target, claims: Iterable[Episode], snapshot: ClusterSnapshot
    ) -> Identity:
        """Compare the alerts' hardware with the inventory.

        Only a node needs a query; GPU alerts have UUIDs.
        """
        reported = None
        if target.kind is TargetKind.NODE:
            reported = await self._sources.sensors.reported_uuids(target.name)
        return identify(target, claims, snapshot, reported, self._factor)

    def _with_storm(self, stops: Stops, pool: str, now: str | None) -> Stops:
        on = self._sources.journal_state.storms.get(pool)
        text = on.text if on else now
        group = f"storm/{pool}/{on.at:.0f}" if on else f"storm/{pool}"
        return replace(stops, storm=text or "", storm_group=group)

    async def _of_workload(self, incident: Incident, facts: Facts) -> Facts:
        found = await self._sources.cluster.workload(incident.target.name)
        if found is None:
            return replace(facts, known=False)
        waiting = await self._sources.sensors.waiting(found.name)
        load = ScalingFacts(found.wanted, found.ready, found.minimum, found.maximum, waiting)
        return replace(facts, workload=load)

    async def _with_sensors(
        self, incident: Incident, playbook: Playbook, facts: Facts, *, fresh: bool
    ) -> Facts:
        """Add the facts from Prometheus, queried only if they matter, so that no quarantine waits."""
        running = any(job.running for job in (*facts.jobs, *facts.node_jobs))
        service = incident.target.kind in (TargetKind.JOB, TargetKind.WORKLOAD)
        asked = incident.state in LATE or running or service
        if self._ceiling is not Level.OBSERVE and (not asked or incident.state in EARLY):
            return facts
        up = await self._sources.sensors.exporters_up(fresh=fresh)
        others = [ok for name, ok in (up or {}).items() if name != incident.target.node]
        heard = self._watchdog_at
        seen = SensorFacts(
            watchdog_age=float("inf") if heard is None else monotonic() - heard,
            prometheus=up is not None,
            exporters_up=None if up is None else (sum(others) / len(others) if others else 1.0),
        )
        node = incident.target.node or ""
        down = up is not None and up.get(node) is False
        if self._sources.sensors.doubled(node):
            text = f"In the last five minutes, two scrape targets had the label node={node}; only one of them can be {node}."
            facts = replace(facts, identity=Identity(False, text))
        if incident.target.kind is TargetKind.JOB and running:
            text = await stalled_jobs(self._sources.sensors, incident, playbook)
            facts = replace(facts, stops=replace(facts.stops, stalls=text))
        saved = None
        if incident.state in (IncidentState.CHECKPOINTING, IncidentState.REPAIRING) and running:
            jobs = [job.job_id for job in (*facts.jobs, *facts.node_jobs) if job.running]
            saved = await self._sources.sensors.saved_at(jobs)
        return replace(facts, sensors=seen, exporter_down=down, checkpoint_at=saved)

    def _attempts(self, incident: Incident) -> tuple[tuple[str, Target, float], ...]:
        """Return the previous steps on the target.

        After an operator's retry, only steps since the retry count.
        """
        wanted = [incident.target]
        if incident.target.kind is TargetKind.GPU:
            wanted.append(Target(TargetKind.NODE, incident.target.name))
        return tuple(
            (one.action, one.target, one.at)
            for target in wanted
            for one in self._sources.journal_state.attempts.get(target, ())
            if one.at > (incident.retried_at or 0.0)
        )

    async def _siblings(self, incident: Incident, playbook: Playbook, node: NodeFacts) -> int:
        """Return how many other GPUs of the node failed at about the same time, according to current alerts."""
        if playbook.widen_to is None or incident.target.kind is not TargetKind.GPU:
            return 0
        others = (
            self._sources.journal_state.incident_on(Target(TargetKind.GPU, node.name, gpu.index))
            for gpu in node.gpus
        )
        near = [
            one
            for one in others
            if one is not None
            and one.id != incident.id
            and one.playbook == incident.playbook
            and one.state in BEFORE_REPAIR
            and abs(one.opened - incident.opened) <= self._limits.hold
        ]
        if incident.state in EARLY:
            return len(near)
        found = [await self._incident_evidence(one, playbook, confirm=True) for one in near]
        return sum(bool(one.counted_alerts()) for one in found)

    def _widens(self, target: Target) -> bool:
        """Return whether an incident of the node may take over the GPU's incident.

        This is the case if the node has no incident yet, or if the node's incident also handles its
        GPUs.
        """
        journal_state = self._sources.journal_state
        node = journal_state.incident_on(Target(TargetKind.NODE, target.name))
        return node is None or node.level is Level.OBSERVE or covers_gpus(node, journal_state)
