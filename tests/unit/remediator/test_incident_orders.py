"""What a person orders about a target or an incident, on a running engine with a real journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.clusters.base import ClusterError
from remediator.clusters.memory import MemoryCluster
from remediator.core.model import OWNER, Incident, IncidentState
from remediator.core.reasons import Reason
from remediator.journal import read_events
from tests.unit.remediator.running import GPU, QUICK, Running, fire, playbooks, world

NODE = Target.parse("node1")
Story = Callable[[Running], Awaitable[None]]


def tell(folder: Path, story: Story, cluster: MemoryCluster | None = None, **more: object) -> None:
    async def run() -> None:
        async with world(folder, cluster, **more) as running:  # type: ignore[arg-type]
            await story(running)

    asyncio.run(run())


def incurable() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.make_unhealthy(GPU, heals_by="none")
    return cluster


async def escalated(run: Running) -> Incident:
    await run.send("GpuLost")
    one = await run.state(IncidentState.ESCALATED)
    # Its node, which was rebooted for it, goes back into service first.
    await run.until(lambda: _rests(run.journal_state.incidents[one.id]))
    return run.journal_state.incidents[one.id]


def _rests(one: Incident) -> bool:
    told = one.done("notify:escalated")
    return told and one.quarantined == (GPU,) and one.prepared is None


def test_a_released_target_is_in_service_and_its_incident_ends_with_who_and_why(tmp_path) -> None:
    async def story(run: Running) -> None:
        await escalated(run)
        text = await run.engine.incident_orders.release(GPU, "alice", "new board")
        assert text.startswith("gpu/node1/3 is being returned to service")
        one = await run.state(IncidentState.OVERRIDDEN)
        assert (one.reason, one.text) == (Reason.RELEASED_BY_PERSON, "alice: new board")
        assert one.quarantined == ()
        assert await run.cluster.quarantined(GPU) is None
        (order,) = (line for line in read_events(tmp_path) if line["event"] == "Ordered")
        assert (order["data"]["by"], order["data"]["why"]) == ("alice", "new board")

    tell(tmp_path, story, incurable())


def test_without_the_lock_orders_and_messages_say_that_nothing_is_done_and_who_acts(
    tmp_path,
) -> None:
    taken = "Another remediator (on host b) acts on cluster 'memory'; this one takes no action."
    lock: list[str | None] = [None]

    async def story(run: Running) -> None:
        one = await escalated(run)
        lock[0] = taken
        text = await run.engine.incident_orders.release(GPU, "alice", "new board")
        assert text == (
            f"gpu/node1/3 returns to service when this remediator may take actions. {taken}"
        )
        await run.until(lambda: run.journal_state.incidents[one.id].held is not None)
        assert run.journal_state.incidents[one.id].quarantined == (GPU,)
        await run.send("DiskFull", Target.parse("node2"))
        await run.until(lambda: bool(told()))
        assert told()[0].startswith(
            "node/node2 needs attention: DiskFull. Playbook notify-critical"
        )
        assert told()[0].endswith(taken)
        lock[0] = None
        run.engine.wake_all()
        await run.state(IncidentState.OVERRIDDEN)

    def told() -> list[str]:
        events = [line for line in read_events(tmp_path) if line["event"] == "Notified"]
        return [line["text"] for line in events if line["target"] == "node/node2"]

    tell(tmp_path, story, incurable(), refusal=lambda: lock[0])


def test_a_release_is_respected_though_the_alert_flaps_and_only_for_its_time(tmp_path) -> None:
    async def story(run: Running) -> None:
        await escalated(run)
        await run.engine.incident_orders.release(GPU, "alice", "new board")
        await run.state(IncidentState.OVERRIDDEN)
        before = run.verbs().count("quarantine")
        for _ in range(3):
            one = await run.send("GpuLost", at=time.time() + 0.01)
            await asyncio.sleep(0.02)
            await run.engine.receive([replace(one, firing=False)], "webhook")
        await run.send("GpuHung", at=time.time() + 0.01)
        held = await run.state(IncidentState.HELD)
        assert held.held is Reason.PINNED
        assert held.held_text.startswith(
            "alice returned gpu/node1/3 to service; this is respected until "
        )
        assert held.held_text.endswith(" UTC: new board")
        assert run.verbs().count("quarantine") == before
        await run.until(lambda: run.verbs().count("quarantine") > before)

    tell(tmp_path, story, incurable(), limits=replace(QUICK, pin=1.0))


def test_a_release_in_the_cluster_itself_is_respected_as_well(tmp_path) -> None:
    async def story(run: Running) -> None:
        await escalated(run)
        await run.cluster.release(GPU, op_id="hand", owner=OWNER)
        run.engine.wake_all()
        await run.state(IncidentState.OVERRIDDEN)
        await run.send("GpuHung", at=time.time() + 0.01)
        assert (await run.state(IncidentState.HELD)).held is Reason.PINNED

    tell(tmp_path, story, incurable())


def test_a_held_incident_is_released_without_ever_being_quarantined(tmp_path) -> None:
    async def story(run: Running) -> None:
        await run.engine.pause("bob", "x")
        await run.send("GpuLost")
        await run.state(IncidentState.HELD)
        await run.engine.incident_orders.release(GPU, "alice", "known")
        assert (await run.state(IncidentState.OVERRIDDEN)).reason is Reason.RELEASED_BY_PERSON
        assert run.verbs() == []

    tell(tmp_path, story)


def test_a_persons_release_does_not_wait_for_a_pause(tmp_path) -> None:
    async def story(run: Running) -> None:
        await escalated(run)
        await run.engine.pause("bob", "x")
        await run.engine.incident_orders.release(GPU, "alice", "fine")
        await run.state(IncidentState.OVERRIDDEN)
        assert await run.cluster.quarantined(GPU) is None

    tell(tmp_path, story, incurable())


def test_a_stray_quarantine_of_ours_is_released_and_another_owners_is_not(tmp_path) -> None:
    async def story(run: Running) -> None:
        await run.cluster.quarantine(GPU, op_id="a", owner=OWNER, reason="lost")
        text = await run.engine.incident_orders.release(GPU, "alice", "stray")
        assert text.startswith("gpu/node1/3 is back in service")
        assert await run.cluster.quarantined(GPU) is None
        await run.cluster.quarantine(GPU, op_id="b", owner="bob", reason="RMA")
        with pytest.raises(UserError, match="bob quarantined gpu/node1/3: RMA"):
            await run.engine.incident_orders.release(GPU, "alice", "x")
        with pytest.raises(UserError, match="node/node2 is not quarantined"):
            await run.engine.incident_orders.release(Target.parse("node2"), "alice", "x")
        with pytest.raises(UserError, match="cannot be released: gpu/node9/1 not found"):
            await run.engine.incident_orders.release(Target.parse("node9/1"), "alice", "x")

    tell(tmp_path, story)


def test_a_gpu_whose_node_is_still_out_is_said_to_be(tmp_path) -> None:
    async def story(run: Running) -> None:
        for target in (GPU, NODE):
            await run.cluster.quarantine(target, op_id=str(target), owner=OWNER, reason="x")
        text = await run.engine.incident_orders.release(GPU, "alice", "x")
        assert "its node is still quarantined; release node1 too" in text

    tell(tmp_path, story)


def test_where_another_remediator_acts_nothing_is_released(tmp_path, monkeypatch) -> None:
    async def story(run: Running) -> None:
        await run.cluster.quarantine(GPU, op_id="a", owner=OWNER, reason="lost")
        senses = run.engine._context.senses
        monkeypatch.setattr(senses, "refusal", lambda: "b on host2 acts on this cluster.")
        with pytest.raises(UserError, match="b on host2"):
            await run.engine.incident_orders.release(GPU, "alice", "x")
        assert await run.cluster.quarantined(GPU) is not None
        assert read_events(tmp_path) == []

    tell(tmp_path, story)


class Stuck(MemoryCluster):
    """A cluster that releases nothing."""

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        raise ClusterError("the API server refuses.")


def test_a_release_that_the_cluster_refuses_is_said_and_the_incident_stays(tmp_path) -> None:
    async def story(run: Running) -> None:
        await run.cluster.quarantine(Target.parse("node4/1"), op_id="a", owner=OWNER, reason="x")
        with pytest.raises(UserError, match="node4/1 was not released: the API server refuses"):
            await run.engine.incident_orders.release(Target.parse("node4/1"), "alice", "x")
        await run.send("GpuLost")
        await run.state(IncidentState.PROBATION)
        await run.engine.incident_orders.release(GPU, "alice", "x")
        assert (await run.state(IncidentState.ESCALATED)).reason is Reason.RELEASE_FAILED
        assert await run.cluster.quarantined(GPU) is not None

    tell(tmp_path, story, Stuck(), books=playbooks(probation=30.0))


def test_an_incident_is_closed_with_its_quarantine_only_on_demand(tmp_path) -> None:
    async def story(run: Running) -> None:
        one, exits = await escalated(run), run.engine.incident_orders
        with pytest.raises(UserError, match=rf"{one.id} still quarantines gpu/node1/3"):
            await exits.close_incident(one.id, "alice", "RMA", keep_quarantine=False)
        text = await exits.close_incident(one.id, "alice", "RMA", keep_quarantine=True)
        assert "stays quarantined" in text
        assert (
            "GpuLost still fires; an alert that fires without a break opens no new incident."
            in text
        )
        ended = run.journal_state.incidents[one.id]
        assert (ended.state, ended.reason) == (IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON)
        assert ended.text.startswith("alice: RMA")
        assert await run.cluster.quarantined(GPU) is not None
        for order in (exits.retry(one.id, "a", "b"),
                      exits.close_incident(one.id, "a", "b", keep_quarantine=True)):  # fmt: skip
            with pytest.raises(UserError, match=r"has already ended \(OVERRIDDEN\)"):
                await order

    tell(tmp_path, story, incurable())


def test_an_orphan_can_be_closed_and_its_target_released(tmp_path) -> None:
    async def first(run: Running) -> None:
        await run.send("GpuLost")
        await run.state(IncidentState.PROBATION)

    async def story(run: Running) -> None:
        one = await run.state(IncidentState.ESCALATED)
        assert one.reason is Reason.PLAYBOOK_GONE
        await run.until(lambda: "orphaned" in run.people.occasions)
        with pytest.raises(UserError, match=r"playbook gpu-lost .* is no longer configured"):
            await run.engine.incident_orders.retry(one.id, "alice", "x")
        await run.engine.incident_orders.release(GPU, "alice", "healthy")
        await run.state(IncidentState.OVERRIDDEN)
        assert await run.cluster.quarantined(GPU) is None
        assert run.people.occasions.count("orphaned") == 1

    cluster = MemoryCluster()
    tell(tmp_path, first, cluster, books=playbooks(probation=30.0))
    rest = tuple(one for one in playbooks() if one.name != "gpu-lost")
    tell(tmp_path, story, cluster, books=rest)


def test_a_retry_starts_the_playbook_again_and_earlier_attempts_do_not_count(tmp_path) -> None:
    async def story(run: Running) -> None:
        one = await escalated(run)
        repairs = [verb for verb in run.verbs() if verb in ("reset", "reboot")]
        assert repairs == ["reset", "reboot"]
        run.cluster.make_unhealthy(GPU, heals_by="reset")
        text = await run.engine.incident_orders.retry(one.id, "alice", "new cable")
        assert text == f"{one.id}: the playbook gpu-lost starts again."
        await run.state(IncidentState.CLOSED)
        assert [verb for verb in run.verbs() if verb in ("reset", "reboot")] == [*repairs, "reset"]
        assert await run.cluster.quarantined(GPU) is None

    # One attempt a week and a cooldown of an hour: neither stands against a person's retry.
    books = tuple(
        replace(
            one,
            ladder=tuple(
                replace(rung, max_attempts=1, window=604_800.0, cooldown=3600.0)
                for rung in one.ladder
            ),
        )
        for one in playbooks()
    )
    tell(tmp_path, story, incurable(), books=books)


def test_only_what_waits_for_a_person_is_retried(tmp_path) -> None:
    async def story(run: Running) -> None:
        await run.engine.pause("bob", "x")
        await run.send("GpuLost")
        one = await run.state(IncidentState.HELD)
        with pytest.raises(UserError, match=f"{one.id} is HELD and continues automatically"):
            await run.engine.incident_orders.retry(one.id, "alice", "x")
        with pytest.raises(UserError, match="incident 'inc-x' not found"):
            await run.engine.incident_orders.retry("inc-x", "alice", "x")

    tell(tmp_path, story)


def test_an_incident_in_the_middle_of_a_step_is_not_closed(tmp_path) -> None:
    class Busy(MemoryCluster):
        async def reset_gpu(self, target: Target, *, op_id: str) -> None:
            raise ClusterError("It is in use.", transient=True)

    async def story(run: Running) -> None:
        await run.send("GpuLost")
        await run.until(lambda: any(one.prepared and one.prepared.step.action == "reset_gpu"
                                    for one in run.journal_state.incidents.values()))  # fmt: skip
        (one,) = run.journal_state.incidents.values()
        with pytest.raises(UserError, match="is running the step reset_gpu"):
            await run.engine.incident_orders.close_incident(one.id, "a", "b", keep_quarantine=True)

    tell(tmp_path, story, Busy())


async def kept(run: Running) -> None:
    one = await escalated(run)
    await run.engine.receive([replace(fire("GpuLost"), firing=False)], "webhook")
    await run.engine.incident_orders.close_incident(
        one.id, "alice", "waits for a new board", keep_quarantine=True
    )


def test_what_a_person_keeps_out_is_neither_repaired_nor_released(tmp_path) -> None:
    async def story(run: Running) -> None:
        await kept(run)
        before = run.verbs()
        alert = await run.send("GpuHung", at=time.time() + 0.01)
        held = await run.state(IncidentState.HELD)
        assert held.held is Reason.OTHER_OWNER
        assert "alice: waits for a new board" in held.held_text
        await asyncio.sleep(0.1)
        assert run.verbs() == before
        await run.engine.receive([replace(alert, firing=False)], "webhook")
        await run.state(IncidentState.SUPPRESSED)
        assert await run.cluster.quarantined(GPU) is not None

    tell(tmp_path, story, incurable())


def test_an_alert_about_a_node_that_a_person_keeps_out_leaves_its_gpus_alone(tmp_path) -> None:
    async def story(run: Running) -> None:
        await run.send("NodeDown", NODE)
        one = await run.state(IncidentState.ESCALATED, NODE)
        await run.until(lambda: run.journal_state.incidents[one.id].done("notify:escalated"))
        await run.engine.incident_orders.close_incident(
            one.id, "alice", "RMA", keep_quarantine=True
        )
        before = run.verbs()
        await run.send("GpuHung", at=time.time() + 0.01)
        held = await run.state(IncidentState.HELD)
        assert (held.held, run.verbs()) == (Reason.OTHER_OWNER, before)

    cluster = MemoryCluster()
    for gpu in range(8):
        cluster.make_unhealthy(Target.parse(f"node1/{gpu}"), heals_by="none")
    tell(tmp_path, story, cluster)


@pytest.mark.parametrize("held", [True, False])
def test_what_a_person_keeps_out_is_released_by_one_order(tmp_path, held: bool) -> None:
    async def story(run: Running) -> None:
        await kept(run)
        if held:
            await run.send("GpuHung", at=time.time() + 0.01)
            await run.state(IncidentState.HELD)
        await run.engine.incident_orders.release(GPU, "bob", "new board")
        await run.until(lambda: run.journal_state.incident_on(GPU) is None)
        assert await run.cluster.quarantined(GPU) is None
        assert GPU in run.journal_state.pins

    tell(tmp_path, story, incurable())


def test_what_somebody_else_returned_to_service_is_no_longer_kept(tmp_path) -> None:
    async def story(run: Running) -> None:
        await kept(run)
        await run.cluster.release(GPU, op_id="by hand", owner=OWNER)
        await run.send("GpuHung", at=time.time() + 0.01)
        await run.until(lambda: run.verbs().count("quarantine") > 2)

    tell(tmp_path, story, incurable())
