"""Scaling sets no number that goes beyond what somebody else has set meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.base import Tools
from remediator.actions.scale import Scale, ready_text
from remediator.clusters.memory import MemoryCluster
from remediator.core.model import Step
from tests.unit.remediator.catalogue import ACTIONS

SERVE = Target(TargetKind.WORKLOAD, "serve")


@dataclass
class Shown:
    """A cluster in which the workload has this number of replicas."""

    wanted: int
    cluster: MemoryCluster = field(default_factory=MemoryCluster)

    async def workload(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wanted=self.wanted, ready=1)


@pytest.mark.parametrize(
    ("step", "wanted", "over"),
    [(1, 2, False), (1, 3, True), (1, 8, True), (-1, 8, False), (-1, 3, True), (-1, 2, True)],
)
def test_a_scale_out_takes_no_replica_and_a_scale_in_adds_none(step, wanted, over) -> None:
    playbook = SimpleNamespace(scale=SimpleNamespace(step=step))
    tools = cast(Tools, SimpleNamespace(cluster=Shown(wanted), playbook=playbook))
    scale = Step("scale", "scale", ACTIONS.named("scale").effect, SERVE, 1, "op", 60.0, replicas=3)
    assert asyncio.run(Scale().observe(scale, tools)).over is over


@pytest.mark.parametrize(
    ("ready", "wanted", "text"),
    [
        (1, 1, "serve has 1 of 1 replica ready."), (2, 3, "serve has 2 of 3 replicas ready."),
        (2, 1, "serve has 2 ready replicas, and needs only 1."),
        (1, 0, "serve has 1 ready replica, and needs only 0."),
    ],
)  # fmt: skip
def test_more_ready_replicas_than_wanted_are_no_part_of_them(ready, wanted, text) -> None:
    assert ready_text("serve", ready, wanted) == text
