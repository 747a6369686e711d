"""The facts for a decision: what cannot be learned is unknown, never zero and never healthy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clocks import WallClock
from remediator.clusters.base import Capability, ClusterError, JobFacts, NodeFacts
from remediator.clusters.memory import MemoryCluster
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.evidence import ACTIVE, AlertStatus
from remediator.core.facts import Facts
from remediator.core.guards import Limits
from remediator.core.journal_state import Attempt, JournalState, Pin
from remediator.core.model import OWNER, Alert, Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.playbook_library import load_library
from remediator.policy import Policy
from remediator.reported_hardware import ReportedHardware
from remediator.senses import FactSources, Senses
from remediator.sensors import Sensors
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.fake_alertmanager import FakeAlertmanager, states
from tests.unit.remediator.shipped_alerts import as_declared

NOW = 1_700_000_000.0
GPU, NODE = Target.parse("node1/3"), Target.parse("node1")
JOB, SERVE = Target.parse("job/train-a"), Target(TargetKind.WORKLOAD, "serve")


@dataclass
class Told:
    """Sensors that say what they are told to, and remember what they were asked."""

    up: dict[str, bool] | None = field(default_factory=lambda: {"node1": True, "node2": True})
    xid: float | None = None
    boot: float | None = None
    uuids: dict[str, float] | None = None
    began: float | None = None
    ecc: float | None = None
    saved: float | None = None
    hangs: bool = False
    share: tuple[int, int] | None = (1, 3)
    queue: float | None = None
    firing: bool | None = True
    twice: frozenset[str] = frozenset()
    step: float | None = None
    asked: list[str] = field(default_factory=list)

    async def exporters_up(self, *, fresh: bool = False) -> dict[str, bool] | None:
        self.asked.append("exporters_up")
        return self.up

    def doubled(self, node: str) -> bool:
        return node in self.twice

    async def last_xid(self, target: Target, xid: str = "") -> float | None:
        self.asked.append(f"last_xid {xid}".strip())
        return self.xid

    async def active_since(self, alert: Alert) -> float | None:
        return self.began

    async def last_uncorrectable(self, target: Target) -> float | None:
        return self.ecc

    async def last_step(self, jobs: list[str]) -> float | None:
        self.asked.append("last_step")
        return self.step

    async def boot_time(self, target: Target) -> float | None:
        self.asked.append("boot_time")
        return self.boot

    async def reported_uuids(self, node: str) -> dict[str, float] | None:
        return self.uuids

    async def saved_at(self, jobs: Sequence[str]) -> float | None:
        self.asked.append(f"saved_at {','.join(jobs)}")
        return self.saved

    async def stalled(self, jobs: Sequence[str]) -> bool:
        self.asked.append(f"stalled {','.join(jobs)}")
        return self.hangs

    async def stalled_share(self) -> tuple[int, int] | None:
        self.asked.append("stalled_share")
        return self.share

    async def fires(self, alert: Alert, *, event: bool) -> bool | None:
        self.asked.append(f"fires {alert.name} {'event' if event else 'state'}")
        return self.firing

    async def waiting(self, service: str) -> float | None:
        return self.queue


class Dying(MemoryCluster):
    """A cluster in which some jobs hold their GPUs and do not run."""

    dead: frozenset[str] = frozenset()
    silent = False

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        found = await super().jobs_on(target)
        return tuple(replace(one, running=one.job_id not in self.dead) for one in found)

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        if self.silent:
            raise ClusterError("it does not answer.", transient=True)
        return await super().list_nodes()


class World:
    """Senses on a cluster in memory, a fake Alertmanager, sensors that are told, and a steady clock."""

    def __init__(self, *, level: Level = Level.REPAIR, limits: Limits = Limits()) -> None:  # noqa: B008
        self.at = NOW
        self.cluster, self.told, self.journal_state = Dying(), Told(), JournalState()
        self.fake = FakeAlertmanager(NOW - 3600)
        self.other: str | None = None
        rules = Policy(load_library(()), limits, level, 1.0, 1.0, "memory")
        self.rules = rules
        clock = WallClock(lambda: self.at, lambda: self.at - NOW)
        self.alerts = states(self.fake, clock.now)
        sources = FactSources(
            self.cluster, cast(Sensors, self.told), self.alerts, self.journal_state, clock,
            ReportedHardware(self.journal_state, rules.route), lambda: self.other,
        )  # fmt: skip
        self.senses = Senses(sources, ceiling=level, limits=limits)

    def alert(
        self, name: str, target: Target = GPU, *, at: float = NOW - 30, uuid: str = "", **more: str
    ) -> Alert:
        labels = {"alertname": name, "severity": "critical", "cluster": "memory"}
        if target.kind is TargetKind.JOB:
            labels |= {"job_id": target.name}
        else:
            labels |= {"node": target.name}
        if target.gpu is not None:
            number = target.name.removeprefix("node")
            labels |= {"gpu": str(target.gpu), "uuid": uuid or f"GPU-{number}-{target.gpu}"}
        return Alert(f"{name} {target}", at, "x", True, as_declared(labels) | more)

    def hear(self, name: str, target: Target = GPU, *, at: float = NOW - 30, listed: bool = True,
             received: float = NOW - 20, uuid: str = "", **more: str) -> Alert:  # fmt: skip
        """An alert of the incident on its target, or of a new one."""
        alert = self.alert(name, target, at=at, uuid=uuid, **more)
        self.journal_state.apply(events.alert_received(alert, target, received, "webhook"))
        found = self.rules.route(alert)
        incident = self.journal_state.incident_on(target)
        if incident is None and found.playbook is not None:
            identity = f"inc-{target}"
            opened = events.opened(
                identity, target, found.playbook.name, Level.REPAIR, received, 0, "A case."
            )
            self.journal_state.apply(opened)
            incident = self.journal_state.incidents[identity]
        assert incident is not None
        self.journal_state.apply(
            events.absorbed(incident.id, target, events.episode_of(alert, received), received)
        )
        if listed:
            self.fake.lists(alert)
        return alert

    def change(self, target: Target = GPU, **changes: Any) -> Incident:
        one = replace(self.incident(target), **changes)
        self.journal_state.incidents[one.id] = one
        return one

    def incident(self, target: Target = GPU) -> Incident:
        one = self.journal_state.incident_on(target)
        assert one is not None
        return one

    def facts(
        self, target: Target = GPU, *, state: IncidentState | None = IncidentState.QUARANTINED
    ) -> Facts:
        one = self.change(target, state=state) if state else self.incident(target)
        playbook = self.rules.playbook(one.playbook)
        assert playbook is not None
        self.ask()
        return asyncio.run(self.senses.facts(one, playbook, fresh=True))

    def ask(self) -> None:
        """Ask Alertmanager anew, however lately it was asked."""
        asyncio.run(self.alerts.refresh(0.0))

    def quiet(self, target: Target) -> bool | None:
        self.ask()
        return asyncio.run(self.senses.quiet(target))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("finished", "expected"), [(("a",), set()), (("a", "b"), {"died"})])
def test_one_dead_job_beside_a_running_one_says_nothing_about_its_node(
    world: World, finished: tuple[str, ...], expected: set[str]
) -> None:
    world.cluster.dead = frozenset(finished)
    for name, on in (("a", "node1/0"), ("b", "node1/1")):
        world.cluster.submit(name, gpus=1, on=Target.parse(on))
    world.hear("NodeDown", NODE)
    found = world.facts(NODE).witnesses - {"an unavailable exporter"}
    assert {name.split()[2] for name in found} == expected


# How the alerts stand.


def test_a_listed_alert_is_active_and_a_silenced_one_is_withheld_and_no_signal(
    world: World,
) -> None:
    alert = world.hear("GpuLost")
    facts = world.facts()
    assert (facts.evidence, facts.alerts_active) == (ACTIVE, True)
    assert facts.witnesses == {"the GPU's driver"}
    world.fake.lists(alert, silenced_by=("s1",))
    facts = world.facts()
    assert facts.evidence.standing is AlertStatus.WITHHELD
    assert (facts.alerts_active, facts.firing, facts.witnesses) == (True, True, frozenset())


def test_signals_are_counted_by_the_label_and_not_by_the_name(world: World) -> None:
    world.hear("GpuLost", instrument="")
    assert world.facts().witnesses == {"an alert from an unknown source"}
    world.hear("GpuXidFatalHardware", instrument="")
    assert world.facts().witnesses == {"an alert from an unknown source"}
    world.hear("GpuHung", instrument="kernel_log")
    assert world.facts().witnesses == {"the kernel log"}
    world.hear("GpuEccUncorrectable", instrument="driver")
    assert world.facts().witnesses == {"the kernel log", "the GPU's driver"}


def test_one_missing_from_a_complete_answer_is_over(world: World) -> None:
    world.hear("GpuLost", listed=False, received=NOW - 100)
    facts = world.facts()
    assert (facts.firing, facts.alerts_active) == (False, False)


def test_of_several_alerts_one_active_one_suffices(world: World) -> None:
    world.hear("GpuLost", listed=False, received=NOW - 100)
    world.hear("GpuHung")
    facts = world.facts()
    assert facts.evidence is ACTIVE
    assert facts.witnesses == {"the GPU's driver"}


def test_an_event_stands_although_its_alert_is_over_until_the_repair(world: World) -> None:
    heard = world.hear("GpuXidFatalHardware", received=NOW - 100, at=NOW - 110)
    world.ask()
    world.fake.forgets(heard)
    facts = world.facts()
    assert (facts.evidence, facts.alerts_active) == (ACTIVE, False)
    assert facts.event_at == NOW - 110
    assert facts.witnesses == {"the kernel log"}
    world.change(repaired_at=NOW - 50)
    assert not world.facts().firing
    assert world.facts().event_at is None, "the repair was after it"
    assert world.facts().witnesses == frozenset()


def test_an_event_that_alertmanager_never_listed_counts_for_nothing(world: World) -> None:
    world.hear("GpuXidFatalHardware", listed=False, received=NOW - 100, at=NOW - 110)
    facts = world.facts()
    assert (facts.firing, facts.witnesses) == (False, frozenset())


def test_what_prometheus_contradicts_is_not_confirmed_and_no_signal(world: World) -> None:
    world.hear("GpuEccUncorrectable")
    world.told.firing = False
    facts = world.facts()
    assert facts.evidence.reason is Reason.ALERT_UNCONFIRMED
    assert "is not firing in Prometheus" in facts.evidence.text
    assert facts.witnesses == frozenset()


@pytest.mark.parametrize("name", ["GpuLost", "GpuHung"])
def test_a_gpu_whose_job_made_a_step_since_is_neither_lost_nor_hung(world: World, name) -> None:
    world.cluster.submit("train", on=GPU)
    world.hear(name, at=NOW - 30)
    assert world.facts().witnesses == {"the GPU's driver"}
    world.told.step = NOW - 29.5  # it may have been on its way
    assert world.facts().witnesses == {"the GPU's driver"}
    world.told.step = NOW - 20
    assert world.facts().witnesses == frozenset()


def test_an_event_has_its_own_time_where_the_sensors_keep_it(world: World) -> None:
    world.hear("GpuXidFatalHardware", at=NOW - 10)
    world.change(repaired_at=NOW - 50)
    world.told.xid = NOW - 60
    assert not world.facts().firing
    world.told.xid = NOW - 40
    assert world.facts().firing
    assert world.facts().witnesses == {"the kernel log"}


@pytest.mark.parametrize(("labels", "asked"), [({"xid": "79"}, "last_xid 79"), ({}, "last_xid")])
def test_an_alert_about_one_xid_is_not_dated_by_another(
    world: World, labels: dict[str, str], asked: str
) -> None:
    alert = world.alert("GpuXidFatalHardware")
    alert = replace(alert, labels={**alert.labels, **labels})
    world.told.xid = NOW - 60
    assert asyncio.run(world.senses.event_at(alert, GPU)) == NOW - 60
    assert world.told.asked == [asked], "a program's error after the repair is another event"


@pytest.mark.parametrize(
    ("name", "reports", "event"),
    [
        ("GpuThermalSlowdownHardware", "", False),
        ("GpuThermalSlowdownHardware", "event", True),
        ("GpuThermalSlowdownHardware", "memory_error", True),
        ("GpuThermalSlowdownHardware", "typo", False),
        ("GpuEccUncorrectable", "condition", False),
        ("GpuEccUncorrectable", "", True),  # a rule of a version before the label
    ],
)
def test_the_label_decides_whether_an_alert_outlives_the_repair_as_an_event(
    world: World, name: str, reports: str, event: bool
) -> None:
    """An event before the repair is over although its alert is active; a condition is not."""
    world.hear(name, at=NOW - 90, reports=reports)
    world.told.began = world.told.ecc = NOW - 90
    world.change(repaired_at=NOW - 50)
    assert world.facts().firing is not event


@pytest.mark.parametrize(
    ("name", "reports", "dead"),
    [("GpuLost", "", True), ("GpuLost", "condition", False), ("GpuLost", "typo", False),
     ("GpuRowRemapPending", "", False), ("GpuRowRemapPending", "loss", True)],
)  # fmt: skip
def test_the_label_decides_whether_an_alert_reports_a_loss(
    world: World, name: str, reports: str, dead: bool
) -> None:
    world.hear(name, reports=reports)
    world.hear("GpuXidFatalHardware")
    assert world.facts(state=IncidentState.TRIAGED).dead is dead


def test_an_event_before_the_nodes_last_boot_is_over(world: World) -> None:
    world.hear("GpuXidFatalHardware", at=NOW - 10)
    world.told.xid = NOW - 60
    world.told.boot = NOW - 50
    assert not world.facts().firing
    world.told.boot = NOW - 70
    assert world.facts().firing


def test_an_event_before_the_targets_cure_by_an_earlier_incident_is_over(world: World) -> None:
    world.hear("GpuXidFatalHardware", at=NOW - 10)
    world.told.xid = NOW - 60
    world.journal_state.cured[NODE] = NOW - 50
    assert not world.facts().firing


def test_what_prometheus_own_rule_contradicts_is_not_known_to_stand(world: World) -> None:
    world.hear("GpuLost")
    world.told.firing = None
    assert "did not answer" in world.facts().evidence.text
    world.told.asked.clear()
    world.told.firing = False
    facts = world.facts()
    assert facts.evidence.standing is AlertStatus.UNKNOWN
    assert (facts.firing, facts.witnesses) == (True, frozenset())
    assert world.told.asked.count("fires GpuLost state") == 1
    assert world.facts(state=IncidentState.TRIAGED).evidence is ACTIVE, (
        "a quarantine waits for nobody"
    )


def test_prometheus_is_not_asked_about_a_silenced_alert_or_one_that_is_over(world: World) -> None:
    alert = world.hear("GpuLost", received=NOW - 100)
    world.fake.lists(alert, silenced_by=("s",))
    world.facts()
    world.fake.forgets(alert)
    world.facts()
    assert not any(one.startswith("fires") for one in world.told.asked)


def test_the_rule_of_an_event_is_asked_about_although_its_alert_is_over(world: World) -> None:
    heard = world.hear("GpuXidFatalHardware", received=NOW - 100)
    world.ask()
    world.fake.forgets(heard)
    world.told.firing = None
    assert world.facts().evidence.standing is AlertStatus.UNKNOWN
    assert "fires GpuXidFatalHardware event" in world.told.asked
    world.told.firing = False
    assert world.facts().evidence.standing is AlertStatus.OVER, "no rule ever saw that event"
    world.told.firing = True
    assert world.facts().evidence is ACTIVE


def test_a_new_incident_waits_for_no_prometheus(world: World) -> None:
    world.hear("GpuXidFatalHardware")
    world.facts(state=IncidentState.TRIAGED)
    assert world.told.asked == []


def test_a_failed_test_since_the_repair_is_evidence(world: World) -> None:
    world.hear("GpuLost", listed=False, received=NOW - 100)
    one = world.change(state=IncidentState.VERIFYING, repaired_at=NOW - 50)
    step = plan.new_step(one, ACTIONS.named("verify"), 9.0)
    for kind in (Kind.STEP_PREPARED, Kind.STEP_FAILED):
        world.journal_state.apply(
            events.step_event(kind, one, step, NOW - 20, Reason.NOT_HEALED, passed=False)
        )
    facts = world.facts(state=None)
    assert (facts.evidence, facts.alerts_active) == (ACTIVE, False)


def test_without_a_complete_answer_nobody_knows_what_is_named(world: World) -> None:
    world.hear("GpuLost")
    assert world.quiet(GPU) is False
    assert world.quiet(Target.parse("node4/1")) is True
    world.fake.started = NOW - 10
    assert world.quiet(Target.parse("node4/1")) is None
    world.fake.started, world.fake.error = NOW - 3600, "gone"
    assert world.quiet(Target.parse("node4/1")) is None
    assert world.senses.is_reported(GPU) is None


@pytest.mark.parametrize(
    ("age", "lately"), [(0.0, True), (60.0, True), (60.1, False), (-1.0, False)]
)
def test_an_alert_was_heard_lately_for_a_minute(world: World, age: float, lately: bool) -> None:
    world.hear("GpuLost", received=NOW - age)
    assert world.facts().recently_received is lately


# What stops the remediator.


def test_a_pause_names_who_and_why(world: World) -> None:
    world.hear("GpuLost")
    assert (world.facts().paused, world.facts().stops.pause) == (False, "")
    world.journal_state.apply(events.paused("alice", "new racks", NOW - 5))
    facts = world.facts()
    assert facts.paused
    assert facts.stops.pause == "alice paused all actions: new racks"
    assert facts.stops.pause_group == "pause/1699999995"


def test_another_installation_is_named(world: World) -> None:
    world.hear("GpuLost")
    assert (world.facts().stops.other_installation, world.senses.refusal()) == ("", None)
    world.other = "b on host2 acts."
    assert world.facts().stops.other_installation == world.senses.refusal() == world.other


@pytest.mark.parametrize(("age", "pinned"), [(1.0, True), (14_399.0, True), (14_400.0, False)])
def test_a_release_by_a_person_is_respected_for_four_hours(
    world: World, age: float, pinned: bool
) -> None:
    world.hear("GpuLost")
    world.journal_state.pins[GPU] = Pin("alice", "tested by hand", NOW - age)
    stops = world.facts().stops
    assert stops.pinned.endswith("UTC: tested by hand" if pinned else "")
    assert bool(stops.pinned) is pinned
    assert stops.pinned_until == (NOW - age + 14_400 if pinned else None)
    world.hear("GpuLost", Target.parse("node1/4"))
    assert world.facts(Target.parse("node1/4")).stops.pinned == ""


def test_a_jump_of_the_clock_is_a_stop(world: World) -> None:
    world.hear("GpuLost")
    clock = WallClock(lambda: world.at, lambda: 0.0)
    world.senses._sources = replace(world.senses._sources, clock=clock)
    world.at = NOW + 31
    facts = world.facts()
    assert "jumped by +31 s" in facts.stops.clock
    assert facts.stops.clock_left == 600.0


def test_a_storm_stops_the_pool_from_the_first_moment_on(world: World) -> None:
    world.hear("GpuLost")
    assert world.facts().stops.storm == ""
    for node in (2, 3, 4):
        world.fake.lists(world.alert("NodeDown", Target.parse(f"node{node}")))
    facts = world.facts()
    assert "3 of 4 nodes of pool default" in facts.stops.storm
    assert facts.stops.storm_group == "storm/default"
    world.journal_state.apply(events.storm_began("default", NOW - 9, "A storm."))
    for node in (2, 3, 4):
        world.fake.forgets(world.alert("NodeDown", Target.parse(f"node{node}")))
    facts = world.facts()
    assert (facts.stops.storm, facts.stops.storm_group) == ("A storm.", "storm/default/1699999991")


def test_a_storm_stops_jobs_as_well_wherever_they_run(world: World) -> None:
    world.cluster.submit("train-a", gpus=2)
    world.hear("TrainingStalled", JOB)
    assert world.facts(JOB).stops.storm == ""
    world.journal_state.apply(events.storm_began("default", NOW - 9, "A storm."))
    assert world.facts(JOB).stops.storm == "A storm."


def test_a_storm_in_another_pool_stops_no_hardware_here(world: World) -> None:
    world.hear("GpuLost")
    world.journal_state.apply(events.storm_began("other", NOW - 9, "A storm."))
    assert world.facts().stops.storm == ""


def test_reported_hardware_is_no_place_for_a_moved_job(world: World) -> None:
    world.hear("GpuLost")
    other = Target.parse("node2/5")
    world.fake.lists(world.alert("GpuHung", other))
    assert world.facts().reported_hardware == (GPU, other)


# What the cluster says.


def test_a_cluster_that_does_not_answer_is_unknown(world: World) -> None:
    world.hear("GpuLost")
    assert world.facts().known
    world.cluster.silent = True
    facts = world.facts()
    assert (facts.known, facts.quarantine_owner) == (False, None)


@pytest.mark.parametrize("target", ["node9/3", "node1/9", "node9"])
def test_hardware_that_the_cluster_does_not_have_is_unknown(world: World, target: str) -> None:
    found = Target.parse(target)
    world.hear("GpuLost" if found.gpu is not None else "NodeDown", found)
    assert not world.facts(found).known


def test_who_quarantined_what_is_read_from_the_cluster(world: World) -> None:
    world.hear("GpuLost")
    asyncio.run(world.cluster.quarantine(GPU, op_id="a", owner="fleetmedic", reason="x"))
    asyncio.run(world.cluster.quarantine(NODE, op_id="b", owner="bob", reason="x"))
    facts = world.facts()
    assert (facts.quarantine_owner, facts.node_quarantine_owner) == ("fleetmedic", "bob")


def test_capabilities_are_those_of_the_cluster(world: World) -> None:
    world.hear("GpuLost")
    world.cluster.capabilities = frozenset({Capability.SIGNAL})
    assert world.facts().capabilities == {"signal"}


def test_another_board_in_the_gpus_place_is_named(world: World) -> None:
    world.hear("GpuLost")
    assert world.facts().identity.confirmed
    world.cluster.set_uuid(GPU, "GPU-other")
    assert "GPU-1-3" in world.facts().identity.problem


def test_unidentified_hardware_has_one_signal_by_driver_and_kernel_log(world: World) -> None:
    world.hear("GpuLost")
    world.hear("GpuXidFatalHardware")
    assert len(world.facts().witnesses) == 2
    world.cluster.set_uuid(GPU, "")
    assert len(world.facts().witnesses) == 1


def test_a_node_is_identified_by_what_its_exporter_reports(world: World) -> None:
    world.hear("NodeDown", NODE)
    world.told.uuids = {"GPU-2-1": NOW}
    facts = world.facts(NODE)
    assert "node2" in facts.identity.problem
    world.told.uuids = {"GPU-1-1": NOW}
    assert world.facts(NODE).identity.confirmed


def test_the_clusters_own_complaint_is_a_signal(world: World) -> None:
    world.hear("GpuLost")
    world.cluster.set_alive("node1", False)
    assert world.facts().witnesses == {"the GPU's driver", "the cluster"}


def test_jobs_of_the_whole_node_are_looked_at_for_a_repair_only(world: World) -> None:
    world.hear("GpuLost")
    world.cluster.submit("train-b", on=Target.parse("node1/5"))
    assert world.facts(state=IncidentState.JOBS_MOVED).node_jobs == ()
    assert [job.job_id for job in world.facts(state=IncidentState.REPAIRING).node_jobs] == [
        "train-b"
    ]


# Jobs and workloads.


def test_a_job_that_stalls_with_others_is_held(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("TrainingStalled", JOB)
    assert world.facts(JOB, state=IncidentState.DRAINING).stops.stalls == ""
    world.told.share = (2, 3)
    assert (
        "2 of 3 running training jobs"
        in world.facts(JOB, state=IncidentState.DRAINING).stops.stalls
    )
    world.told.share = None
    assert world.facts(JOB, state=IncidentState.DRAINING).stops.stalls == ""


def test_a_job_that_made_a_step_since_its_alert_began_is_not_restarted(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("TrainingStalled", JOB, at=NOW - 30)
    for step, again in ((NOW - 40, False), (NOW - 20, True), (None, False)):
        world.told.step = step
        stops = world.facts(JOB, state=IncidentState.DRAINING).stops
        assert bool(stops.stalls) is again


def test_hardware_is_judged_without_the_stalls_of_other_jobs(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("GpuLost")
    world.told.share = (3, 3)
    assert world.facts(state=IncidentState.QUARANTINED).stops.stalls == ""
    assert "stalled_share" not in world.told.asked


def test_an_unknown_job_is_unknown_and_a_finished_one_is_over(world: World) -> None:
    world.hear("TrainingStalled", JOB)
    assert (world.facts(JOB).job_known, world.facts(JOB).jobs) == (False, ())
    world.cluster.submit("train-a", gpus=1)
    facts = world.facts(JOB)
    assert (facts.job_known, [job.running for job in facts.jobs]) == (True, [True])
    assert facts.witnesses == {"the job"}
    world.cluster.finish("train-a")
    assert (world.facts(JOB).job_known, world.facts(JOB).jobs) == (True, ())


def test_a_workload_has_its_size_and_its_queue(world: World) -> None:
    opened = events.opened("inc-1", SERVE, "inference-scale-out", Level.REPAIR, NOW, 0, "x")
    world.journal_state.apply(opened)
    playbook = world.rules.playbooks[0]

    def facts() -> Facts:
        return asyncio.run(world.senses.facts(world.journal_state.incidents["inc-1"], playbook))

    assert not facts().known
    world.cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
    load = facts().workload
    assert load is not None
    assert (load.wanted, load.minimum, load.maximum, load.waiting) == (2, 1, 4, None)
    world.told.queue = 7.0
    assert facts().workload == replace(load, waiting=7.0)


# Dead hardware.


def test_hardware_lost_by_two_signals_is_dead(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("GpuLost")
    assert not world.facts(state=IncidentState.TRIAGED).dead
    world.hear("GpuXidFatalHardware")
    assert world.facts(state=IncidentState.TRIAGED).dead


def test_hardware_lost_by_one_signal_is_dead_while_its_jobs_are(world: World) -> None:
    world.hear("GpuLost")
    assert not world.facts(state=IncidentState.TRIAGED).dead, "an idle GPU says nothing"
    world.cluster.submit("train-a", on=GPU)
    world.cluster.dead = frozenset({"train-a"})
    assert world.facts(state=IncidentState.TRIAGED).dead


def test_a_job_without_progress_is_asked_about_only_where_the_budget_holds(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("GpuHung")
    world.told.hangs = True
    assert not world.facts(state=IncidentState.TRIAGED).dead
    assert world.told.asked == []
    for reason, dead in (
        (Reason.PAUSED, False), (Reason.BUDGET_OUT, True), (Reason.BUDGET_NEW, True),
    ):  # fmt: skip
        world.change(held=reason)
        assert world.facts(state=IncidentState.HELD).dead is dead
    assert world.told.asked == ["stalled train-a"] * 2
    world.told.hangs = False
    assert not world.facts(state=IncidentState.HELD).dead


def test_neither_a_slow_gpu_nor_an_unidentified_one_is_dead(world: World) -> None:
    world.hear("GpuPeerOutlier")
    world.hear("GpuXidFatalHardware")
    assert not world.facts(state=IncidentState.TRIAGED).dead
    world.hear("GpuLost")
    assert world.facts(state=IncidentState.TRIAGED).dead
    world.cluster.set_uuid(GPU, "GPU-other")
    assert not world.facts(state=IncidentState.TRIAGED).dead


# What Prometheus says of the exporters.


def test_a_fresh_process_has_received_no_watchdog_yet(world: World) -> None:
    world.hear("GpuLost")
    assert world.facts(state=IncidentState.JOBS_MOVED).sensors.watchdog_age == float("inf")
    world.senses.record_watchdog()
    assert world.facts(state=IncidentState.JOBS_MOVED).sensors.watchdog_age < 5.0


def test_the_targets_own_exporter_does_not_count_among_the_others(world: World) -> None:
    world.hear("GpuLost")
    world.told.up = {"node1": False, "node2": True, "node3": False}
    facts = world.facts(state=IncidentState.JOBS_MOVED)
    assert (facts.sensors.prometheus, facts.sensors.exporters_up) == (True, 0.5)
    assert facts.exporter_down
    world.told.up = {"node1": True}
    facts = world.facts(state=IncidentState.JOBS_MOVED)
    assert (facts.sensors.exporters_up, facts.exporter_down) == (1.0, False)
    world.told.up = {"node2": True}
    assert not world.facts(state=IncidentState.JOBS_MOVED).exporter_down


def test_a_prometheus_that_does_not_answer_says_nothing(world: World) -> None:
    world.hear("GpuLost")
    world.told.up = None
    facts = world.facts(state=IncidentState.JOBS_MOVED)
    assert (facts.sensors.prometheus, facts.sensors.exporters_up) == (False, None)
    assert not facts.exporter_down


@pytest.mark.parametrize(
    ("state", "job", "asked"),
    [
        (IncidentState.TRIAGED, True, False),
        (IncidentState.HELD, True, False),
        (IncidentState.QUARANTINED, False, False),
        (IncidentState.QUARANTINED, True, True),
        (IncidentState.JOBS_MOVED, False, True),
        (IncidentState.ESCALATED, False, True),
    ],
)
def test_prometheus_is_asked_only_where_its_answer_matters(
    world: World, state: IncidentState, job: bool, asked: bool
) -> None:
    if job:
        world.cluster.submit("train-a", on=GPU)
    world.hear("GpuLost")
    world.facts(state=state)
    assert ("exporters_up" in world.told.asked) is asked


def test_where_nothing_may_be_done_the_plan_is_made_with_all_facts() -> None:
    world = World(level=Level.OBSERVE)
    world.hear("GpuLost")
    facts = world.facts(state=IncidentState.TRIAGED)
    assert facts.level is Level.OBSERVE
    assert facts.sensors.prometheus


def test_checkpoints_are_asked_for_while_one_is_waited_for(world: World) -> None:
    world.cluster.submit("train-a", on=GPU)
    world.hear("GpuLost")
    world.told.saved = NOW - 3
    assert world.facts(state=IncidentState.DRAINING).checkpoint_at is None
    assert world.facts(state=IncidentState.CHECKPOINTING).checkpoint_at == NOW - 3
    assert world.told.asked.count("saved_at train-a") == 1
    world.cluster.dead = frozenset({"train-a"})
    assert world.facts(state=IncidentState.CHECKPOINTING).checkpoint_at is None


# The node and its GPUs.


def test_siblings_fell_ill_within_the_hold_with_the_same_playbook(world: World) -> None:
    world.hear("GpuLost")
    world.hear("GpuLost", Target.parse("node1/4"))
    world.hear("GpuLost", Target.parse("node1/5"), received=NOW - 20 + 3.1)
    world.hear("GpuPeerOutlier", Target.parse("node1/6"))
    world.hear("GpuLost", Target.parse("node2/4"))
    assert world.facts().siblings == 1
    world.change(Target.parse("node1/4"), state=IncidentState.REPAIRING)
    assert world.facts().siblings == 0


def test_a_node_incident_that_is_held_or_over_takes_no_gpu(world: World) -> None:
    world.hear("GpuLost")
    assert world.facts().widens
    world.hear("NodeDown", NODE)
    assert world.facts().widens
    world.change(NODE, held=Reason.BUDGET_OUT, state=IncidentState.HELD)
    assert not world.facts().widens
    world.change(NODE, held=Reason.BUDGET_OUT, level=Level.OBSERVE)
    assert world.facts().widens, "one that only notifies people keeps nobody"


def test_attempts_before_a_persons_retry_do_not_count(world: World) -> None:
    world.hear("GpuLost")
    world.journal_state.attempts = {
        GPU: [
            Attempt("reset_gpu", ACTIONS.named("reset_gpu").effect, GPU, NOW - 50),
            Attempt("reset_gpu", ACTIONS.named("reset_gpu").effect, GPU, NOW - 5),
        ],
        NODE: [Attempt("reboot_node", ACTIONS.named("reboot_node").effect, NODE, NOW - 40)],
    }
    expected = {("reset_gpu", GPU, NOW - 50), ("reset_gpu", GPU, NOW - 5), ("reboot_node", NODE, NOW - 40)}  # fmt: skip
    assert set(world.facts().attempts) == expected
    world.change(retried_at=NOW - 40)
    assert world.facts().attempts == (("reset_gpu", GPU, NOW - 5),)


def test_the_last_look_before_a_step_asks_alertmanager_again(world: World) -> None:
    alert = world.hear("GpuLost", received=NOW - 100)
    assert world.facts().firing
    world.fake.forgets(alert)
    one = world.incident()
    playbook = world.rules.playbook(one.playbook)
    assert playbook is not None

    async def looks() -> tuple[bool, bool]:
        await asyncio.sleep(0.11)
        recent = await world.senses.facts(one, playbook)
        fresh = await world.senses.facts(one, playbook, fresh=True)
        return recent.firing, fresh.firing

    assert asyncio.run(looks()) == (True, False)


def test_a_wrong_label_of_a_minute_does_not_stick(world: World) -> None:
    strange = world.hear("GpuXidFatalHardware", received=NOW - 100, at=NOW - 110, uuid="GPU-other")
    assert "GPU-other" in world.facts().identity.problem
    world.fake.forgets(strange)
    gone = world.facts()
    assert (gone.firing, gone.identity.problem) == (False, "")
    world.hear("GpuLost")
    lost = world.facts()
    assert (lost.evidence, lost.identity.confirmed) == (ACTIVE, True)
    assert lost.witnesses == {"the GPU's driver"}


def test_a_node_as_which_two_exporters_answer_is_identified_by_nobody(world: World) -> None:
    world.hear("GpuLost")
    world.told.twice = frozenset({"node1"})
    assert (
        "In the last five minutes, two scrape targets had the label node=node1"
        in world.facts(state=IncidentState.JOBS_MOVED).identity.problem
    )
    world.told.twice = frozenset({"node2"})
    assert world.facts(state=IncidentState.JOBS_MOVED).identity.confirmed


def test_a_sibling_whose_alert_is_not_confirmed_makes_no_node_the_patient(world: World) -> None:
    world.hear("GpuLost")
    world.hear("GpuLost", Target.parse("node1/4"))
    assert world.facts(state=IncidentState.JOBS_MOVED).siblings == 1
    world.told.firing = False
    assert world.facts(state=IncidentState.JOBS_MOVED).siblings == 0


def test_a_node_of_which_some_gpus_are_lost_is_not_dead(world: World) -> None:
    world.hear("NodeDown", NODE)
    world.cluster.set_alive("node1", False)
    assert world.facts(NODE).dead
    other = World()
    other.hear("NodeOomKill", NODE)
    other.change(NODE, playbook="node-down")
    lost = other.alert("GpuLost")
    other.journal_state.apply(events.alert_received(lost, GPU, NOW - 20, "webhook"))
    episode = events.episode_of(lost, NOW)
    other.journal_state.apply(events.absorbed(other.incident(NODE).id, NODE, episode, NOW))
    other.fake.lists(lost)
    other.cluster.set_alive("node1", False)
    facts = other.facts(NODE)
    assert (len(facts.witnesses) >= 2, facts.dead) == (True, False)


def test_a_programs_error_is_no_sign_against_the_gpu_of_its_incident(world: World) -> None:
    heard = world.hear("GpuPeerOutlier")
    world.hear("GpuXidApplicationRepeated")
    world.ask()
    world.fake.forgets(heard)
    facts = world.facts()
    assert (facts.firing, facts.alerts_active, facts.witnesses) == (False, False, frozenset())


def test_an_incident_that_only_notifies_stands_by_any_alert(world: World) -> None:
    world.hear("GpuXidApplicationRepeated")
    assert world.facts(state=IncidentState.TRIAGED).firing


def test_what_is_watched_is_accused_by_alerts_of_its_own_kind_alone(world: World) -> None:
    down = world.hear("NodeDown", NODE)
    world.hear("ExporterDataStale", NODE)
    playbook = world.rules.playbook("node-down")
    assert playbook is not None
    world.ask()
    assert world.senses.has_active_alert(world.incident(NODE), playbook)
    world.fake.forgets(down)
    world.ask()
    assert not world.senses.has_active_alert(world.incident(NODE), playbook)


def test_a_test_that_failed_after_every_alert_was_over_is_about_a_known_gpu(world: World) -> None:
    heard = world.hear("GpuLost", received=NOW - 100)
    world.ask()
    world.fake.forgets(heard)
    facts = world.facts(state=IncidentState.VERIFYING)
    assert (facts.firing, facts.identity.confirmed) == (False, True)


def test_the_release_of_a_node_stands_beside_that_of_its_gpu(world: World) -> None:
    world.hear("GpuLost")
    world.journal_state.pins[Target.parse("node1")] = Pin("alice", "tested", NOW - 10)
    stops = world.facts().stops
    assert (stops.pinned, "alice" in stops.node_pinned) == ("", True)
    assert stops.node_pinned_until == NOW - 10 + 14_400


def test_gpus_of_the_node_that_others_keep_are_named_with_their_owners(world: World) -> None:
    world.hear("GpuLost")
    for gpu, owner in (("node1/5", "alice"), ("node1/6", OWNER), ("node2/1", "bob")):
        target = Target.parse(gpu)
        asyncio.run(world.cluster.quarantine(target, op_id=gpu, owner=owner, reason="x"))
    assert world.facts().node_others == ("gpu/node1/5 (owner alice)",)
    world.hear("NodeDown", NODE)
    assert world.facts(NODE).node_others == ("gpu/node1/5 (owner alice)",)
