"""A running engine on the in-memory cluster with a real journal, for tests of whole incidents."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleetmedic.kernel.labels import Target
from remediator.actions.registry import actions
from remediator.alert_states import AlertStates
from remediator.clocks import WallClock
from remediator.clusters.memory import MemoryCluster
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Incident, IncidentState, Level, Playbook, VerifyPlan
from remediator.engine import Engine
from remediator.engine_context import EngineContext
from remediator.executor import Executor
from remediator.health import Health, HealthReport
from remediator.journal import Journal, read_events, replay
from remediator.playbook_library import load_library
from remediator.policy import Policy
from remediator.reported_hardware import ReportedHardware
from remediator.senses import FactSources, Senses
from remediator.sensors import Sensors
from remediator.snapshots import encode, freeze, restore
from tests.unit.remediator.fake_alertmanager import FakeAlertmanager, states
from tests.unit.remediator.shipped_alerts import as_declared

GPU = Target.parse("node1/3")
QUICK = Limits(hold=0.05, dead_man=0, exporters_up_percent=0, max_out_percent=50, max_new=100)


def playbooks(probation: float = 0.05) -> tuple[Playbook, ...]:
    """The shipped ones, quick, and verified by the active test alone."""

    def quick(one: Playbook) -> Playbook:
        ladder = tuple(replace(rung, cooldown=0.0, deadline=2.0) for rung in one.ladder)
        jobs = replace(one.jobs, grace=0.05, deadline=2.0) if one.jobs else None
        verify = VerifyPlan(("probe",), 2, 2.0)
        return replace(
            one, ladder=ladder, jobs=jobs, verify=verify, probation=probation, witnesses=1
        )

    return tuple(quick(one) for one in load_library(()))


@dataclass
class Notified:
    """The occasions of the messages in the journal, oldest first."""

    folder: Path

    @property
    def occasions(self) -> list[str]:
        found = (one["data"] for one in read_events(self.folder) if one["event"] == "Notified")
        return [one["occasion"] for one in found]


@dataclass
class Running:
    """A running engine and what it works on."""

    engine: Engine
    journal_state: JournalState
    cluster: MemoryCluster
    people: Notified
    folder: Path
    alerts: AlertStates
    failures: list[None] = field(default_factory=list)

    async def send(
        self, name: str, target: Target = GPU, *, at: float | None = None, firing: bool = True
    ) -> Alert:
        alert = fire(name, target, at=at, firing=firing)
        await self.engine.receive([alert], "webhook")
        return alert

    async def until(self, what: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, [
                (str(one.target), str(one.state), one.text)
                for one in self.journal_state.incidents.values()
            ]
            await asyncio.sleep(0.005)

    async def state(self, state: IncidentState, target: Target = GPU) -> Incident:
        def found() -> Incident | None:
            return next(
                (
                    one
                    for one in self.journal_state.incidents.values()
                    if (one.target, one.state) == (target, state)
                ),
                None,
            )

        await self.until(lambda: found() is not None)
        one = found()
        assert one is not None
        return one

    def verbs(self) -> list[str]:
        return [effect.verb for effect in self.cluster.effects]


class SaidSensors(Sensors):
    """Sensors without Prometheus: the health of hardware and the demand are what a test says."""

    def __init__(self, state: Health = Health.HEALTHY, waiting: float = 0.0) -> None:
        super().__init__(None, cluster="memory", scrape_interval=5.0, now=time.time)
        self.state, self.demand = state, waiting

    async def health(
        self, target: Target, since: float, now: float, *, settles: bool = True
    ) -> HealthReport:
        return HealthReport(self.state, f"The metrics of {target} are {self.state}.")

    async def waiting(self, workload: str) -> float | None:
        return self.demand


def fire(name: str, target: Target = GPU, *, at: float | None = None, firing: bool = True) -> Alert:
    labels = {"alertname": name, "severity": "critical", "cluster": "memory"}
    labels |= {"node": target.name} if target.node else {"job_id": target.name}
    if target.gpu is not None:
        uuid = f"GPU-{target.name.removeprefix('node')}-{target.gpu}"
        labels |= {"gpu": str(target.gpu), "uuid": uuid}
    labels = as_declared(labels)
    starts = time.time() if at is None else at
    return Alert(f"{name}{target}".replace("/", ""), starts, str(starts), firing, labels)


def senses_of(
    cluster: MemoryCluster,
    journal_state: JournalState,
    rules: Policy,
    alerts: AlertStates,
    refusal: Callable[[], str | None] = lambda: None,
    sensors: Sensors | None = None,
) -> Senses:
    """The facts of a cluster without Prometheus, or with what `sensors` says."""
    sensors = sensors or Sensors(None, cluster="memory", scrape_interval=5.0, now=time.time)
    sources = FactSources(
        cluster,
        sensors,
        alerts,
        journal_state,
        WallClock(),
        ReportedHardware(journal_state, rules.route),
        refusal,
    )
    return Senses(sources, ceiling=rules.ceiling, limits=rules.limits)


@contextlib.asynccontextmanager
async def world(
    folder: Path, cluster: MemoryCluster | None = None, *, limits: Limits = QUICK,
    level: Level = Level.REPAIR, books: tuple[Playbook, ...] | None = None,
    fake: FakeAlertmanager | None = None, refusal: Callable[[], str | None] = lambda: None,
    sensors: Sensors | None = None,
) -> AsyncIterator[Running]:  # fmt: skip
    """An engine at work. Without a fake Alertmanager, what is received is all that there is."""
    cluster = cluster or MemoryCluster(nodes=4, gpus=8)
    journal_state = JournalState()
    for event in replay(folder):
        journal_state.apply(event)
    journal = Journal(folder, journal_state.apply)
    rules = Policy(books or playbooks(), limits, level, 1.0, 1.0, "memory")
    alerts = states(fake, time.time)
    await alerts.refresh(0.0)
    senses = senses_of(cluster, journal_state, rules, alerts, refusal, sensors)
    executor = Executor(actions(), disruptive_at_once=4)
    failures: list[None] = []
    shell = EngineContext(cluster, senses, executor, time.time, lambda: failures.append(None))
    engine = Engine(rules, journal_state, journal, shell)
    engine.start()
    try:
        yield Running(engine, journal_state, cluster, Notified(folder), folder, alerts, failures)
    finally:
        await engine.close()
        journal.close()
        await asyncio.sleep(0)  # the last written events are not applied to the state yet
        again = JournalState()
        for event in replay(folder):
            again.apply(event)
        assert again == journal_state, "replaying the journal must give the live state"
        parts = encode(freeze(journal_state), journal_state.retention)
        assert restore(parts, journal_state.retention) == journal_state, "so must a snapshot"
