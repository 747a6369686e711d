"""Gather the facts for decisions from the cluster, Alertmanager, Prometheus and the journal.

A missing fact is unknown; it never counts as zero or healthy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fleetmedic.kernel.labels import Target, TargetKind
from remediator import pools
from remediator.alert_evidence import IncidentEvidence, event_time, gather_evidence
from remediator.alert_states import AlertStates
from remediator.clocks import WallClock
from remediator.clusters.base import Cluster, ClusterError, JobFacts, NodeFacts
from remediator.core.evidence import AlertStatus
from remediator.core.facts import Facts, Identity, ScalingFacts, SensorFacts, Stops, TargetJob
from remediator.core.guards import Limits
from remediator.core.instruments import signals
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Episode, Incident, IncidentState, Level, Playbook
from remediator.core.routing import BEFORE_REPAIR, covers_gpus
from remediator.core.storm import storm_in
from remediator.health import HealthReport
from remediator.identity import alerts_on_other_hardware, identify
from remediator.job_progress import is_dead, refuted_alerts, stalled_jobs
from remediator.reported_hardware import ReportedHardware
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
        self._seen_nodes: tuple[NodeFacts, ...] = ()
        self._nodes_at = -1e9

    def record_watchdog(self) -> None:
        """Record that the Watchdog alert arrived, which shows that the alert path works."""
        self._watchdog_at = time.monotonic()

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
                facts = await self._of_job(incident, facts)
            else:
                facts = await self._of_hardware(incident, playbook, facts, incident_evidence)
        except ClusterError:
            return replace(facts, known=False)
        return await self._with_sensors(incident, facts, fresh=fresh)

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
    def reported_now(self) -> Iterable[Target]:
        """Return the hardware that active alerts report as unhealthy now."""
        source = self._sources
        return source.reported_hardware.active(source.alerts, source.clock.now())

    def storm_in(self, nodes: tuple[NodeFacts, ...], pool: str) -> str | None:
        """Return a description if too much of a pool is reported unhealthy now, otherwise None."""
        return storm_in(pools.members(nodes, pool), frozenset(self.reported_now))

    def _recently_received(self, incident: Incident) -> bool:
        """Return whether an alert of the incident was received so recently that it needs no confirmation."""
        records = (self._sources.journal_state.episodes.get(one.key) for one in incident.alerts)
        now = self._sources.clock.now()
        return any(one is not None and 0 <= now - one.received <= 60.0 for one in records)

    async def _of_job(self, incident: Incident, facts: Facts) -> Facts:
        job = await self._sources.cluster.job(incident.target.name)
        return replace(
            facts,
            jobs=() if job is None or job.finished else _jobs((job,)),
            job_known=job is not None,
            witnesses=signals(incident.alerts, identified=True),
            reported_hardware=tuple(sorted(self.reported_now)),
        )

    async def _of_hardware(
        self,
        incident: Incident,
        playbook: Playbook,
        facts: Facts,
        incident_evidence: IncidentEvidence,
    ) -> Facts:
        target = incident.target
        cluster, journal_state = self._sources.cluster, self._sources.journal_state
        nodes = await self._nodes(incident)
        node = next((one for one in nodes if one.name == target.name), None)
        gpu = node.gpu(target.gpu) if node and target.gpu is not None else None
        if node is None or (target.gpu is not None and gpu is None):
            return replace(facts, known=False)
        own = gpu.quarantine if gpu is not None else node.quarantine
        jobs = await cluster.jobs_on(target)
        other_hardware = alerts_on_other_hardware(incident, nodes)
        counted = incident_evidence.counted_alerts(other_hardware)
        if incident.state not in EARLY:
            refuted = await refuted_alerts(self._sources.sensors, incident, _names(counted), jobs)
            counted = tuple(one for one in counted if one.alertname not in refuted)
        identity = await self._identity(
            incident.target, incident_evidence.identifying_alerts(other_hardware), nodes
        )
        observing = self._ceiling is Level.OBSERVE
        facts = replace(
            facts,
            identity=identity,
            evidence=incident_evidence.combined(other_hardware),
            quarantine_owner=pools.owner_of(own, target, incident, journal_state),
            node_quarantine_owner=pools.owner_of(
                node.quarantine, Target(TargetKind.NODE, node.name), incident, journal_state
            ),
            pool=pools.pool_view(
                nodes,
                node.pool,
                target,
                journal_state,
                pools.rehearsed(journal_state, incident) if observing else (),
            ),
            stops=self._with_storm(facts.stops, nodes, node.pool),
            witnesses=signals(counted, identified=identity.confirmed) | _complaints(target, node),
            siblings=await self._siblings(incident, playbook),
            widens=self._widens(target),
            kept=pools.still_ours(incident, nodes),
            node_others=pools.others_on(node, incident, journal_state),
            reported_hardware=tuple(sorted(one for one in self.reported_now if one != target)),
        )
        whole = Target(TargetKind.NODE, target.name)
        on_node = await cluster.jobs_on(whole) if incident.state is IncidentState.REPAIRING else ()
        # A dead job on a node with running jobs is no signal against the node.
        all_dead = bool(jobs) and not any(job.running for job in jobs)
        died = {"a job died on it"} if all_dead else set[str]()
        facts = replace(
            facts, jobs=_jobs(jobs), node_jobs=_jobs(on_node), witnesses=facts.witnesses | died
        )
        return replace(
            facts, dead=await is_dead(self._sources.sensors, incident, facts, _names(counted))
        )

    async def _nodes(self, incident: Incident) -> tuple[NodeFacts, ...]:
        """Return the cluster's nodes. Held incidents query often, so they share a result for RECENT seconds."""
        now = time.monotonic()
        if incident.state is not IncidentState.HELD or now - self._nodes_at > RECENT:
            self._seen_nodes = await self._sources.cluster.list_nodes()
            self._nodes_at = now
        return self._seen_nodes

    async def _identity(
        self, target: Target, claims: Iterable[Episode], nodes: tuple[NodeFacts, ...]
    ) -> Identity:
        """Compare the alerts' hardware with the inventory.

        Only a node needs a query; GPU alerts have UUIDs.
        """
        reported = None
        if target.kind is TargetKind.NODE:
            reported = await self._sources.sensors.reported_uuids(target.name)
        return identify(target, claims, nodes, reported, self._factor)

    def _with_storm(self, stops: Stops, nodes: tuple[NodeFacts, ...], pool: str) -> Stops:
        on = self._sources.journal_state.storms.get(pool)
        text = on.text if on else self.storm_in(nodes, pool)
        group = f"storm/{pool}/{on.at:.0f}" if on else f"storm/{pool}"
        return replace(stops, storm=text or "", storm_group=group)

    async def _of_workload(self, incident: Incident, facts: Facts) -> Facts:
        found = await self._sources.cluster.workload(incident.target.name)
        if found is None:
            return replace(facts, known=False)
        waiting = await self._sources.sensors.waiting(found.name)
        load = ScalingFacts(found.wanted, found.ready, found.minimum, found.maximum, waiting)
        return replace(facts, workload=load)

    async def _with_sensors(self, incident: Incident, facts: Facts, *, fresh: bool) -> Facts:
        """Add the facts from Prometheus.

        They are queried only if they matter, so that no quarantine is delayed.
        """
        running = any(job.running for job in (*facts.jobs, *facts.node_jobs))
        service = incident.target.kind in (TargetKind.JOB, TargetKind.WORKLOAD)
        asked = incident.state in LATE or running or service
        if self._ceiling is not Level.OBSERVE and (not asked or incident.state in EARLY):
            return facts
        up = await self._sources.sensors.exporters_up(fresh=fresh)
        others = [ok for name, ok in (up or {}).items() if name != incident.target.node]
        heard = self._watchdog_at
        seen = SensorFacts(
            watchdog_age=float("inf") if heard is None else time.monotonic() - heard,
            prometheus=up is not None,
            exporters_up=None if up is None else (sum(others) / len(others) if others else 1.0),
        )
        node = incident.target.node or ""
        down = up is not None and up.get(node) is False
        if self._sources.sensors.doubled(node):
            text = f"In the last five minutes, two scrape targets had the label node={node}; only one of them can be {node}."
            facts = replace(facts, identity=Identity(False, text))
        if incident.target.kind is TargetKind.JOB and running:
            text = await stalled_jobs(self._sources.sensors, incident)
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

    async def _siblings(self, incident: Incident, playbook: Playbook) -> int:
        """Return how many other GPUs of the node failed at about the same time, according to current alerts."""
        if playbook.widen_to is None or incident.target.kind is not TargetKind.GPU:
            return 0
        near = [
            one
            for one in self._sources.journal_state.open_incidents()
            if one.id != incident.id
            and one.target.kind is TargetKind.GPU
            and one.target.name == incident.target.name
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


def _names(alerts: Iterable[Episode]) -> frozenset[str]:
    return frozenset(one.alertname for one in alerts)


def _complaints(target: Target, node: NodeFacts) -> frozenset[str]:
    """Return "the cluster" as a signal if the cluster itself reports the target as unhealthy."""
    gpu = node.gpu(target.gpu) if target.gpu is not None else None
    sick = not node.alive or (gpu is not None and gpu.marked is not None)
    return frozenset({"the cluster"} if sick else ())


def _jobs(found: tuple[JobFacts, ...]) -> tuple[TargetJob, ...]:
    return tuple(TargetJob(job.job_id, job.running) for job in found)
