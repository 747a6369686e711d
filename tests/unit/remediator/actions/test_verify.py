"""Health is proven by metrics taken since and by the active test; an opinion does not wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Look, Tools
from remediator.actions.verify import Verify
from remediator.clusters.memory import MemoryCluster
from remediator.core.model import Incident, Level
from remediator.core.plan import OPINION, new_step
from remediator.library import load_library
from remediator.senses import Health, HealthReport, Senses

GPU = Target.parse("node1/3")


@dataclass
class Metrics:
    """Senses that say one thing."""

    state: Health

    async def health(self, target: Target, since: float) -> HealthReport:
        return HealthReport(self.state, f"the metrics say {self.state}")


def look(metrics: Health, *, sick: bool = False, name: str = "verify") -> Look:
    cluster = MemoryCluster()
    if sick:
        cluster.sicken(GPU)
    incident = Incident("inc-1", GPU, "gpu-lost", Level.REPAIR, opened=1.0)
    playbook = next(one for one in load_library(()) if one.name == "gpu-lost")

    async def tell(*_: object) -> str:
        return "told"

    senses = cast(Senses, Metrics(metrics))
    tools = Tools(cluster, senses, cast("type", tell), incident, playbook, lambda: 0.0)
    step = new_step(incident, "verify", 5.0, name=name)
    return asyncio.run(Verify().observe(step, tools))


def test_healthy_metrics_and_a_passed_test_are_health() -> None:
    assert (look(Health.HEALTHY).over, look(Health.HEALTHY).passed) == (True, True)


def test_a_failed_test_outweighs_healthy_metrics() -> None:
    assert look(Health.HEALTHY, sick=True).passed is False


@pytest.mark.parametrize("name", ["verify", OPINION])
def test_unknown_is_neither_and_is_waited_for(name: str) -> None:
    seen = look(Health.UNKNOWN, name=name)
    assert (seen.over, seen.passed) == (False, None)


def test_after_a_repair_a_device_has_until_the_deadline_to_come_back() -> None:
    assert (look(Health.SICK).over, look(Health.SICK).passed) == (False, False)


def test_an_opinion_about_a_sick_device_is_given_at_once() -> None:
    assert (look(Health.SICK, name=OPINION).over, look(Health.SICK, name=OPINION).ok) == (
        True,
        False,
    )
