"""Jobs that fail again and again, with the real process and the real local cluster.

A job whose own command fails is retried in place by the cluster, restarted on another node by the
remediator, and then failed, also if the remediator crashes at any point. A job that was moved off
failed hardware is not failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.model import JobSpec, JobState
from remediator.journal import read_events
from tests.integration.test_remediator_crash import (
    PLAYBOOK,
    Ending,
    Point,
    World,
    crash_everywhere,
    running_cluster,
    until,
)

pytestmark = pytest.mark.integration
RESTART_LOOP = """
playbook: restart-loop
match: {alertname: [TrainingRestartLoop]}
target: job
class: service
jobs: {restart: true, deadline: 30s, max: 1/1h, then: fail_job}
"""
# The command fails whenever the test creates its file.
COMMAND = 'while [ ! -e "$1" ]; do sleep 0.05; done; rm "$1"; exit 3'


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[World]]:
    """Two running local clusters on simulated hardware, one for each worker."""
    with (
        running_cluster(tmp_path_factory.mktemp("state")) as one,
        running_cluster(tmp_path_factory.mktemp("state")) as other,
    ):
        yield [one, other]


class FailingJob(Point):
    """One job whose command fails, and one crash of the remediator."""

    playbooks: ClassVar[dict[str, str]] = {"restart-loop": RESTART_LOOP, "gpu-lost": PLAYBOOK}

    def __init__(self, world: World, folder: Path, port: int, crash_at: int) -> None:
        super().__init__(world, folder, port, crash_at)
        self.name, self.target = f"loop-{crash_at}", Target(TargetKind.JOB, f"loop-{crash_at}")
        self.fuse = folder / "fail"
        self.nodes: list[str | None] = []

    def labels(self, target: Target) -> dict[str, str]:
        if target.kind is TargetKind.JOB:
            return {"alertname": "TrainingRestartLoop", "job_id": target.name}
        return super().labels(target)

    @property
    def job(self) -> Any:
        return self.world.cluster.job(self.name)

    def submit(self) -> None:
        command = ("/bin/sh", "-c", COMMAND, "sh", str(self.fuse))
        self.world.cluster.submit(JobSpec(self.name, command, grace=0.5, env=dict(os.environ)))
        until(lambda: self.job.state is JobState.RUNNING, "the job does not start")

    def run(self) -> Ending:
        self.submit()
        process = self.start(crash=True)
        try:
            crashed = self.send(process, self.target) or self.finish(process)
            if crashed:
                process = self.start(crash=False)
                assert not self.send(process, self.target)
                assert not self.finish(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) in (0, 137)
        events = read_events(self.folder / "data")
        return Ending(
            crashed=crashed,
            states=[one["data"]["state"] for one in events if one["event"] == "StateChanged"],
            steps=self.steps(),
            resets=0,
            restarts=len(self.job.restart_ops),
            signals=len(self.job.failed_by),
        )

    def steps(self) -> list[tuple[str, str]]:
        return [
            (one["data"]["step"], one["event"])
            for one in read_events(self.folder / "data")
            if one["event"] in ("StepPrepared", "StepDone", "StepFailed")
        ]

    def finish(self, process: subprocess.Popen[bytes]) -> bool:
        """Let the job fail when the remediator watches it, and again after its restart."""

        def advanced() -> bool:
            steps = self.steps()
            due = sum(step in steps for step in (
                ("notify:opened", "StepDone"), ("restart_jobs", "StepDone"),
            ))  # fmt: skip
            if len(self.nodes) < due and self.job.state is JobState.RUNNING:
                self.nodes.append(self.job.node)
                self.fuse.touch()
            return process.poll() is not None or self.closed()

        until(advanced, self.story)
        return super().finish(process)

    def closed(self) -> bool:
        states = (one["data"].get("state") for one in read_events(self.folder / "data"))
        return not {"CLOSED", "ESCALATED", "FAILED"}.isdisjoint(filter(None, states))


def _shown(point: FailingJob) -> str:
    command = [sys.executable, "-m", "fleetmedic.cli", "jobs", point.name]
    command += ["--state-dir", str(point.world.state)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_crash_at_any_point_fails_the_job_exactly_once(
    worlds: list[World], tmp_path: Path, new_port: Callable[[], int]
) -> None:
    points: dict[int, FailingJob] = {}

    def run(world: World, crash_at: int) -> Ending:
        points[crash_at] = FailingJob(world, tmp_path / str(crash_at), new_port(), crash_at)
        return points[crash_at].run()

    undisturbed, endings = crash_everywhere(worlds, run)
    assert undisturbed.states == ["TRIAGED", "DRAINING", "JOBS_MOVED", "CLOSED"]
    assert [name for name, event in undisturbed.steps if event == "StepDone"] == [
        "notify:opened", "restart_jobs", "fail_job", "notify:job_failed",
    ]  # fmt: skip
    assert sum(ending.crashed for ending in endings.values()) >= 10
    for crash_at, ending in sorted(endings.items()):
        about = (crash_at, ending)
        assert undisturbed.states == ending.states, about
        assert undisturbed.steps == ending.steps, about
        assert (ending.restarts, ending.signals) == (1, 1), about
        point = points[crash_at]
        assert point.job.state is JobState.FAILED, about
        assert len(set(point.nodes)) == 2, about
    point = points[100_000]
    shown, first, second = _shown(point), *point.nodes
    (told,) = [
        one["data"]["body"]["text"]
        for one in read_events(point.folder / "data")
        if one["event"] == "Notified" and one["data"]["occasion"] == "job_failed"
    ]
    nodes = ", ".join(sorted(map(str, (first, second))))
    for text in (shown, told):
        assert f"kept failing on {nodes}, although it was restarted elsewhere once." in text
        assert f"Last failure, on {second}: exited with 3." in text


def _back(point: FailingJob) -> int:
    """Return how many incidents about hardware have ended with a healthy GPU in service."""
    return sum(
        one["event"] == "StateChanged" and one["data"]["state"] == "CLOSED"
        for one in read_events(point.folder / "data")
    )


def test_a_job_that_is_moved_off_failed_gpus_is_neither_restarted_again_nor_failed(
    worlds: list[World], tmp_path: Path, new_port: Callable[[], int]
) -> None:
    point = FailingJob(worlds[0], tmp_path / "moved", new_port(), 200_000)
    point.submit()
    process = point.start(crash=False)
    try:
        point.send(process, point.target)
        for times in (1, 2, 3, 4, 5):
            job = point.job
            point.send(process, Target.parse(f"{job.node}/{job.gpus[0]}"))
            until(lambda times=times: _back(point) == times, point.story)  # type: ignore[misc]
            until(lambda: point.job.state is JobState.RUNNING, point.story)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    on_job = [
        one["data"]["step"]
        for one in read_events(point.folder / "data")
        if one["event"] == "StepPrepared" and one["target"] == str(point.target)
    ]
    assert on_job == ["notify:opened"]
    assert (point.job.state, point.job.attempts, point.job.restarts) == (JobState.RUNNING, 0, 5)
    point.world.cluster.cancel(point.name, op_id="end-moved")
