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
from remediator.core.instruments import LOST_OR_HUNG, signals
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Episode, Incident, IncidentState, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.routing import BEFORE_REPAIR, covers_gpus
from remediator.core.storm import storm_in
from remediator.health import HealthReport
from remediator.identity import identify, strangers
from remediator.reported_hardware import ReportedHardware
from remediator.sensors import Sensors

EARLY = frozenset({IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD})
LATE = frozenset(
    {
        IncidentState.JOBS_MOVED,
        IncidentState.REPAIRING,
        IncidentState.VERIFYING,
        IncidentState.PROBATION,
        IncidentState.ESCALATED,
    }
)
# Longest age (seconds) of Alertmanager's response for a decision.
RECENT = 1.0
# The job of a lost or hung GPU completes no step, so a step this long (seconds) after the alert's start refutes
# these alerts.
REFUTABLE = frozenset({"GpuLost", "GpuHung"})
STEP_MARGIN = 1.0
FRESH = 0.1


@dataclass(frozen=True, slots=True)
class FactSources:
    """The sources of facts. `other_installation` returns a text if another remediator acts on the
    cluster.
    """

    cluster: Cluster
    sensors: Sensors
    alerts: AlertStates
    journal_state: JournalState
    clock: WallClock
    accusations: ReportedHardware
    other_installation: Callable[[], str | None] = lambda: None


class Senses:
    """Gathers the facts for each decision."""

    def __init__(
        self, sources: FactSources, *, ceiling: Level, limits: Limits, factor: float = 1.0
    ) -> None:
        self._from = sources
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
        """Gather the facts for the next decision on an incident. Never raises; a failed query means
        unknown.

        `fresh`: query Alertmanager again, as needed right before a step.
        """
        alerts = self._from.alerts
        # The quarantine of a new incident does not wait: its alert has just arrived.
        if fresh or incident.state not in (IncidentState.NEW, IncidentState.TRIAGED):
            await alerts.refresh(FRESH if fresh else RECENT)
        facts = replace(
            self.stopped(incident),
            capabilities=frozenset(map(str, self._from.cluster.capabilities)),
            attempts=self._attempts(incident),
            heard_lately=self._heard_lately(incident),
        )
        signs = await self._signs(incident, playbook, ask=incident.state not in EARLY)
        facts = replace(
            facts, evidence=signs.weighed(), alerts_active=signs.active, event_at=signs.latest_event
        )
        try:
            if incident.target.kind is TargetKind.WORKLOAD:
                facts = await self._of_workload(incident, facts)
            elif incident.target.kind is TargetKind.JOB:
                facts = await self._of_job(incident, facts)
            else:
                facts = await self._of_hardware(incident, playbook, facts, signs)
        except ClusterError:
            return replace(facts, known=False)
        return await self._with_sensors(incident, facts)

    async def _signs(
        self, incident: Incident, playbook: Playbook, *, ask: bool
    ) -> IncidentEvidence:
        source = self._from
        return await gather_evidence(
            incident,
            source.journal_state,
            source.alerts,
            source.sensors,
            lambda alert: source.accusations.concerns(alert, playbook),
            ask=ask,
        )

    async def refresh(self) -> None:
        """Query Alertmanager now, regardless of the last query."""
        await self._from.alerts.refresh(0.0)

    def stopped(self, incident: Incident) -> Facts:
        """Return the facts that block every step, such as a pause, without any query."""
        paused = self._from.journal_state.pause is not None
        return Facts(level=self._ceiling, paused=paused, stops=self._stops(incident))

    async def health(self, target: Target, since: float, *, settles: bool = True) -> HealthReport:
        """Judge a GPU or node by metrics sampled after `since` (Unix seconds).

        `settles`: the target was repaired at `since`, so unhealthy samples soon afterwards do not
        count.
        """
        return await self._from.sensors.health(
            target, since, self._from.clock.now(), settles=settles
        )

    async def event_at(self, alert: Alert, target: Target) -> float | None:
        """Return when the event that an alert reports happened (Unix seconds); None if unknown."""
        return await event_time(alert, target, self._from.sensors)

    def accused(self, incident: Incident, playbook: Playbook) -> bool:
        """Return whether an alert that supports the playbook is active in Alertmanager's last
        response.
        """
        records = (self._from.journal_state.episodes.get(one.key) for one in incident.alerts)
        return any(
            self._from.alerts.evidence(one.alert, one.received).standing is AlertStatus.ACTIVE
            for one in records
            if one is not None and self._from.accusations.concerns(one.alert, playbook)
        )

    async def quiet(self, target: Target) -> bool | None:
        """Return whether no hardware alert names the target. None if Alertmanager's response is
        incomplete.
        """
        await self._from.alerts.refresh(RECENT)
        named = self.named(target)
        return None if named is None else not named

    def refusal(self) -> str | None:
        """Return the reason why this remediator may take no action; None if it may."""
        return self._from.other_installation()

    def named(self, target: Target) -> bool | None:
        """Return whether a firing hardware alert names the target; None if unknown."""
        if not self._from.alerts.complete:
            return None
        return self._from.accusations.named(target, self._from.alerts)

    @property
    def storms_now(self) -> Iterable[Target]:
        """Return the hardware that active alerts report as unhealthy now."""
        return self._from.accusations.active(self._from.alerts, self._from.clock.now())

    def storm_in(self, nodes: tuple[NodeFacts, ...], pool: str) -> str | None:
        """Return a text if too much of a pool is reported unhealthy now, otherwise None."""
        return storm_in(pools.members(nodes, pool), frozenset(self.storms_now))

    def _stops(self, incident: Incident) -> Stops:
        journal_state, clock = self._from.journal_state, self._from.clock
        pause = journal_state.pause
        node = Target(TargetKind.NODE, incident.target.name)
        pinned, pinned_until = pools.release_of(
            incident.target, journal_state, self._limits.pin, clock.now()
        )
        node_pinned, node_until = pools.release_of(
            node, journal_state, self._limits.pin, clock.now()
        )
        storm = next(iter(journal_state.storms.values()), None)
        general = storm if incident.target.kind is TargetKind.JOB else None
        return Stops(
            pause=f"{pause.by} paused all actions: {pause.why}" if pause else "",
            pause_group=f"pause/{pause.at:.0f}" if pause else "",
            other_installation=self._from.other_installation() or "",
            storm=general.text if general else "",
            storm_group=f"storm/{general.at:.0f}" if general else "",
            clock=clock.doubt(),
            clock_left=clock.left(),
            pinned=pinned,
            pinned_until=pinned_until,
            node_pinned=node_pinned,
            node_pinned_until=node_until,
        )

    def _heard_lately(self, incident: Incident) -> bool:
        """Return whether an alert of the incident was received so recently that it needs no
        confirmation.
        """
        records = (self._from.journal_state.episodes.get(one.key) for one in incident.alerts)
        now = self._from.clock.now()
        return any(one is not None and 0 <= now - one.received <= 60.0 for one in records)

    async def _of_job(self, incident: Incident, facts: Facts) -> Facts:
        job = await self._from.cluster.job(incident.target.name)
        return replace(
            facts,
            jobs=() if job is None or job.finished else _jobs((job,)),
            job_known=job is not None,
            witnesses=signals((one.alertname for one in incident.alerts), identified=True),
            accused=tuple(sorted(self.storms_now)),
        )

    async def _of_hardware(
        self, incident: Incident, playbook: Playbook, facts: Facts, signs: IncidentEvidence
    ) -> Facts:
        target = incident.target
        cluster, journal_state = self._from.cluster, self._from.journal_state
        nodes = await self._nodes(incident)
        node = next((one for one in nodes if one.name == target.name), None)
        gpu = node.gpu(target.gpu) if node and target.gpu is not None else None
        if node is None or (target.gpu is not None and gpu is None):
            return replace(facts, known=False)
        own = gpu.quarantine if gpu is not None else node.quarantine
        jobs = await cluster.jobs_on(target)
        strange = strangers(incident, nodes)
        names = signs.names(strange)
        names -= await self._refuted(incident, names, jobs)
        identity = await self._identity(incident.target, signs.claims(strange), nodes)
        observing = self._ceiling is Level.OBSERVE
        facts = replace(
            facts,
            identity=identity,
            evidence=signs.weighed(strange),
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
            witnesses=signals(names, identified=identity.confirmed) | _complaints(target, node),
            siblings=await self._siblings(incident, playbook),
            widens=self._widens(target),
            kept=pools.still_ours(incident, nodes),
            node_others=pools.others_on(node, incident, journal_state),
            accused=tuple(sorted(one for one in self.storms_now if one != target)),
        )
        whole = Target(TargetKind.NODE, target.name)
        on_node = await cluster.jobs_on(whole) if incident.state is IncidentState.REPAIRING else ()
        # A dead job on a node with running jobs is no signal against the node.
        all_dead = bool(jobs) and not any(job.running for job in jobs)
        died = {"a job died on it"} if all_dead else set[str]()
        facts = replace(
            facts, jobs=_jobs(jobs), node_jobs=_jobs(on_node), witnesses=facts.witnesses | died
        )
        return replace(facts, dead=await self._is_dead(incident, facts, names))

    async def _nodes(self, incident: Incident) -> tuple[NodeFacts, ...]:
        """Return the cluster's nodes. Held incidents query often, so they share a result for RECENT
        seconds.
        """
        now = time.monotonic()
        if incident.state is not IncidentState.HELD or now - self._nodes_at > RECENT:
            self._seen_nodes = await self._from.cluster.list_nodes()
            self._nodes_at = now
        return self._seen_nodes

    async def _refuted(
        self, incident: Incident, names: frozenset[str], jobs: tuple[JobFacts, ...]
    ) -> frozenset[str]:
        """Return the alerts that report a GPU as lost or hung, if every job on it has since
        completed a step.
        """
        refutable = names & REFUTABLE
        running = [job.job_id for job in jobs if job.running]
        if not refutable or not running or incident.state in EARLY:
            return frozenset()
        began = max(one.starts_at for one in incident.alerts if one.alertname in refutable)
        step = await self._from.sensors.last_step(running)
        return refutable if step is not None and step > began + STEP_MARGIN else frozenset()

    async def _identity(
        self, target: Target, claims: Iterable[Episode], nodes: tuple[NodeFacts, ...]
    ) -> Identity:
        """Compare the alerts with the inventory.

        Prometheus is queried only for a node, because the alert of a GPU has its UUID.
        """
        reported = None
        if target.kind is TargetKind.NODE:
            reported = await self._from.sensors.reported_uuids(target.name)
        return identify(target, claims, nodes, reported, self._factor)

    def _with_storm(self, stops: Stops, nodes: tuple[NodeFacts, ...], pool: str) -> Stops:
        on = self._from.journal_state.storms.get(pool)
        text = on.text if on else self.storm_in(nodes, pool)
        group = f"storm/{pool}/{on.at:.0f}" if on else f"storm/{pool}"
        return replace(stops, storm=text or "", storm_group=group)

    async def _is_dead(self, incident: Incident, facts: Facts, names: frozenset[str]) -> bool:
        """Return whether the target is certainly lost or hung.

        This needs two signals, or one if no job on the target runs or makes progress.
        """
        gone = LOST_OR_HUNG.get(incident.target.kind, frozenset())
        if not names & gone or not facts.identity.confirmed:
            return False
        if len(facts.witnesses) >= 2:
            return True
        running = [job.job_id for job in facts.jobs if job.running]
        if not facts.jobs or not running:
            return bool(facts.jobs)
        # Queried only for incidents that wait for budget, so that a slow Prometheus delays no other quarantine.
        if incident.held not in (Reason.BUDGET_OUT, Reason.BUDGET_NEW):
            return False
        return await self._from.sensors.stalled(running)

    async def _of_workload(self, incident: Incident, facts: Facts) -> Facts:
        found = await self._from.cluster.workload(incident.target.name)
        if found is None:
            return replace(facts, known=False)
        waiting = await self._from.sensors.waiting(found.name)
        load = ScalingFacts(found.wanted, found.ready, found.minimum, found.maximum, waiting)
        return replace(facts, workload=load)

    async def _with_sensors(self, incident: Incident, facts: Facts) -> Facts:
        """Add the facts from Prometheus.

        Prometheus is queried only if the result matters, so that a slow response does not delay
        quarantines.
        """
        running = any(job.running for job in (*facts.jobs, *facts.node_jobs))
        service = incident.target.kind in (TargetKind.JOB, TargetKind.WORKLOAD)
        asked = incident.state in LATE or running or service
        if self._ceiling is not Level.OBSERVE and (not asked or incident.state in EARLY):
            return facts
        up = await self._from.sensors.exporters_up()
        others = [ok for name, ok in (up or {}).items() if name != incident.target.node]
        heard = self._watchdog_at
        seen = SensorFacts(
            watchdog_age=float("inf") if heard is None else time.monotonic() - heard,
            prometheus=up is not None,
            exporters_up=None if up is None else (sum(others) / len(others) if others else 1.0),
        )
        node = incident.target.node or ""
        down = up is not None and up.get(node) is False
        if self._from.sensors.doubled(node):
            text = f"Two scrape targets have the label node={node}; only one of them can be {node}."
            facts = replace(facts, identity=Identity(False, text))
        saved = None
        if incident.state in (IncidentState.CHECKPOINTING, IncidentState.REPAIRING) and running:
            jobs = [job.job_id for job in (*facts.jobs, *facts.node_jobs) if job.running]
            saved = await self._from.sensors.saved_at(jobs)
        return replace(facts, sensors=seen, exporter_down=down, checkpoint_at=saved)

    def _attempts(self, incident: Incident) -> tuple[tuple[str, Target, float], ...]:
        """Return earlier steps on the target. After a person's retry, only later steps count."""
        wanted = [incident.target]
        if incident.target.kind is TargetKind.GPU:
            wanted.append(Target(TargetKind.NODE, incident.target.name))
        return tuple(
            (one.action, one.target, one.at)
            for target in wanted
            for one in self._from.journal_state.attempts.get(target, ())
            if one.at > (incident.retried_at or 0.0)
        )

    async def _siblings(self, incident: Incident, playbook: Playbook) -> int:
        """Return how many other GPUs of the node failed at about the same time, according to
        current alerts.
        """
        if playbook.widen_to is None or incident.target.kind is not TargetKind.GPU:
            return 0
        near = [
            one
            for one in self._from.journal_state.open_incidents()
            if one.id != incident.id
            and one.target.kind is TargetKind.GPU
            and one.target.name == incident.target.name
            and one.playbook == incident.playbook
            and one.state in BEFORE_REPAIR
            and abs(one.opened - incident.opened) <= self._limits.hold
        ]
        if incident.state in EARLY:
            return len(near)
        found = [await self._signs(one, playbook, ask=True) for one in near]
        return sum(bool(one.names()) for one in found)

    def _widens(self, target: Target) -> bool:
        """Return whether an incident of the node may take over: there is none yet, or it acts for
        the node's GPUs.
        """
        journal_state = self._from.journal_state
        node = journal_state.incident_on(Target(TargetKind.NODE, target.name))
        return node is None or node.level is Level.OBSERVE or covers_gpus(node, journal_state)


def _complaints(target: Target, node: NodeFacts) -> frozenset[str]:
    """Return "the cluster" as a signal if the cluster itself reports the target as unhealthy."""
    gpu = node.gpu(target.gpu) if target.gpu is not None else None
    sick = not node.alive or (gpu is not None and gpu.marked is not None)
    return frozenset({"the cluster"} if sick else ())


def _jobs(found: tuple[JobFacts, ...]) -> tuple[TargetJob, ...]:
    return tuple(TargetJob(job.job_id, job.running) for job in found)
