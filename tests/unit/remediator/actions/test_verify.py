"""Health is proven by metrics taken since and by the active test; an opinion does not wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Observation, Tools
from remediator.actions.verify import Verify
from remediator.clusters.memory import MemoryCluster
from remediator.core.model import Incident, Level
from remediator.core.plan import METRICS, OPINION, WATCH, new_step
from remediator.health import Health, HealthReport
from remediator.playbook_library import load_library
from remediator.senses import Senses

GPU = Target.parse("node1/3")


@dataclass
class Metrics:
    """Senses that say one thing."""

    state: Health

    settles: list[bool] = field(default_factory=list)

    async def health(self, target: Target, since: float, *, settles: bool) -> HealthReport:
        self.settles.append(settles)
        return HealthReport(self.state, f"the metrics say {self.state}")


def look(
    metrics: Health, *, sick: bool = False, name: str = "verify", heard: bool = False,
    repaired: float | None = None, settles: list[bool] | None = None, busy: bool = False,
) -> Observation:  # fmt: skip
    cluster = MemoryCluster()
    if busy:
        cluster.submit("train-a", on=GPU)
    if sick:
        cluster.make_unhealthy(GPU)
    incident = Incident("inc-1", GPU, "gpu-lost", Level.REPAIR, opened=1.0)
    incident = replace(incident, repaired_at=repaired)
    playbook = next(one for one in load_library(()) if one.name == "gpu-lost")

    senses = cast(Senses, Metrics(metrics, [] if settles is None else settles))
    nothing = cast("type", None)
    tools = Tools(cluster, senses, incident, playbook, nothing, other_signal=lambda: heard)
    step = new_step(incident, Verify().spec, 5.0, name=name)
    return asyncio.run(Verify().observe(step, tools))


def test_healthy_metrics_and_a_passed_test_are_health() -> None:
    assert (look(Health.HEALTHY).over, look(Health.HEALTHY).passed) == (True, True)


def test_no_target_is_put_under_load_while_a_job_runs_on_it() -> None:
    seen = look(Health.HEALTHY, busy=True)
    assert (seen.over, seen.ok, seen.passed) == (True, False, None)
    assert "not tested under load" in seen.text


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


def test_only_after_a_repair_must_what_metrics_say_settle() -> None:
    asked: list[bool] = []
    look(Health.SICK, name=OPINION, settles=asked)
    look(Health.SICK, repaired=2.0, settles=asked)
    assert asked == [False, True]


def test_another_witness_breaks_an_opinion_off_and_no_test_after_a_repair() -> None:
    seen = look(Health.UNKNOWN, name=OPINION, heard=True)
    assert (seen.over, seen.ok, seen.passed) == (True, False, None)
    assert not look(Health.UNKNOWN, heard=True).over


@dataclass
class Watched:
    """Senses of a target in use: what metrics say, and whether no alert names it (None: unknown)."""

    state: Health = Health.HEALTHY
    silent: bool | None = True
    since: list[float] = field(default_factory=list)

    async def health(self, target: Target, since: float, *, settles: bool) -> HealthReport:
        self.since.append(since)
        return HealthReport(self.state, f"the metrics say {self.state}.")

    async def quiet(self, target: Target) -> bool | None:
        return self.silent


class Watch:
    """One WATCH step, looked at again and again by one action."""

    def __init__(self, watch: float = 300.0, name: str = WATCH) -> None:
        self.senses, self.action = Watched(), Verify()
        self.accused, self.waited = False, 0.0
        incident = Incident("inc-1", GPU, "gpu-lost", Level.REPAIR, opened=1.0, repaired_at=5.0)
        self.tools = Tools(
            MemoryCluster(capabilities=frozenset()), cast(Senses, self.senses), incident,
            next(one for one in load_library(()) if one.name == "gpu-lost"), cast("type", None),
            alert_active=lambda: self.accused, watch=watch, waited=lambda: self.waited,
        )  # fmt: skip
        self.step = new_step(incident, Verify().spec, 5.0, name=name)

    def look(self) -> Observation:
        return asyncio.run(self.action.observe(self.step, self.tools))


def test_hardware_in_use_is_not_tested_and_healthy_only_after_a_while(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.actions.verify.monotonic", lambda: now)
    watch = Watch(watch=300.0)
    assert (watch.look().over, watch.look().passed) == (False, None)
    now = 399.9
    assert not watch.look().over
    now = 400.0
    seen = watch.look()
    assert (seen.over, seen.ok, seen.passed) == (True, True, True)
    assert set(watch.senses.since) == {1.0}


@pytest.mark.parametrize(
    "doubt",
    [{"state": Health.SICK}, {"state": Health.UNKNOWN}, {"silent": False}, {"silent": None}],
)
def test_what_is_not_healthy_or_still_named_begins_the_while_again(monkeypatch, doubt) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.actions.verify.monotonic", lambda: now)
    watch = Watch(watch=300.0)
    watch.look()
    for name, value in doubt.items():
        setattr(watch.senses, name, value)
    now = 500.0
    seen = watch.look()
    assert (seen.over, seen.passed) == (False, None)
    assert ("still names" in seen.text) is ("silent" in doubt)
    watch.senses.state, watch.senses.silent = Health.HEALTHY, True
    assert not watch.look().over
    now = 800.0
    assert watch.look().passed


def test_an_alert_that_fires_again_ends_the_watch_without_a_verdict() -> None:
    watch = Watch(watch=0.0)
    watch.accused = True
    seen = watch.look()
    assert (seen.over, seen.ok, seen.passed) == (True, False, None)
    watch.accused = False
    assert watch.look().passed


def test_without_a_load_test_metrics_since_the_repair_must_stay_healthy_for_a_while(
    monkeypatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.actions.verify.monotonic", lambda: now)
    watch = Watch(watch=300.0, name=METRICS)
    watch.accused, watch.senses.silent = True, False
    assert (watch.look().over, watch.look().passed) == (False, None)
    now = 390.0
    watch.senses.state = Health.UNKNOWN
    assert (watch.look().over, watch.look().passed) == (False, None)
    watch.senses.state = Health.HEALTHY
    assert not watch.look().over, "what is unknown begins the while again"
    now = 690.0
    seen = watch.look()
    assert (seen.over, seen.ok, seen.passed) == (True, True, True), "alerts are judged elsewhere"
    assert set(watch.senses.since) == {5.0}


def test_without_a_load_test_a_sick_device_has_until_the_playbooks_deadline_to_come_back() -> None:
    watch = Watch(watch=0.0, name=METRICS)
    watch.senses.state = Health.SICK
    assert (watch.look().over, watch.look().passed) == (False, False)
    watch.waited = watch.tools.playbook.verify.deadline
    assert (watch.look().over, watch.look().ok, watch.look().passed) == (True, False, False)
    watch.senses.state = Health.UNKNOWN
    assert (watch.look().over, watch.look().passed) == (False, None), "unknown is not sick"
