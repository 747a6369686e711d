"""A job without room waits, says why, and is not taken for one that cannot be moved."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Observation, Tools
from remediator.actions.restart_jobs import RestartJobs
from remediator.clusters.base import Cluster, JobFacts
from remediator.core.model import Incident, Level
from remediator.core.plan import new_step
from tests.unit.remediator.core.examples import JOB as STALLED

GPU = Target.parse("node1/3")
JOB = Target.parse("job/train-a")


class Full(Cluster):
    """A cluster in which the job was stopped and has no room yet."""

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        return False

    async def job(self, job_id: str) -> JobFacts:
        return JobFacts(job_id, "MOVING", reason="no node has 8 free GPUs")


def look(target: Target, waited: float) -> Observation:
    incident = Incident("inc-1", target, "x", Level.REPAIR, opened=1.0)
    nothing = cast("type", None)
    tools = Tools(Full(), nothing, incident, nothing, nothing, waited=lambda: waited)
    step = new_step(incident, RestartJobs().spec, 60.0, jobs=("train-a",))
    return asyncio.run(RestartJobs().observe(step, tools))


@pytest.mark.parametrize(("target", "waited"), [(GPU, 1.0), (JOB, 1.0), (JOB, 30.0)])
def test_a_full_cluster_is_a_wait_with_its_reason(target: Target, waited: float) -> None:
    seen = look(target, waited)
    assert (seen.over, seen.text) == (False, "train-a waits for capacity: no node has 8 free GPUs.")


def test_a_repair_does_not_wait_for_room() -> None:
    assert look(GPU, 11.0).over


class Held(Full):
    """A cluster that remembers what a job's restart was to keep clear of."""

    def __init__(self) -> None:
        self.excluded: list[tuple[Target, ...]] = []
        self.always: list[bool] = []

    async def job(self, job_id: str) -> JobFacts:
        return JobFacts(job_id, "RUNNING", (Target.parse("node2/5"),), running=True)

    async def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...], always: bool = False
    ) -> None:
        self.excluded.append(exclude)
        self.always.append(always)


@pytest.mark.parametrize(
    ("target", "also", "expected"),
    [
        (GPU, (), ("node1/3",)),
        (Target.parse("node2/5"), ("node3/1", "node4"), ("node2/5", "node3/1", "node4")),
        (Target.parse("node2"), ("node3/1",), ("node2", "node3/1")),
        # The job was moved already, and runs: it is not moved again for what an alert names there.
        (GPU, ("node2/5", "node4"), ("node1/3",)),
        (Target.parse("node1"), ("node2/5",), ("node1",)),
        # Nothing is known against the job's own place: the cluster only prefers another one.
        (JOB, (), ()),
        (JOB, ("node3/1",), ("node3/1",)),
    ],
)
def test_a_moved_job_keeps_clear_of_its_place_and_of_accused_hardware(
    target: Target, also: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    cluster = Held()
    incident = Incident("inc-1", target, "x", Level.REPAIR, opened=1.0)
    nothing = cast("type", None)
    tools = Tools(cluster, nothing, incident, STALLED, nothing)
    accused = tuple(map(Target.parse, also))
    step = new_step(incident, RestartJobs().spec, 60.0, jobs=("train-a",), also=accused)
    asyncio.run(RestartJobs().act(step, tools))
    assert cluster.excluded == [tuple(map(Target.parse, expected))]
    assert cluster.always == [target == JOB]
