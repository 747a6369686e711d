"""Gathers the facts for decisions: what the cluster, Prometheus and the journal say now.

What cannot be learned is unknown: it is never taken for zero, nor for healthy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clusters.base import Cluster, ClusterError, JobFacts, NodeFacts
from remediator.core.book import Book
from remediator.core.model import OWNER, Alert, Incident, Level, Playbook, State, StepState
from remediator.core.routing import BEFORE_REPAIR
from remediator.core.view import JobView, PoolView, SensorView, View, WorkloadView
from remediator.http import HttpError, PrometheusClient, Sample

EARLY = frozenset({State.NEW, State.TRIAGED, State.HELD})
SENSORS_TTL = 1.0
# Zero on a healthy GPU, and absent where a board or driver has no such thing to say.
WHERE_KNOWN = (
    "gpu_row_remap_pending", "gpu_row_remap_failure", "gpu_retired_pages_pending",
    "gpu_sram_ecc_threshold_exceeded",
)  # fmt: skip
SICK_FOR_SURE = 15.0
FRESH_SCRAPES = 3


class Health(StrEnum):
    """What metrics say about a target."""

    HEALTHY = "healthy"
    SICK = "sick"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """A target's health by its metrics, and a sentence."""

    state: Health
    text: str


@dataclass(slots=True)
class _Exporters:
    """The last answer to which exporters are up, and when it came (monotonic seconds)."""

    up: dict[str, bool] | None = None
    asked: float = -1e9


class Senses:
    """`prometheus` is None where none is configured: what only it could say is then unknown."""

    def __init__(
        self, cluster: Cluster, prometheus: PrometheusClient | None, book: Book,
        *, ceiling: Level, scrape_interval: float, hold: float, now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._prometheus = prometheus
        self._book = book
        self._ceiling = ceiling
        self._scrape = scrape_interval
        self._hold = hold
        self._now = now
        self._exporters = _Exporters()
        self.watchdog_at = now()

    async def view(self, incident: Incident, playbook: Playbook) -> View:
        """The facts for the next decision on an incident. Never raises: what failed is unknown."""
        view = View(
            level=self._ceiling,
            paused=self._book.pause is not None,
            firing=self._book.firing(incident),
            attempts=self._attempts(incident),
            witnesses=frozenset(sensor(episode.alertname) for episode in incident.alerts),
        )
        try:
            if incident.target.kind is TargetKind.WORKLOAD:
                return await self._of_workload(incident, view)
            if incident.target.kind is TargetKind.JOB:
                job = await self._cluster.job(incident.target.name)
                view = replace(view, jobs=() if job is None or job.finished else _jobs((job,)))
            else:
                view = await self._of_hardware(incident, playbook, view)
        except ClusterError:
            return replace(view, known=False)
        return await self._with_sensors(incident, playbook, view)

    async def health(self, target: Target, since: float, *, settles: bool = True) -> HealthReport:
        """What metrics sampled after `since` (Unix seconds) say about a GPU or node.

        `settles`: it was repaired at `since`, so that sick samples soon after it prove nothing.
        """
        if self._prometheus is None:
            return HealthReport(Health.UNKNOWN, "No Prometheus is configured to ask.")
        try:
            samples = await self._health_samples(target)
        except HttpError as error:
            return HealthReport(Health.UNKNOWN, str(error))
        return judge_health(
            samples, target, since, self._now(),
            oldest=FRESH_SCRAPES * self._scrape, settle=SICK_FOR_SURE if settles else 0.0,
        )  # fmt: skip

    async def event_at(self, alert: Alert, target: Target) -> float | None:
        """When the event behind an event-type alert happened (Unix seconds); None if nobody knows."""
        if self._prometheus is None or target.gpu is None or not alert.name.startswith("GpuXid"):
            return None
        selector = f'{{node="{target.name}",gpu="{target.gpu}"}}'
        try:
            found = await self._prometheus.query(f"max(gpu_xid_last_timestamp_seconds{selector})")
        except HttpError:
            return None
        return max((one.value for one in found if one.value > 0), default=None)

    async def _of_hardware(self, incident: Incident, playbook: Playbook, view: View) -> View:
        target = incident.target
        nodes = await self._cluster.list_nodes()
        node = next((one for one in nodes if one.name == target.name), None)
        gpu = node.gpu(target.gpu) if node and target.gpu is not None else None
        if node is None or (target.gpu is not None and gpu is None):
            return replace(view, known=False)
        node_owner = node.quarantine.owner if node.quarantine else None
        own = gpu.quarantine if gpu is not None else node.quarantine
        view = replace(
            view,
            quarantine_owner=own.owner if own else None,
            node_quarantine_owner=node_owner,
            pool=pool_view(nodes, node.pool, target, self._book),
            witnesses=view.witnesses | _complaints(incident.target, node),
            siblings=self._siblings(incident, playbook),
            kept=still_ours(incident, nodes),
        )
        jobs = await self._cluster.jobs_on(target)
        whole = Target(TargetKind.NODE, target.name)
        on_node = await self._cluster.jobs_on(whole) if incident.state is State.REPAIRING else ()
        # One dead job beside running ones on a node is that job's own affair.
        all_dead = bool(jobs) and not any(job.running for job in jobs)
        died = {"a job died on it"} if all_dead else set[str]()
        return replace(
            view,
            jobs=_jobs(jobs),
            node_jobs=_jobs(on_node),
            witnesses=view.witnesses | died,
        )

    async def _of_workload(self, incident: Incident, view: View) -> View:
        found = await self._cluster.workload(incident.target.name)
        if found is None:
            return replace(view, known=False)
        selector = f'inference_requests_waiting{{service="{found.name}"}}'
        load = WorkloadView(
            found.wanted, found.ready, found.minimum, found.maximum, await self._sum(selector)
        )
        return replace(view, workload=load)

    async def _with_sensors(self, incident: Incident, playbook: Playbook, view: View) -> View:
        """Prometheus is asked only where its answer matters, so that a slow one delays no quarantine."""
        running = any(job.running for job in (*view.jobs, *view.node_jobs))
        late = incident.state in (
            State.JOBS_MOVED,
            State.REPAIRING,
            State.VERIFYING,
            State.PROBATION,
        )
        job_target = incident.target.kind is TargetKind.JOB
        if not (late or running or job_target) or incident.state in EARLY:
            return view
        up = await self._exporters_up()
        others = [ok for name, ok in (up or {}).items() if name != incident.target.node]
        sensors = SensorView(
            watchdog_age=self._now() - self.watchdog_at,
            prometheus=up is not None,
            exporters_up=None if up is None else (sum(others) / len(others) if others else 1.0),
        )
        down = up is not None and up.get(incident.target.node or "") is False
        saved = None
        if incident.state in (State.CHECKPOINTING, State.REPAIRING) and running:
            saved = await self._saved_at((*view.jobs, *view.node_jobs))
        return replace(view, sensors=sensors, exporter_down=down, checkpoint_at=saved)

    async def _exporters_up(self) -> dict[str, bool] | None:
        if self._prometheus is None:
            return None
        if time.monotonic() - self._exporters.asked > SENSORS_TTL:
            self._exporters.asked = time.monotonic()
            try:
                found = await self._prometheus.query('up{job="node"}')
                self._exporters.up = {one.labels.get("node", ""): one.value == 1 for one in found}
            except HttpError:
                self._exporters.up = None
        return self._exporters.up or None

    async def _saved_at(self, jobs: tuple[JobView, ...]) -> float | None:
        """When the slowest of the running jobs last wrote a checkpoint."""
        names = [job.job_id for job in jobs if job.running]
        if self._prometheus is None or not names:
            return None
        wanted = "|".join(name.replace(".", "\\\\.") for name in names)
        metric = "training_checkpoint_last_success_timestamp_seconds"
        try:
            found = await self._prometheus.query(
                f'max by (job_id) ({metric}{{job_id=~"{wanted}"}})'
            )
        except HttpError:
            return None
        return min(one.value for one in found) if len(found) == len(names) else None

    async def _sum(self, selector: str) -> float | None:
        if self._prometheus is None:
            return None
        try:
            found = await self._prometheus.query(f"sum({selector})")
        except HttpError:
            return None
        return found[0].value if found else None

    async def _health_samples(self, target: Target) -> dict[str, list[Sample]]:
        assert self._prometheus is not None  # noqa: S101 - asked by health()
        gpu = f',gpu="{target.gpu}"' if target.gpu is not None else ""
        names = ["gpu_lost", "gpu_up", *WHERE_KNOWN] + ([] if gpu else ["up"])
        return {
            name: await self._prometheus.samples(
                f'{name}{{node="{target.name}"{gpu}}}' if name != "up"
                else f'up{{job="node",node="{target.name}"}}'
            )
            for name in names
        }  # fmt: skip

    def _attempts(self, incident: Incident) -> tuple[tuple[str, Target, float], ...]:
        wanted = [incident.target]
        if incident.target.kind is TargetKind.GPU:
            wanted.append(Target(TargetKind.NODE, incident.target.name))
        return tuple(
            (one.action, one.target, one.at)
            for target in wanted
            for one in self._book.attempts.get(target, ())
        )

    def _siblings(self, incident: Incident, playbook: Playbook) -> int:
        if playbook.widen_to is None or incident.target.kind is not TargetKind.GPU:
            return 0
        return sum(
            1
            for one in self._book.open_incidents()
            if one.id != incident.id
            and one.target.kind is TargetKind.GPU
            and one.target.name == incident.target.name
            and one.playbook == incident.playbook
            and one.state in BEFORE_REPAIR
            and abs(one.opened - incident.opened) <= self._hold
        )


def pool_view(nodes: tuple[NodeFacts, ...], pool: str, target: Target, book: Book) -> PoolView:
    """How much of a pool is out by us, the target itself apart; announced quarantines count."""
    members = {node.name: node for node in nodes if node.pool == pool}
    out = {
        Target(TargetKind.NODE, name)
        for name, node in members.items()
        if node.quarantine and node.quarantine.owner == OWNER
    }
    out |= {
        Target(TargetKind.GPU, name, gpu.index)
        for name, node in members.items()
        for gpu in node.gpus
        if gpu.quarantine and gpu.quarantine.owner == OWNER
    }
    for incident in book.open_incidents():
        # By the journal too: the cluster's answer may be older than what was done since it was asked.
        out |= set(incident.quarantined)
        out |= {
            run.step.target
            for run in incident.steps
            if run.state is StepState.PREPARED and run.step.action.startswith("quarantine_")
        }
    nodes_out = {one for one in out if one.kind is TargetKind.NODE and one.name in members}
    whole = {one.name for one in nodes_out}
    gpus_out = {
        one
        for one in out
        if one.kind is TargetKind.GPU and one.name in members and one.name not in whole
    }
    return PoolView(
        gpus=sum(len(node.gpus) for node in members.values()),
        nodes=len(members),
        gpus_out=len(gpus_out - {target}),
        nodes_out=len(nodes_out - {target}),
        recent=tuple(
            one.at
            for one in book.quarantines
            if one.target.name in members and not _within(one.target, target)
        ),
    )


def still_ours(incident: Incident, nodes: tuple[NodeFacts, ...]) -> tuple[Target, ...]:
    """What the incident quarantined beside its own target, and the cluster still says is ours."""
    known = {node.name: node for node in nodes}

    def owner(target: Target) -> str | None:
        node = known.get(target.name)
        found = node.gpu(target.gpu) if node and target.gpu is not None else node
        return found.quarantine.owner if found and found.quarantine else None

    others = (one for one in incident.quarantined if one != incident.target)
    return tuple(one for one in others if owner(one) == OWNER)


def _within(one: Target, target: Target) -> bool:
    """Whether a target is the other itself, or one of its GPUs: those go out with their node."""
    return one == target or (target.gpu is None and one.name == target.name)


def judge_health(
    samples: dict[str, list[Sample]], target: Target, since: float, now: float,
    *, oldest: float, settle: float = SICK_FOR_SURE,
) -> HealthReport:  # fmt: skip
    """Healthy: every sample is newer than `since`, fresh, present and says so. Pure.

    One that says sick within `settle` seconds of a repair may have been on its way: it is unknown then.
    """
    wanted = {"gpu_lost": 0.0, "gpu_up": 1.0, "up": 1.0}
    for name, found in samples.items():
        if name in WHERE_KNOWN and not found:
            continue
        fresh = [one for one in found if one.at > since and now - one.at <= oldest]
        if not fresh:
            return HealthReport(
                Health.UNKNOWN, f"No {name} of {target} was sampled since the repair."
            )
        if wrong := [one for one in fresh if one.value != wanted.get(name, 0.0)]:
            settled = max(one.at for one in wrong) - since >= settle
            text = f"{name} of {target} is {wrong[0].value:g}."
            return HealthReport(Health.SICK if settled else Health.UNKNOWN, text)
    return HealthReport(Health.HEALTHY, f"Metrics of {target} since then say healthy.")


def _complaints(target: Target, node: NodeFacts) -> frozenset[str]:
    """Whether the cluster itself says that the target is sick: a witness besides the sensors."""
    gpu = node.gpu(target.gpu) if target.gpu is not None else None
    sick = not node.alive or (gpu is not None and gpu.marked is not None)
    return frozenset({"the cluster"} if sick else ())


def _jobs(found: tuple[JobFacts, ...]) -> tuple[JobView, ...]:
    return tuple(JobView(job.job_id, job.running) for job in found)


def sensor(alertname: str) -> str:
    """Which instrument an alert was read from: two alerts of one instrument are one witness."""
    if alertname.startswith("GpuXid"):
        return "the kernel log"
    if alertname in ("GpuPeerOutlier", "GpuAnomalyScoreHigh"):
        return "a detector"
    if alertname.startswith("Node"):
        return "the node's scrape"
    if alertname.startswith(("Training", "Inference")):
        return "the job"
    return "the GPU's driver"
