"""On a running engine with a fake Alertmanager: what is over, withheld or unknown disturbs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.labels import Target
from remediator.alertmanager import Silence
from remediator.clusters.base import Capability, ClusterError, NodeFacts
from remediator.clusters.memory import MemoryCluster
from remediator.core.action import Effect
from remediator.core.model import Alert, IncidentState
from remediator.core.reasons import Reason
from remediator.journal import read_events
from remediator.reconciler import ended_alerts
from tests.unit.remediator.fake_alertmanager import FakeAlertmanager
from tests.unit.remediator.running import GPU, QUICK, Running, fire, playbooks, world

DISRUPTIVE = {"reset", "reboot", "restart"}


@dataclass
class Story:
    """A running engine, its fake Alertmanager, and how an alert begins and ends there."""

    run: Running
    fake: FakeAlertmanager

    async def fires(self, name: str = "GpuLost", target: Target = GPU) -> Alert:
        alert = fire(name, target)
        self.fake.lists(alert)
        await self.run.alerts.refresh(0.0)
        await self.run.engine.receive([alert], "webhook")
        return alert

    async def ends(self, alert: Alert) -> None:
        self.fake.forgets(alert)
        await self.run.engine.receive([replace(alert, firing=False)], "webhook")

    async def looks_again(self) -> None:
        await self.run.alerts.refresh(0.0)
        self.run.engine.wake_all()

    def disturbed(self) -> list[str]:
        return [verb for verb in self.run.verbs() if verb in DISRUPTIVE]


def tell(folder: Path, story: Callable[[Story], Awaitable[None]], cluster: MemoryCluster | None = None,
         **more: object) -> None:  # fmt: skip
    async def run() -> None:
        fake = FakeAlertmanager(time.time() - 3600)
        async with world(folder, cluster, fake=fake, **more) as running:  # type: ignore[arg-type]
            await story(Story(running, fake))

    asyncio.run(run())


def busy() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.submit("train-a", on=GPU)
    return cluster


def test_an_alert_that_ends_within_the_hold_moves_nothing(tmp_path) -> None:
    async def story(one: Story) -> None:
        alert = await one.fires()
        await one.run.until(lambda: one.run.verbs() == ["quarantine"])
        await one.ends(alert)
        await one.run.state(IncidentState.VERIFYING)
        assert one.disturbed() == []
        job = await one.run.cluster.job("train-a")
        assert job is not None
        assert job.places == (GPU,)

    tell(tmp_path, story, busy(), limits=replace(QUICK, hold=1.0))


def test_an_alert_that_ends_while_a_repair_waits_takes_the_announced_step_back(tmp_path) -> None:
    class Waits(MemoryCluster):
        asked = 0

        async def reset_gpu(self, target: Target, *, op_id: str) -> None:
            self.asked += 1
            raise ClusterError("It is in use.", transient=True)

    cluster = Waits()

    async def story(one: Story) -> None:
        alert = await one.fires()
        await one.run.until(lambda: cluster.asked > 0)
        await one.ends(alert)
        await one.run.until(
            lambda: any(line["event"] == "StepWithdrawn" for line in read_events(tmp_path))
        )
        asked = cluster.asked
        await one.run.state(IncidentState.CLOSED)
        assert cluster.asked == asked
        assert one.disturbed() == []
        assert one.run.journal_state.attempts[GPU] == [
            at for at in one.run.journal_state.attempts[GPU] if at.action != "reset_gpu"
        ]

    tell(tmp_path, story, cluster)


def test_an_alert_that_alertmanager_never_knew_disturbs_nothing(tmp_path) -> None:
    async def story(one: Story) -> None:
        await one.run.send("GpuLost")
        await one.run.until(lambda: "quarantine" in one.run.verbs())
        held = await one.run.state(IncidentState.QUARANTINED)
        await one.run.until(
            lambda: one.run.journal_state.incidents[held.id].held is Reason.ALERT_UNCONFIRMED
        )
        await asyncio.sleep(0.2)
        assert one.disturbed() == []

    tell(tmp_path, story, busy())


@pytest.mark.parametrize("doubt", ["silence", "no answer", "restart"])
def test_a_silence_or_no_answer_holds_an_open_incident_and_never_ends_it(
    tmp_path, doubt: str
) -> None:
    async def story(one: Story) -> None:
        alert = await one.fires()
        await one.run.until(lambda: one.run.verbs() == ["quarantine"])
        if doubt == "silence":
            one.fake.lists(alert, silenced_by=("s1",))
            one.fake.known = {"s1": Silence("bob", "known", time.time() + 3600)}
        elif doubt == "no answer":
            one.fake.error = "Alertmanager answered 503."
        else:
            one.fake.forgets(alert)
            one.fake.started = time.time()
        await one.looks_again()
        expected = Reason.SILENCED if doubt == "silence" else Reason.ALERT_UNCONFIRMED
        held = await one.run.state(IncidentState.QUARANTINED)
        await one.run.until(lambda: one.run.journal_state.incidents[held.id].held is expected)
        assert ended_alerts(one.run.journal_state, one.run.alerts) == []
        await asyncio.sleep(1.2)
        assert (one.disturbed(), one.run.verbs()) == ([], ["quarantine"])
        assert not one.run.journal_state.incidents[held.id].ended
        one.fake.lists(alert)
        one.fake.error, one.fake.started = "", time.time() - 3600
        await one.looks_again()
        await one.run.until(lambda: "restart" in one.run.verbs())

    tell(tmp_path, story, busy(), limits=replace(QUICK, hold=1.0))


def test_a_silenced_alert_opens_no_incident_and_says_so_once(tmp_path) -> None:
    async def story(one: Story) -> None:
        alert = fire("GpuLost")
        one.fake.lists(alert, silenced_by=("s1",))
        for _ in range(3):
            await one.run.alerts.refresh(0.0)
            await one.run.engine.withheld.record(one.run.alerts.withheld())
        assert one.run.journal_state.incidents == {}
        (line,) = read_events(tmp_path)
        assert (line["event"], line["reason"]) == ("Suppressed", "silenced")
        assert "GpuLost on gpu/node1/3 is not handled" in line["text"]

    tell(tmp_path, story)


def test_a_fault_that_stays_inhibited_and_that_nobody_handles_is_told_to_people_once(
    tmp_path,
) -> None:
    async def story(one: Story) -> None:
        stranger, lost = fire("SomebodysAlert"), fire("GpuLost")
        one.fake.lists(stranger)
        one.fake.lists(lost, inhibited_by=(stranger.fingerprint,))

        def told() -> list[dict[str, Any]]:
            return [
                line["data"]["body"]
                for line in read_events(tmp_path)
                if line["event"] == "Notified"
            ]

        async def passes(count: int) -> None:
            for _ in range(count):
                await one.run.alerts.refresh(0.0)
                await one.run.engine.withheld.record(one.run.alerts.withheld())
                await asyncio.sleep(0.06)

        await passes(1)
        assert told() == []
        await passes(3)
        (line,) = told()
        assert line["targets"] == ["gpu/node1/3"]
        assert "GpuLost on gpu/node1/3 is not handled: GpuLost is inhibited" in line["text"]
        one.fake.lists(lost)
        await passes(1)
        one.fake.lists(lost, inhibited_by=(stranger.fingerprint,))
        await passes(3)
        assert len(told()) == 1, "within the hour"

    tell(tmp_path, story, limits=replace(QUICK, notice=0.1))


@pytest.mark.parametrize("name", ["GpuRowRemapFailure", "GpuSramEccThresholdExceeded"])
def test_a_board_that_must_be_replaced_is_neither_reset_nor_rebooted(tmp_path, name: str) -> None:
    async def story(one: Story) -> None:
        await one.fires(name)
        ended = await one.run.state(IncidentState.ESCALATED)
        assert "no repair for this fault" in ended.text
        assert one.disturbed() == ["restart"]
        job = await one.run.cluster.job("train-a")
        assert job is not None
        assert GPU not in job.places
        assert await one.run.cluster.quarantined(GPU) is not None
        await one.run.until(lambda: "escalated" in one.run.people.occasions)

    tell(tmp_path, story, busy())


def test_another_boards_uuid_holds_everything_and_a_person_is_notified(tmp_path) -> None:
    cluster = busy()
    cluster.set_uuid(GPU, "GPU-other")

    async def story(one: Story) -> None:
        await one.fires()
        held = await one.run.state(IncidentState.HELD)
        assert held.held is Reason.IDENTITY
        await one.run.until(lambda: "held-identity" in one.run.people.occasions)
        assert one.run.verbs() == []

    tell(tmp_path, story, cluster, limits=replace(QUICK, notice=0.05))


def test_a_gpu_without_a_uuid_is_quarantined_and_no_more(tmp_path) -> None:
    async def story(one: Story) -> None:
        alert = fire("GpuLost")
        labels = {name: value for name, value in alert.labels.items() if name != "uuid"}
        alert = replace(alert, labels=labels)
        one.fake.lists(alert)
        await one.run.engine.receive([alert], "webhook")
        held = await one.run.state(IncidentState.QUARANTINED)
        await one.run.until(
            lambda: one.run.journal_state.incidents[held.id].held is Reason.IDENTITY
        )
        await asyncio.sleep(0.1)
        assert one.run.verbs() == ["quarantine"]

    tell(tmp_path, story, busy())


def test_where_a_gpu_cannot_be_quarantined_nothing_is_touched_and_a_person_is_notified(
    tmp_path,
) -> None:
    cluster = busy()
    cluster.capabilities = frozenset(Capability) - {Capability.GPU_QUARANTINE}

    async def story(one: Story) -> None:
        await one.fires()
        failed = await one.run.state(IncidentState.FAILED)
        assert failed.reason is Reason.UNSUPPORTED
        assert one.run.people.occasions == ["failed"]
        assert one.run.verbs() == []

    tell(tmp_path, story, cluster)


def test_no_job_is_moved_for_a_reboot_that_the_cluster_cannot_do(tmp_path) -> None:
    cluster = busy()
    cluster.submit("train-b", on=Target.parse("node1/5"))
    cluster.make_unhealthy(GPU, heals_by="none")
    cluster.capabilities = frozenset(Capability) - {Capability.REBOOT}

    async def story(one: Story) -> None:
        await one.fires()
        await one.run.state(IncidentState.ESCALATED)
        assert "reboot" not in one.run.verbs()
        subjects = {effect.subject for effect in one.run.cluster.effects}
        assert not {"node/node1", "train-b"} & subjects

    tell(tmp_path, story, cluster)


def test_hardware_in_use_whose_alert_is_over_is_lifted_while_its_job_runs(tmp_path) -> None:
    async def story(one: Story) -> None:
        alert = await one.fires()
        await one.run.until(lambda: one.run.verbs() == ["quarantine"])
        await one.ends(alert)
        await one.run.state(IncidentState.VERIFYING)
        (incident,) = one.run.journal_state.incidents.values()
        await one.run.until(
            lambda: one.run.journal_state.incidents[incident.id].prepared is not None
        )
        prepared = one.run.journal_state.incidents[incident.id].prepared
        assert prepared is not None
        assert prepared.step.id == "watch", "a test under load would disturb the job"

    tell(tmp_path, story, busy(), limits=replace(QUICK, hold=1.0, watch=0.1))


def test_a_storm_stops_what_is_disruptive_and_people_get_one_message(tmp_path) -> None:
    async def story(one: Story) -> None:
        targets = [Target.parse(f"node{n}/1") for n in range(1, 5)]
        accused = [fire("NodeDown", Target.parse(f"node{n}")) for n in (2, 3, 4)]
        one.fake.lists(*accused)
        await one.run.alerts.refresh(0.0)
        for target in targets[:2]:
            await one.fires("GpuLost", target)
        await one.run.until(lambda: one.run.verbs().count("quarantine") == 2)
        await one.run.until(
            lambda: all(it.held is Reason.STORM for it in one.run.journal_state.open_incidents())
        )
        assert set(one.run.journal_state.storms) == {"default"}
        assert one.disturbed() == []
        told = [line for line in read_events(tmp_path) if line["event"] == "Notified"]
        assert len([line for line in told if "3 of 4 nodes" in line["text"]]) == 1

    tell(tmp_path, story, MemoryCluster(), books=playbooks(probation=30.0))


class Interrupted(MemoryCluster):
    """A cluster that calls `during` while its nodes are listed."""

    during: Callable[[], Awaitable[None]] | None = None

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        found = await super().list_nodes()
        if self.during is not None:
            await self.during()
        return found


def test_a_pause_that_begins_while_facts_are_gathered_stops_the_step(tmp_path) -> None:
    cluster = Interrupted()
    cluster.make_unhealthy(GPU)

    async def story(one: Story) -> None:
        engine, state = one.run.engine, one.run.journal_state

        async def pause() -> None:
            incident = state.incident_on(GPU)
            prepared = incident.prepared if incident else None
            if prepared and prepared.step.effect is Effect.REPAIRS and state.pause is None:
                await engine.pause("ann", "in the middle")

        cluster.during = pause
        await one.fires()
        await one.run.until(lambda: state.pause is not None)
        await one.run.until(lambda: one.run.journal_state.incident_on(GPU).held is Reason.PAUSED)  # type: ignore[union-attr]
        assert one.disturbed() == []
        cluster.during = None
        await engine.resume("ann")
        await one.run.until(lambda: "reset" in one.run.verbs())

    tell(tmp_path, story, cluster)
