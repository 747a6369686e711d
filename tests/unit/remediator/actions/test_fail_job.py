"""`fail_job` fails a job once, with the reason in the journal, and observes before it repeats."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Tools
from remediator.actions.fail_job import FailJob
from remediator.clusters.base import Capability, ClusterError, Unsupported
from remediator.clusters.memory import MemoryCluster
from remediator.core.model import Incident, Level, StepRun, StepState
from remediator.core.plan import new_step

JOB = Target.parse("job/train")
INCIDENT = Incident("inc-1", JOB, "restart-loop", Level.REPAIR, opened=1.0)
STEP = new_step(INCIDENT, FailJob().spec, 60.0, jobs=("train",))


def tools_of(cluster: MemoryCluster) -> Tools:
    run = StepRun(STEP, StepState.PREPARED, 2.0, text="The job kept failing on node1, node2.")
    nothing = cast("type", None)
    return Tools(cluster, nothing, replace(INCIDENT, steps=(run,)), nothing, nothing)


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster(nodes=2, gpus=1)
    cluster.submit("train")
    return cluster


def test_it_is_done_once_and_observed_with_its_reason(cluster: MemoryCluster) -> None:
    async def story() -> None:
        tools = tools_of(cluster)
        assert not (await FailJob().observe(STEP, tools)).over
        await FailJob().act(STEP, tools)
        seen = await FailJob().observe(STEP, tools)
        assert (seen.over, seen.ok) == (True, True)
        assert "inc-1: The job kept failing on node1, node2." in seen.text
        await FailJob().act(STEP, tools)

    asyncio.run(story())
    assert [one.verb for one in cluster.effects] == ["fail"]


def test_a_job_that_ended_by_itself_was_not_failed(cluster: MemoryCluster) -> None:
    async def story() -> None:
        cluster.finish("train")
        tools = tools_of(cluster)
        await FailJob().act(STEP, tools)
        seen = await FailJob().observe(STEP, tools)
        assert (seen.over, seen.ok) == (True, False)
        assert "had already ended (COMPLETED)" in seen.text

    asyncio.run(story())
    assert cluster.effects == ()


def test_an_unknown_job_ends_the_step_and_cannot_be_failed() -> None:
    async def story() -> None:
        tools = tools_of(MemoryCluster())
        seen = await FailJob().observe(STEP, tools)
        assert (seen.over, seen.ok) == (True, False)
        with pytest.raises(ClusterError, match="'train' not found"):
            await FailJob().act(STEP, tools)

    asyncio.run(story())


def test_a_cluster_without_the_capability_rejects_it() -> None:
    lacking = MemoryCluster(capabilities=frozenset(Capability) - {Capability.FAIL})
    lacking.submit("train")
    assert not FailJob().spec.supported(frozenset(map(str, lacking.capabilities)))
    with pytest.raises(Unsupported, match="cannot fail a job"):
        asyncio.run(FailJob().act(STEP, tools_of(lacking)))
