"""Approval of a return to service, on a running engine with a cluster that has no test under load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.alertmanager import AlertmanagerResponse
from remediator.clusters.base import Capability
from remediator.clusters.memory import MemoryCluster
from remediator.core.guards import Limits
from remediator.core.model import Alert, Incident, IncidentState, StepState
from remediator.core.reasons import Reason
from remediator.health import Health
from remediator.journal import read_events
from tests.unit.remediator.fake_alertmanager import FakeAlertmanager
from tests.unit.remediator.running import GPU, QUICK, Running, SaidSensors, fire, world

Story = Callable[[Running], Awaitable[None]]
WATCH = replace(QUICK, watch=0.3)


def blind() -> MemoryCluster:
    cluster = MemoryCluster(capabilities=frozenset(Capability) - {Capability.PROBE})
    cluster.make_unhealthy(GPU)
    return cluster


def tell(
    folder: Path, story: Story, cluster: MemoryCluster, *, limits: Limits = WATCH, **more: Any
) -> None:
    async def run() -> None:
        sensors = more.pop("sensors", SaidSensors())
        async with world(folder, cluster, limits=limits, sensors=sensors, **more) as running:
            await story(running)

    asyncio.run(run())


async def asked(run: Running) -> Incident:
    """The incident when its GPU is repaired, and people are notified of the request."""
    alert = await run.send("GpuLost")
    await run.until(lambda: "reset" in run.verbs())
    await run.engine.receive([replace(alert, firing=False)], "webhook")
    return await requested(run)


async def requested(run: Running) -> Incident:
    one = await run.state(IncidentState.AWAIT_APPROVAL)
    name = f"notify:approval-{one.requests}"
    await run.until(lambda: run.journal_state.incidents[one.id].done(name))
    return run.journal_state.incidents[one.id]


async def kept(run: Running) -> bool:
    return await run.cluster.quarantined(GPU) is not None and "release" not in run.verbs()


def messages(folder: Path, occasion: str) -> list[str]:
    found = (one for one in read_events(folder) if one["event"] == "Notified")
    return [one["text"] for one in found if one["data"]["body"]["occasion"] == occasion]


def test_an_approval_is_in_the_journal_with_who_and_why_and_returns_the_gpu_to_service(
    tmp_path,
) -> None:
    async def story(run: Running) -> None:
        one = await asked(run)
        assert await kept(run)
        (message,) = messages(tmp_path, "approval")
        for order in ("approve", "reject"):
            assert f"`fleetmedic {order} {one.id} --request 1 --reason WHY`" in message
        assert message.startswith("gpu/node1/3 waits for an approval: GpuLost.")
        said = await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 1)
        assert said == (
            f"{one.id}: approved. The remediator checks the alerts once more, and then returns "
            "gpu/node1/3 to service."
        )
        closed = await run.state(IncidentState.CLOSED)
        assert closed.reason is Reason.READMITTED
        assert await run.cluster.quarantined(GPU) is None
        assert run.people.occasions == ["opened", "approval-1", "closed"]
        assert messages(tmp_path, "closed") == [
            "gpu/node1/3 is back in service and healthy; the incident is closed."
        ]
        (event,) = (line for line in read_events(tmp_path) if line["event"] == "Approved")
        assert (event["data"]["by"], event["data"]["why"]) == ("alice", "ran a burn-in")
        assert event["reason"] == "approved"

    tell(tmp_path, story, blind())


def test_a_rejection_leaves_the_gpu_out_and_the_incident_escalated(tmp_path) -> None:
    async def story(run: Running) -> None:
        one = await asked(run)
        said = await run.engine.incident_orders.reject(one.id, "alice", "the fans still fail")
        assert said.startswith(f"{one.id}: rejected. gpu/node1/3 stays quarantined")
        rejected = await run.state(IncidentState.ESCALATED)
        assert (rejected.reason, rejected.text) == (
            Reason.REJECTED,
            "alice: the fans still fail",
        )
        await run.until(lambda: run.people.occasions[-1] == "escalated")
        assert await kept(run)
        lines = [line for line in read_events(tmp_path) if line["reason"] == "rejected"]
        assert (lines[0]["data"]["by"], lines[0]["data"]["why"]) == ("alice", "the fans still fail")

    tell(tmp_path, story, blind())


def test_a_request_that_nobody_answers_expires_to_the_safe_side_though_the_process_restarts(
    tmp_path,
) -> None:
    cluster = blind()
    limits = replace(WATCH, approval=0.6)
    until: list[float | None] = []

    async def first(run: Running) -> None:
        until.append((await asked(run)).until)

    async def second(run: Running) -> None:
        (one,) = run.journal_state.incidents.values()
        if one.state is IncidentState.AWAIT_APPROVAL:
            assert [one.until] == until, "the time is in the journal"
        expired = await run.state(IncidentState.ESCALATED)
        assert expired.reason is Reason.APPROVAL_EXPIRED
        assert until[0] is not None
        assert expired.since >= until[0]
        await run.until(lambda: run.people.occasions[-1] == "escalated")
        assert await kept(run)
        assert run.people.occasions.count("approval-1") == 1, "people are not notified again"
        with pytest.raises(UserError, match="is ESCALATED and waits for no approval"):
            await run.engine.incident_orders.approve(one.id, "alice", "too late")

    tell(tmp_path, first, cluster, limits=limits)
    tell(tmp_path, second, cluster, limits=limits)


def test_an_approval_survives_a_restart(tmp_path) -> None:
    cluster = blind()

    async def first(run: Running) -> None:
        one = await asked(run)
        await run.engine.pause("bob", "x")
        await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in")
        await run.until(lambda: run.journal_state.incidents[one.id].held is Reason.PAUSED)
        assert await kept(run)

    async def second(run: Running) -> None:
        (one,) = run.journal_state.incidents.values()
        assert one.approved is not None
        assert await kept(run)
        await run.engine.resume("bob")
        await run.state(IncidentState.CLOSED)
        assert run.verbs().count("release") == 1

    tell(tmp_path, first, cluster)
    tell(tmp_path, second, cluster)


def test_an_alert_that_fires_again_takes_the_approval_back(tmp_path) -> None:
    sensors = SaidSensors()

    async def story(run: Running) -> None:
        one = await asked(run)
        await run.engine.pause("bob", "x")
        await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 1)
        sensors.state = Health.UNKNOWN
        alert = await run.send("GpuHung")
        await run.state(IncidentState.VERIFYING)
        await run.engine.resume("bob")
        await asyncio.sleep(0.1)
        assert await kept(run)
        # The page of the first request is stale, even when the incident waits for an approval again.
        with pytest.raises(UserError, match="is VERIFYING and waits for no approval"):
            await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 1)
        await run.engine.receive([replace(alert, firing=False)], "webhook")
        sensors.state = Health.HEALTHY
        again = await requested(run)
        assert (again.requests, again.approved) == (2, None)
        with pytest.raises(UserError, match="has ended; the current request is 2"):
            await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 1)
        assert await kept(run)
        assert run.people.occasions.count("approval-2") == 1
        await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 2)
        await run.state(IncidentState.CLOSED)

    tell(tmp_path, story, blind(), sensors=sensors)


class LateAlertmanager(FakeAlertmanager):
    """It lists an alert again as soon as the release is announced."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: Callable[[], bool] = lambda: False
        self.late: Alert | None = None

    async def query_alerts(self) -> AlertmanagerResponse:
        if self.late is not None and self.announced():
            self.lists(self.late)
        return await super().query_alerts()


def test_an_alert_that_fires_between_the_decision_and_the_release_withdraws_it(
    tmp_path, monkeypatch
) -> None:
    fake = LateAlertmanager()
    monkeypatch.setattr("remediator.senses.FRESH", 0.0)  # no answer is shared, however quick it is

    async def story(run: Running) -> None:
        alert = fire("GpuLost")
        fake.lists(alert)
        await run.alerts.refresh(0.0)
        await run.engine.receive([alert], "webhook")
        await run.until(lambda: "reset" in run.verbs())
        fake.forgets(alert)
        await run.alerts.refresh(0.0)
        await run.engine.receive([replace(alert, firing=False)], "webhook")
        one = await requested(run)

        def release() -> list[StepState]:
            steps = run.journal_state.incidents[one.id].steps
            return [run.state for run in steps if run.step.action == "release"]

        fake.late, fake.announced = alert, lambda: bool(release())
        await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in")
        await run.until(lambda: release() == [StepState.WITHDRAWN])
        assert await kept(run)
        await run.until(
            lambda: run.journal_state.incidents[one.id].state is not IncidentState.AWAIT_APPROVAL
        )
        assert run.journal_state.incidents[one.id].approved is None
        assert await kept(run)

    tell(tmp_path, story, blind(), fake=fake)


def test_what_waits_for_no_approval_is_neither_approved_nor_rejected(tmp_path) -> None:
    async def story(run: Running) -> None:
        orders = run.engine.incident_orders
        for order in (orders.approve, orders.reject):
            with pytest.raises(UserError, match="incident 'inc-1' not found"):
                await order("inc-1", "alice", "x")
        await run.engine.pause("bob", "x")
        await run.send("GpuLost")
        held = await run.state(IncidentState.HELD)
        for order in (orders.approve, orders.reject):
            with pytest.raises(UserError, match="is HELD and waits for no approval: bob paused"):
                await order(held.id, "alice", "x")
        await run.engine.resume("bob")
        await run.until(lambda: "reset" in run.verbs())
        await run.send("GpuLost", at=held.alerts[0].starts_at, firing=False)
        one = await requested(run)
        with pytest.raises(UserError, match="the current request is 1"):
            await orders.reject(one.id, "alice", "x", 7)
        await run.engine.pause("bob", "x")
        await orders.approve(one.id, "alice", "ran a burn-in")
        with pytest.raises(UserError) as second:
            await orders.approve(one.id, "carol", "me too")
        assert str(second.value) == (
            "alice has already approved the return of gpu/node1/3 to service (ran a burn-in)."
        )
        assert await kept(run)
        await orders.reject(one.id, "carol", "not yet")
        await run.engine.resume("bob")
        await run.state(IncidentState.ESCALATED)
        assert await kept(run)

    tell(tmp_path, story, blind())


def test_a_retry_after_a_rejection_makes_a_new_request(tmp_path) -> None:
    async def story(run: Running) -> None:
        one = await asked(run)
        await run.engine.incident_orders.reject(one.id, "alice", "the fans still fail")
        await run.state(IncidentState.ESCALATED)
        await run.until(lambda: run.people.occasions[-1] == "escalated")
        await run.engine.incident_orders.retry(one.id, "alice", "new fans")
        again = await requested(run)
        assert (again.requests, await kept(run)) == (2, True)
        with pytest.raises(UserError, match="request 1 of"):
            await run.engine.incident_orders.approve(one.id, "bob", "an old message", 1)
        await run.engine.incident_orders.approve(one.id, "alice", "new fans", 2)
        await run.state(IncidentState.CLOSED)
        assert run.verbs() == ["quarantine", "reset", "release"], "nothing is repaired twice"

    tell(tmp_path, story, blind())


def test_a_release_and_a_close_by_hand_still_work_while_it_waits(tmp_path) -> None:
    async def story(run: Running) -> None:
        one = await asked(run)
        with pytest.raises(UserError, match="still quarantines gpu/node1/3"):
            await run.engine.incident_orders.close_incident(
                one.id, "alice", "x", keep_quarantine=False
            )
        await run.engine.incident_orders.release(GPU, "alice", "I know better")
        await run.state(IncidentState.OVERRIDDEN)
        assert await run.cluster.quarantined(GPU) is None

    tell(tmp_path, story, blind())


def test_metrics_that_stay_unhealthy_after_the_repair_ask_nobody(tmp_path) -> None:
    async def story(run: Running) -> None:
        alert = await run.send("GpuLost")
        await run.until(lambda: "reset" in run.verbs())
        await run.engine.receive([replace(alert, firing=False)], "webhook")
        await run.state(IncidentState.ESCALATED)
        assert "approval-1" not in run.people.occasions
        assert await kept(run)
        assert await run.cluster.quarantined(Target.parse("node1")) is None, "its node is untouched"

    tell(tmp_path, story, blind(), sensors=SaidSensors(Health.SICK))


def test_a_quarantine_that_the_cluster_cannot_take_uses_no_budget(tmp_path) -> None:
    cluster = MemoryCluster(capabilities=frozenset(Capability) - {Capability.GPU_QUARANTINE})

    async def story(run: Running) -> None:
        await run.send("GpuLost")
        await run.state(IncidentState.FAILED)
        assert (run.journal_state.quarantines, run.journal_state.attempts.get(GPU, [])) == (
            [],
            [one for one in run.journal_state.attempts.get(GPU, []) if one.action == "notify"],
        )

    tell(tmp_path, story, cluster)
