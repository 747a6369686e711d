"""The engine with the in-memory cluster and a real journal: whole incidents, in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator import app
from remediator.actions.registry import actions
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import ClusterError
from remediator.clusters.memory import MemoryCluster
from remediator.core.events import Kind
from remediator.core.evidence import AlertStatus, Evidence
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.journal import read_events
from remediator.journal_reader import JournalReader
from remediator.settings import load_settings
from remediator.snapshots import load
from tests.unit.remediator.running import GPU, QUICK, Running, fire, playbooks, world

SILENCED = Evidence(AlertStatus.WITHHELD, Reason.SILENCED, "bob silenced it", "silence/1")


def test_a_lost_gpu_is_quarantined_emptied_reset_tested_and_readmitted(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.submit("train-a", gpus=1, on=GPU)
        cluster.make_unhealthy(GPU)
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            one = await run.state(IncidentState.CLOSED)
            assert run.verbs() == ["quarantine", "restart", "reset", "release"]
            assert run.people.occasions == ["opened", "closed"]
            assert Reason.READMITTED is one.reason
            job = await cluster.job("train-a")
            assert job is not None
            assert job.running
            assert GPU not in job.places

    asyncio.run(story())


def test_a_reset_that_does_not_heal_leads_to_the_reboot_of_the_emptied_node(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.submit("train-b", gpus=2)
        cluster.make_unhealthy(GPU, heals_by="reboot")
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.CLOSED)
            assert run.verbs()[-1] == "release"
            assert [verb for verb in run.verbs() if verb in ("reset", "reboot")] == [
                "reset",
                "reboot",
            ]
            assert "restart" in run.verbs()
            assert all(node.quarantine is None for node in await cluster.list_nodes())

    asyncio.run(story())


def test_what_nothing_heals_is_escalated_stays_out_and_is_never_closed(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.make_unhealthy(GPU, heals_by="none")
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.ESCALATED)
            await run.until(lambda: "escalated" in run.people.occasions)
            held = await cluster.quarantined(GPU)
            assert held is not None
            await run.send("GpuXidFatalHardware")
            await asyncio.sleep(0.1)
            assert len(run.journal_state.incidents) == 1
            assert IncidentState.CLOSED not in {
                one.state for one in run.journal_state.incidents.values()
            }
            # The node that was rebooted for it is back in service, with its other GPUs.
            node = (await cluster.list_nodes())[0]
            await run.until(lambda: "release" in run.verbs())
            assert await cluster.quarantined(Target.parse(node.name)) is None
            # A person takes over: what they release is theirs.
            await cluster.release(GPU, op_id="hand", owner="fleetmedic")
            run.engine.wake_all()
            await run.state(IncidentState.OVERRIDDEN)

    asyncio.run(story())


def test_an_alert_that_outlives_its_cure_opens_nothing_new(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.make_unhealthy(GPU)
        async with world(tmp_path, cluster) as run:
            first = await run.send("GpuLost")
            await run.state(IncidentState.CLOSED)
            for _ in range(5):
                await run.engine.receive([first], "webhook")
                await run.engine.receive([replace(first, firing=False)], "webhook")
                await run.engine.receive([first], "reconciler")
            await run.send("GpuXidFatalHardware", at=first.starts_at + 0.01)
            await asyncio.sleep(0.1)
            assert len(run.journal_state.incidents) == 1
            assert {Reason.SPENT} == {
                Reason(line["reason"])
                for line in read_events(tmp_path)
                if line["event"] == str(Kind.SUPPRESSED)
            }
            await run.send("GpuLost", at=time.time() + 0.01)
            await run.until(lambda: len(run.journal_state.incidents) == 2)

    asyncio.run(story())


def test_an_alert_that_leads_nowhere_is_one_event_with_its_reason(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            other = replace(fire("GpuLost"), labels={"alertname": "GpuLost", "cluster": "other"})
            await run.engine.receive([other], "webhook")
            (line,) = read_events(tmp_path)
            assert (line["event"], line["reason"]) == ("AlertReceived", "other_cluster")
            assert line["text"].startswith("GpuLost is firing. The alert has label cluster='other'")
            assert run.journal_state.episodes[other.key].suppressed
            assert run.journal_state.undecided() == ()

    asyncio.run(story())


def test_an_alert_that_stands_twice_in_one_payload_is_one(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, level=Level.OBSERVE) as run:
            alert = fire("GpuLost")
            over = replace(alert, firing=False)
            assert await run.engine.receive([alert, alert, alert], "webhook") == 1
            assert await run.engine.receive([alert, over, over, alert, alert], "webhook") == 2
            received = [one for one in read_events(tmp_path) if one["event"] == "AlertReceived"]
            assert [one["data"]["status"] for one in received] == ["firing", "resolved", "firing"]

    asyncio.run(story())


def test_application_errors_quarantine_nothing(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            await run.send("GpuXidApplicationRepeated")
            await run.state(IncidentState.CLOSED)
            assert run.verbs() == []
            assert run.people.occasions == ["opened"]

    asyncio.run(story())


def test_at_level_observe_nothing_is_touched_and_the_plan_is_written(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, level=Level.OBSERVE) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.SUPPRESSED)
            assert run.verbs() == []
            would = [
                one["data"]["action"] for one in read_events(tmp_path) if one["event"] == "WouldDo"
            ]
            assert would[0] == "quarantine_gpu"
            assert "reset_gpu" in would

    asyncio.run(story())


def test_at_level_quarantine_the_jobs_stay_and_people_are_told(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.submit("train-a", gpus=1, on=GPU)
        async with world(tmp_path, cluster, level=Level.QUARANTINE) as run:
            await run.send("GpuLost")
            await run.until(lambda: "level" in run.people.occasions)
            assert run.verbs() == ["quarantine"]

    asyncio.run(story())


def test_a_pause_holds_everything_and_a_resume_lets_it_go_on(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            await run.engine.pause("alice", "maintenance")
            await run.send("GpuLost")
            await run.state(IncidentState.HELD)
            assert run.verbs() == []
            await run.engine.resume("alice")
            await run.state(IncidentState.CLOSED)

    asyncio.run(story())


def test_an_alert_that_comes_back_after_nothing_was_done_for_it_is_not_lost(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            await run.engine.pause("alice", "maintenance")
            first = await run.send("GpuLost")
            await run.state(IncidentState.HELD)
            await run.engine.receive([replace(first, firing=False)], "reconciler")
            await run.state(IncidentState.SUPPRESSED)
            await run.engine.resume("alice")
            await run.engine.receive([first], "webhook")
            await run.state(IncidentState.CLOSED)

    asyncio.run(story())


def test_a_pause_holds_a_step_that_was_announced_before_it(tmp_path) -> None:
    async def story() -> None:
        class Busy(MemoryCluster):
            busy = True
            refused = 0

            async def reset_gpu(self, target: Target, *, op_id: str) -> None:
                if self.busy:
                    self.refused += 1
                    raise ClusterError("It is in use.", transient=True)
                await super().reset_gpu(target, op_id=op_id)

        cluster = Busy()
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            await run.until(lambda: cluster.refused > 0)
            await run.engine.pause("alice", "wait")
            cluster.busy = False
            await asyncio.sleep(1.0)
            assert "reset" not in run.verbs()
            await run.engine.resume("alice")
            await run.state(IncidentState.CLOSED)
            assert run.verbs().count("reset") == 1

    asyncio.run(story())


def test_what_somebody_else_quarantined_is_left_alone(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        await cluster.quarantine(GPU, op_id="x", owner="alice", reason="mine")
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            one = await run.state(IncidentState.HELD)
            assert Reason.OTHER_OWNER is one.held
            assert run.verbs() == ["quarantine"]

    asyncio.run(story())


def test_a_quarantine_released_by_a_person_ends_the_incident(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        async with world(tmp_path, cluster, books=playbooks(probation=30.0)) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.PROBATION)
            await cluster.release(GPU, op_id="hand", owner="fleetmedic")
            run.engine.wake_all()
            await run.state(IncidentState.OVERRIDDEN)
            assert run.verbs().count("release") == 1

    asyncio.run(story())


def test_the_budget_lets_only_so_many_go_at_once(tmp_path) -> None:
    async def story() -> None:
        limits = replace(QUICK, max_out_percent=10, hold=30.0)
        async with world(tmp_path, MemoryCluster(nodes=8, gpus=4), limits=limits) as run:
            targets = [Target.parse(f"node{n + 1}/2") for n in range(8)]
            await run.engine.receive([fire("GpuLost", one) for one in targets], "webhook")
            held = {IncidentState.HELD: 5}
            await run.until(lambda: len(run.journal_state.incidents) == 8)
            await run.until(
                lambda: (
                    sum(
                        one.state is IncidentState.HELD
                        for one in run.journal_state.incidents.values()
                    )
                    == held[IncidentState.HELD]
                )
            )
            await asyncio.sleep(0.1)
            assert run.verbs().count("quarantine") == 3

    asyncio.run(story())


def test_several_lost_gpus_of_a_node_become_the_nodes_incident(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        gpus = [Target.parse(f"node1/{n}") for n in (1, 3, 5)]
        for gpu in gpus:
            cluster.make_unhealthy(gpu, heals_by="reboot")
        limits = replace(QUICK, hold=1.0)
        async with world(tmp_path, cluster, limits=limits) as run:
            await run.engine.receive([fire("GpuLost", gpu) for gpu in gpus], "webhook")
            node = Target.parse("node1")
            await run.state(IncidentState.CLOSED, node)
            assert run.verbs().count("reset") == 0
            assert run.verbs().count("reboot") == 1
            assert set() == {
                gpu.index
                for facts in await cluster.list_nodes()
                for gpu in facts.gpus
                if gpu.quarantine
            }
            states = {str(one.target): one.state for one in run.journal_state.incidents.values()}
            assert {IncidentState.SUPPRESSED} == {states[str(gpu)] for gpu in gpus}

    asyncio.run(story())


def test_all_gpus_of_a_node_lost_at_once_are_one_incident_of_the_node(tmp_path) -> None:
    async def story() -> None:
        gpus = [Target.parse(f"node1/{n}") for n in range(8)]
        async with world(tmp_path, limits=replace(QUICK, hold=0.3)) as run:
            await run.engine.receive([fire("GpuLost", gpu) for gpu in gpus], "webhook")
            node = Target.parse("node1")
            await run.state(IncidentState.CLOSED, node)
            assert [node] == [
                one.target for one in run.journal_state.incidents.values() if one.target.gpu is None
            ]
            left = (*(await run.cluster.list_nodes())[0].gpus,)
            assert not any(gpu.quarantine for gpu in left)

    asyncio.run(story())


def test_a_warning_about_the_node_makes_nobody_forget_its_quarantined_gpu(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, limits=replace(QUICK, hold=0.5)) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.JOBS_MOVED)
            await run.send("NodeOomKill", Target.parse("node1"))
            await run.state(IncidentState.CLOSED, Target.parse("node1"))
            await run.state(IncidentState.CLOSED)
            assert run.verbs() == ["quarantine", "reset", "release"]

    asyncio.run(story())


def test_gpus_go_on_alone_where_their_node_may_only_be_observed(tmp_path) -> None:
    async def story() -> None:
        gpus = [Target.parse(f"node1/{n}") for n in (1, 3)]
        books = tuple(
            replace(one, level=Level.OBSERVE) if one.name == "node-down" else one
            for one in playbooks()
        )
        async with world(tmp_path, books=books, limits=replace(QUICK, hold=0.3)) as run:
            await run.engine.receive([fire("GpuLost", gpu) for gpu in gpus], "webhook")
            for gpu in gpus:
                await run.state(IncidentState.CLOSED, gpu)
            assert run.verbs().count("release") == 2

    asyncio.run(story())


def test_a_stalled_job_is_restarted(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.submit("train-a", gpus=2)
        job = Target.parse("job/train-a")
        async with world(tmp_path, cluster) as run:
            await run.send("TrainingStalled", job)
            await run.state(IncidentState.CLOSED, job)
            assert run.verbs() == ["restart"]

    asyncio.run(story())


class Blind(MemoryCluster):
    """A cluster that resets and then cannot say whether it did."""

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        if op_id in self._taken:
            raise ClusterError("the reset's result was lost.")
        return False


def test_a_reset_whose_effect_cannot_be_seen_goes_to_a_person_and_is_not_repeated(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, Blind()) as run:
            await run.send("GpuLost")
            one = await run.state(IncidentState.ESCALATED)
            assert Reason.EFFECT_UNKNOWN is one.reason
            assert run.verbs().count("reset") == 1
            assert run.verbs().count("reboot") == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    "stop_in", [IncidentState.QUARANTINED, IncidentState.REPAIRING, IncidentState.PROBATION]
)
def test_another_process_takes_an_incident_up_where_it_was(tmp_path, stop_in) -> None:
    async def story() -> None:
        cluster = MemoryCluster()
        cluster.make_unhealthy(GPU)
        async with world(tmp_path, cluster, books=playbooks(probation=0.2)) as run:
            await run.send("GpuLost")
            await run.until(
                lambda: any(
                    line["data"].get("state") == str(stop_in) for line in read_events(tmp_path)
                )
            )
        async with world(tmp_path, cluster) as run:
            await run.state(IncidentState.CLOSED)
            assert run.verbs() == ["quarantine", "reset", "release"]

    asyncio.run(story())


NAMES = (
    "GpuLost", "GpuXidFatalHardware", "GpuPeerOutlier", "GpuXidApplicationRepeated", "NodeDown", "Odd",
)  # fmt: skip
DEEDS = ("", "", "", "pause", "release", "close", "retry", "withhold", "storm", "calm", "busy")


class Busy(MemoryCluster):
    """A cluster that may refuse repairs for the moment, so that announced ones are taken back."""

    busy = False

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        if self.busy:
            raise ClusterError("It is in use.", transient=True)
        await super().reset_gpu(target, op_id=op_id)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stream=st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.integers(1, 2), st.integers(0, 2), st.booleans(),
            st.sampled_from(DEEDS),
        ),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_replaying_the_journal_of_any_stream_of_alerts_and_orders_gives_the_live_state(
    tmp_path_factory, stream
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    start = time.time()

    async def story() -> None:
        async with world(folder, Busy()) as run:
            for n, (name, node, gpu, firing, deed) in enumerate(stream):
                target = Target.parse(f"node{node}/{gpu}")
                alert = await run.send(name, target, at=start + n / 100, firing=firing)
                await _do(deed, run, alert, target)
                await asyncio.sleep(0.002 * (n % 5))
            assert run.journal_state.refused == 0

    asyncio.run(story())


async def _do(deed: str, run: Running, alert: Alert, target: Target) -> None:
    """What else happens: a person's order, which may be refused, or something in the world."""
    exits, incident = run.engine.incident_orders, run.journal_state.incident_on(target)
    identity = incident.id if incident else "inc-none"
    with contextlib.suppress(UserError):
        if deed == "pause":
            await run.engine.pause("alice", "x")
            await run.engine.resume("alice")
        elif deed == "release":
            await exits.release(target, "alice", "x")
        elif deed == "close":
            await exits.close_incident(identity, "alice", "x", keep_quarantine=True)
        elif deed == "retry":
            await exits.retry(identity, "alice", "x")
        elif deed == "withhold":
            await run.engine.withheld.record([(alert, SILENCED)])
        elif deed == "storm":
            await run.engine.storms.begin("default", "A storm.")
        elif deed == "calm":
            await run.engine.storms.update(ClusterSnapshot(await run.cluster.list_nodes()))
        elif deed == "busy":
            cluster = run.cluster
            assert isinstance(cluster, Busy)
            cluster.busy = not cluster.busy


def test_from_alert_to_quarantine_takes_a_fraction_of_a_second(tmp_path) -> None:
    async def story() -> None:
        took: list[float] = []
        async with world(tmp_path) as run:
            for n in range(8):
                began = time.monotonic()
                target = Target.parse(f"node{n % 4 + 1}/{n}")
                await run.send("GpuLost", target)
                await run.until(
                    lambda one=target: str(one) in {e.subject for e in run.cluster.effects}
                )
                took.append(time.monotonic() - began)
        assert sorted(took)[3] < 0.25, took

    asyncio.run(story())


def test_playbook_that_is_gone_leaves_the_incident_to_a_person(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, books=playbooks(probation=30)) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.PROBATION)
        rest = tuple(one for one in playbooks() if one.name != "gpu-lost")
        async with world(tmp_path, run.cluster, books=rest) as run:
            one = await run.state(IncidentState.ESCALATED)
            assert Reason.PLAYBOOK_GONE is one.reason

    asyncio.run(story())


def test_every_action_of_a_playbook_is_in_the_registry() -> None:
    assert {rung.action.name for one in playbooks() for rung in one.ladder} <= set(
        actions().names()
    )


def test_the_journal_is_read_only_while_no_other_process_can_write_it(
    tmp_path, monkeypatch
) -> None:
    free: list[bool] = []

    def reading(state: JournalState, reader: JournalReader) -> int:
        with (reader.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free.append(True)
            except OSError:
                free.append(False)
        return load(state, reader)

    async def story() -> None:
        (tmp_path / "remediator.yml").write_text(
            "cluster: {adapter: memory}\nwebhook_token_file: t\nwithout_alertmanager: true\n"
        )
        settings = load_settings(tmp_path / "remediator.yml")
        async with app.running(settings, tmp_path, playbooks(), MemoryCluster()):
            pass

    monkeypatch.setattr(app, "load", reading)
    asyncio.run(story())
    assert free == [False]


def test_three_sick_nodes_of_one_job_are_one_restart_off_all_three(tmp_path) -> None:
    async def story() -> None:
        cluster = MemoryCluster(nodes=8, gpus=8)
        cluster.submit("train", gpus=8, nodes=3)
        sick = [Target.parse(f"node{number}/3") for number in (1, 2, 3)]
        for gpu in sick:
            cluster.make_unhealthy(gpu)
        async with world(tmp_path, cluster, limits=replace(QUICK, hold=0.7)) as run:
            job = await cluster.job("train")
            assert job is not None
            assert job.nodes == ("node1", "node2", "node3")
            await run.engine.receive([fire("GpuLost", gpu) for gpu in sick], "webhook")
            for gpu in sick:
                await run.state(IncidentState.CLOSED, gpu)
            job = await cluster.job("train")
            assert job is not None
            assert (job.running, job.restarts) == (True, 1)
            assert not {"node1", "node2", "node3"} & set(job.nodes)

    asyncio.run(story())


def test_plans_at_level_observe_that_are_made_at_once_keep_within_the_budget(tmp_path) -> None:
    async def story() -> None:
        limits = replace(QUICK, max_new=3, max_new_window=600.0)
        cluster = MemoryCluster(nodes=16, gpus=8)
        async with world(tmp_path, cluster, level=Level.OBSERVE, limits=limits) as run:
            gpus = [Target.parse(f"node{number}/0") for number in range(1, 9)]
            for gpu in gpus:
                await run.send("GpuEccUncorrectable", gpu)
            await run.until(
                lambda: (
                    len(run.journal_state.incidents) == 8
                    and all(
                        one.rehearsed or one.held for one in run.journal_state.incidents.values()
                    )
                )
            )
            planned = [
                one
                for one in read_events(tmp_path)
                if one["event"] == "WouldDo" and one["data"]["action"] == "quarantine_gpu"
            ]
            assert len(planned) == 3

    asyncio.run(story())


def test_a_release_wakes_what_waits_for_the_budget(tmp_path) -> None:
    async def story() -> None:
        limits = replace(QUICK, max_out_percent=3.5)  # one of 32 GPUs
        async with world(tmp_path, limits=limits) as run:
            await run.send("GpuRowRemapFailure", GPU)  # it has no repair, so it stays out
            await run.state(IncidentState.ESCALATED)
            other = Target.parse("node2/1")
            await run.send("GpuEccUncorrectable", other)
            held = await run.state(IncidentState.HELD, other)
            assert held.held is Reason.BUDGET_OUT
            woken: list[Target] = []
            wake = run.engine._lanes.wake
            run.engine._lanes.wake = lambda target: (woken.append(target), wake(target))[1]  # type: ignore[method-assign]
            await run.engine.incident_orders.release(GPU, "alice", "tested by hand")
            await run.until(lambda: other in woken)

    asyncio.run(story())
