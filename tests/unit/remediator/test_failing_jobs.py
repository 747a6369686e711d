"""A job whose own command keeps failing is restarted elsewhere, then failed; a moved job never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.clusters.memory import MemoryCluster
from remediator.core import failing, moving
from remediator.core.action import ActionSpec
from remediator.core.decision import Case, Decision
from remediator.core.model import IncidentState, JobsPlan, Level
from remediator.core.reasons import Reason
from remediator.journal import read_events
from remediator.playbook_library import read_playbook
from tests.unit.remediator.running import Running, playbooks, world

TRAIN = Target.parse("job/train")
S = IncidentState


LOOKS: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for further failures without delay, and count the looks."""
    decide = moving.decide_failing

    def counted(case: Case, jobs: JobsPlan, then: ActionSpec) -> Decision:
        LOOKS.append(case.incident.id)
        return decide(case, jobs, then)

    monkeypatch.setattr(failing, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(moving, "decide_failing", counted)


async def looked(one: Running) -> None:
    """Wait until the remediator has looked at the job several times more."""
    enough = len(LOOKS) + 3
    await one.until(lambda: len(LOOKS) >= enough)


def cluster_with_job(nodes: int = 4) -> MemoryCluster:
    cluster = MemoryCluster(nodes=nodes, gpus=2)
    cluster.submit("train", gpus=1)
    return cluster


def job_of(cluster: MemoryCluster) -> Any:
    return asyncio.run(cluster.job("train"))


async def node_of(one: Running) -> str | None:
    job = await one.cluster.job("train")
    return job.nodes[0] if job and job.nodes else None


def moves(one: Running) -> int:
    return one.verbs().count("restart")


async def crash(one: Running, *, again: bool = False) -> None:
    """Let the job fail by itself. With `again`, the cluster has started it again in the same place."""
    one.cluster.crash("train")
    if again:
        one.cluster.retry("train")
    one.engine.wake_all()


async def watched(one: Running) -> None:
    await one.send("TrainingRestartLoop", TRAIN)
    await one.state(S.DRAINING, TRAIN)
    await one.until(lambda: "opened" in one.people.occasions)


async def restarted(one: Running, times: int) -> None:
    """Wait until the restart is in the journal, so that a later failure is newer."""

    def done() -> bool:
        ended = [e for e in read_events(one.folder) if e["event"] == "StepDone"]
        return sum(e["data"]["step"] == "restart_jobs" for e in ended) == times

    await one.until(done)


def run(
    folder: Path,
    story: Callable[[Running], Coroutine[Any, Any, None]],
    cluster: MemoryCluster | None = None,
    **more: Any,
) -> MemoryCluster:
    there = cluster or cluster_with_job()

    async def go() -> None:
        async with world(folder, there, **more) as one:
            await story(one)

    asyncio.run(go())
    return there


@pytest.mark.parametrize("again", [False, True], ids=["waits", "retried in place"])
def test_a_job_that_always_fails_is_restarted_on_three_other_nodes_and_then_failed(
    tmp_path: Path, again: bool
) -> None:
    async def story(one: Running) -> None:
        await watched(one)
        seen = []
        for times in (1, 2, 3):
            seen.append(await node_of(one))
            await crash(one, again=again)
            await restarted(one, times)
        seen.append(await node_of(one))
        await crash(one, again=again)
        ended = await one.state(S.CLOSED, TRAIN)
        assert sorted(map(str, seen)) == ["node1", "node2", "node3", "node4"]
        assert ended.reason is Reason.JOB_FAILED
        assert one.people.occasions == ["opened", "job_failed"]
        told = [
            e["data"]["body"]["text"] for e in read_events(tmp_path) if e["event"] == "Notified"
        ]
        for words in (
            "restarted elsewhere 3 times",
            "failing on node1, node2, node3, node4",
            f"Last failure, on {seen[-1]}: the command exited with 1.",
        ):
            assert words in told[-1]
            assert words in ended.text

    cluster = run(tmp_path, story)
    assert [one.verb for one in cluster.effects] == ["restart"] * 3 + ["fail"]
    assert job_of(cluster).state == "FAILED"
    assert "restarted elsewhere 3 times" in job_of(cluster).reason


def test_a_job_that_was_only_moved_off_failed_hardware_is_neither_restarted_nor_failed(
    tmp_path: Path,
) -> None:
    async def story(one: Running) -> None:
        await watched(one)
        for number in range(6):  # six GPUs under the job are lost, one after the other
            job = await one.cluster.job("train")
            assert job is not None
            assert job.nodes
            gpu = job.places[0]
            one.cluster.make_unhealthy(gpu)
            before = moves(one)
            await one.send("GpuLost", gpu, at=time.time())
            await one.until(lambda before=before: moves(one) == before + 1)  # type: ignore[misc]
            await one.until(
                lambda number=number: (
                    [  # type: ignore[misc]
                        i.state
                        for i in one.journal_state.incidents.values()
                        if i.target.gpu is not None
                    ].count(S.CLOSED)
                    == number + 1
                )
            )
        await one.send("TrainingRestartLoop", TRAIN)
        await looked(one)
        assert one.journal_state.incident_on(TRAIN) is not None
        assert {i.target.kind for i in one.journal_state.incidents.values() if i.ended} == {"gpu"}

    cluster = run(tmp_path, story)
    assert job_of(cluster).running
    assert "fail" not in [one.verb for one in cluster.effects]
    assert all("-" in one.op_id for one in cluster.effects if one.verb == "restart")
    started = [e["target"] for e in read_events(tmp_path) if e["event"] == "StepPrepared"]
    prepared = [
        e["data"]["step"] for e in read_events(tmp_path)
        if e["event"] == "StepPrepared" and e["target"] == str(TRAIN)
    ]  # fmt: skip
    assert prepared == ["notify:opened"], (prepared, started)


async def _to_the_limit(one: Running) -> None:
    await watched(one)
    for times in (1, 2, 3):
        await crash(one)
        await restarted(one, times)


def _held_because(one: Running, words: str) -> bool:
    incident = one.journal_state.incident_on(TRAIN)
    return incident is not None and words in incident.held_text


def test_at_the_limit_a_job_is_not_failed_while_its_hardware_is_reported(tmp_path: Path) -> None:
    async def story(one: Running) -> None:
        await _to_the_limit(one)
        await one.engine.pause("kim", "test")
        await one.send("GpuLost", Target.parse("node2/1"))
        await one.until(lambda: one.journal_state.incident_on(Target.parse("node2/1")) is not None)
        await one.engine.resume("kim")
        await crash(one)
        await one.until(lambda: _held_because(one, "Hardware of node2 is reported unhealthy"))

    assert "fail" not in [one.verb for one in run(tmp_path, story).effects]


def test_hardware_that_was_repaired_since_the_alert_may_have_caused_the_failures(
    tmp_path: Path,
) -> None:
    async def story(one: Running) -> None:
        await watched(one)
        gpu = Target.parse("node3/1")
        await one.send("GpuLost", gpu)
        await one.state(S.CLOSED, gpu)
        for times in (1, 2, 3):
            await crash(one)
            await restarted(one, times)
        await crash(one)
        await one.until(lambda: _held_because(one, "Hardware of node3 is reported unhealthy"))

    assert "fail" not in [one.verb for one in run(tmp_path, story).effects]


def test_a_job_that_fails_on_one_node_only_is_held_and_a_person_is_notified(tmp_path: Path) -> None:
    quick = playbooks()

    async def story(one: Running) -> None:
        await watched(one)
        await crash(one)
        await one.until(lambda: _held_because(one, "No other node is in service"))

    cluster = run(tmp_path, story, cluster_with_job(nodes=1), books=quick)
    assert cluster.effects == ()


def test_on_two_nodes_the_job_alternates_and_is_failed_at_the_limit(tmp_path: Path) -> None:
    async def story(one: Running) -> None:
        await _to_the_limit(one)
        await crash(one)
        ended = await one.state(S.CLOSED, TRAIN)
        assert "failing on node1, node2, although" in ended.text

    cluster = run(tmp_path, story, cluster_with_job(nodes=2))
    assert [one.verb for one in cluster.effects] == ["restart"] * 3 + ["fail"]


def test_jobs_that_fail_at_the_same_time_are_not_failed(tmp_path: Path) -> None:
    async def story(one: Running) -> None:
        one.cluster.submit("other")
        await one.send("TrainingRestartLoop", Target.parse("job/other"))
        await _to_the_limit(one)
        await crash(one)
        await one.until(lambda: _held_because(one, "Other jobs (1) restart repeatedly"))

    assert "fail" not in [one.verb for one in run(tmp_path, story).effects]


def test_at_level_drain_a_job_is_restarted_and_a_person_is_notified_at_the_limit(
    tmp_path: Path,
) -> None:
    async def story(one: Running) -> None:
        await _to_the_limit(one)
        await crash(one)
        ended = await one.state(S.FAILED, TRAIN)
        assert ended.reason is Reason.LEVEL
        assert one.people.occasions == ["opened", "failed"]

    cluster = run(tmp_path, story, level=Level.DRAIN)
    assert [one.verb for one in cluster.effects] == ["restart"] * 3


@pytest.mark.parametrize("level", [Level.OBSERVE, Level.QUARANTINE])
def test_below_level_drain_it_is_only_said_what_would_be_done(tmp_path: Path, level: Level) -> None:
    async def story(one: Running) -> None:
        await one.send("TrainingRestartLoop", TRAIN)
        await one.state(S.SUPPRESSED, TRAIN)
        told = [e["text"] for e in read_events(tmp_path) if e["event"] == "WouldDo"]
        assert any("restart its jobs elsewhere" in text for text in told)
        if level is Level.OBSERVE:
            assert any("fail the job if it keeps failing on different nodes" in t for t in told)
            assert any("was restarted 0 times; the playbook requires 3" in t for t in told)
        else:
            assert one.people.occasions == ["level"]

    assert run(tmp_path, story, level=level).effects == ()


def test_a_job_that_recovers_after_a_restart_keeps_running(tmp_path: Path) -> None:
    async def story(one: Running) -> None:
        await watched(one)
        await crash(one)
        await restarted(one, 1)
        incident = one.journal_state.incident_on(TRAIN)
        assert incident is not None
        await one.send("TrainingRestartLoop", TRAIN, at=incident.alerts[0].starts_at, firing=False)
        ended = await one.state(S.CLOSED, TRAIN)
        assert ended.reason is Reason.ALERT_GONE

    cluster = run(tmp_path, story)
    assert job_of(cluster).running
    assert [one.verb for one in cluster.effects] == ["restart"]


def test_a_stall_during_the_watch_is_treated_but_never_fails_the_job(tmp_path: Path) -> None:
    async def story(one: Running) -> None:
        await watched(one)
        await one.send("TrainingStalled", TRAIN, at=time.time())
        await restarted(one, 1)
        await looked(one)
        assert moves(one) == 1

    assert "fail" not in [one.verb for one in run(tmp_path, story).effects]


def test_an_unknown_failure_leads_to_no_step(tmp_path: Path) -> None:
    class Mute(MemoryCluster):
        """A cluster that does not report failures of jobs."""

        async def job(self, job_id: str) -> Any:
            found = await super().job(job_id)
            return replace(found, failure=None) if found else None

    mute = Mute(nodes=4, gpus=2)
    mute.submit("train")

    async def story(one: Running) -> None:
        await watched(one)
        for _ in range(6):
            await crash(one, again=True)
            await looked(one)

    assert run(tmp_path, story, mute).effects == ()


@pytest.mark.parametrize(
    ("jobs", "target", "said"),
    [
        (
            "{then: reset_gpu}",
            "job",
            r"at \$.jobs.then: expected one of: fail_job; got 'reset_gpu'.",
        ),
        ("{then: fail_jb}", "job", r"at \$.jobs.then: expected one of: fail_job; got 'fail_jb'."),
        ("{then: fail_job}", "node", r"at \$.jobs.then: requires target: job and restart: true."),
        ("{then: fail_job, restart: false}", "job", r"requires target: job and restart: true."),
    ],
)
def test_a_playbook_can_only_end_jobs_by_an_action_that_fails_them(
    tmp_path: Path, jobs: str, target: str, said: str
) -> None:
    path = tmp_path / "own.yml"
    path.write_text(
        f"playbook: own\nmatch: {{alertname: [A]}}\ntarget: {target}\nclass: service\njobs: {jobs}\n"
    )
    with pytest.raises(UserError, match=said):
        read_playbook(path)
