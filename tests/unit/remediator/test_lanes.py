"""An exception in a lane is counted, tried again, and left to a person after the third."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fleetmedic.kernel.labels import Target
from remediator import engine as engine_module
from remediator import lanes
from remediator.clusters.base import NodeFacts
from remediator.clusters.memory import MemoryCluster
from remediator.core.events import Event
from remediator.core.model import Alert, IncidentState
from remediator.core.reasons import Reason
from remediator.journal import read_events
from tests.unit.remediator.running import GPU, Running, fire, world

OTHER = Target.parse("node2/1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that failed try again at once; drawing a traceback takes longer than all the rest."""
    monkeypatch.setattr(lanes, "ASK_AGAIN", 0.001)
    log = SimpleNamespace(exception=lambda *_, **__: None, error=lambda *_, **__: None)
    monkeypatch.setattr(lanes, "log", log)


class Broken(MemoryCluster):
    """A cluster whose answer about node1 is none that an adapter may give, for so many times."""

    broken = 10**9
    asked = 0

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        self.asked += 1
        if self.broken > 0:
            self.broken -= 1
            raise KeyError("node1")
        return await super().list_nodes()


def test_the_third_exception_in_a_row_is_a_persons_and_each_is_counted(tmp_path) -> None:
    async def story() -> None:
        async with world(tmp_path, Broken()) as run:
            await run.send("GpuLost")
            one = await run.state(IncidentState.ESCALATED)
            assert one.reason is Reason.LANE_FAILED
            assert "KeyError three times in a row on gpu/node1/3" in one.text
            assert len(run.failures) >= 3
            await run.until(lambda: len(run.failures) > 5)
            assert run.people.occasions == ["lane_failed"], "nobody is told of the fourth"
            assert run.verbs() == []

    asyncio.run(story())


def test_two_exceptions_are_nothing_yet(tmp_path) -> None:
    async def story() -> None:
        cluster = Broken()
        cluster.broken = 2
        async with world(tmp_path, cluster) as run:
            await run.send("GpuLost")
            await run.state(IncidentState.CLOSED)
            assert len(run.failures) == 2
            assert "lane_failed" not in run.people.occasions

    asyncio.run(story())


def test_what_works_in_between_begins_the_count_again(tmp_path) -> None:
    async def story() -> None:
        cluster = Broken()
        cluster.broken = 2
        async with world(tmp_path, cluster) as run:
            await run.engine.pause("alice", "x")
            await run.send("GpuLost")
            await run.state(IncidentState.HELD)
            cluster.broken = 2
            run.engine.wake_all()
            await run.until(lambda: len(run.failures) == 4)
            await run.engine.resume("alice")
            await run.state(IncidentState.CLOSED)

    asyncio.run(story())


def test_one_lane_that_fails_stops_no_other(tmp_path) -> None:
    class Partly(MemoryCluster):
        async def jobs_on(self, target: Target) -> Any:
            if target == GPU:
                raise RuntimeError("boom")
            return await super().jobs_on(target)

    async def story() -> None:
        async with world(tmp_path, Partly()) as run:
            await run.engine.receive([fire("GpuLost"), fire("GpuLost", OTHER)], "webhook")
            await run.state(IncidentState.CLOSED, OTHER)
            await run.state(IncidentState.ESCALATED)

    asyncio.run(story())


def _poison(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let alerts of a name raise where they are admitted."""
    admit = engine_module.admit

    def admitting(alert: Alert, *more: Any, **named: Any) -> tuple[Event, ...]:
        if alert.name == name:
            raise RecursionError
        return admit(alert, *more, **named)

    monkeypatch.setattr(engine_module, "admit", admitting)


def test_a_poisoned_alert_is_put_aside_and_the_lane_lives(tmp_path, monkeypatch) -> None:
    _poison(monkeypatch, "GpuHung")

    async def story() -> None:
        async with world(tmp_path) as run:
            await run.engine.receive([fire("GpuHung"), fire("GpuLost")], "webhook")
            await run.state(IncidentState.CLOSED)
            assert len(run.failures) == 3
            put = [one for one in read_events(tmp_path) if one["reason"] == "lane_failed"]
            assert [one["event"] for one in put] == ["Suppressed"]
            (told,) = (one for one in read_events(tmp_path) if "is not handled" in one["text"])
            assert "RecursionError three times in a row" in told["text"]
            assert run.journal_state.undecided() == ()

    asyncio.run(story())


def test_a_poisoned_alert_does_not_come_back_after_a_restart(tmp_path, monkeypatch) -> None:
    _poison(monkeypatch, "GpuHung")

    async def story() -> None:
        async with world(tmp_path) as run:
            await run.send("GpuHung")
            await _put_aside(run)
        async with world(tmp_path) as run:
            await asyncio.sleep(0.05)
            assert run.failures == []

    asyncio.run(story())


async def _put_aside(run: Running) -> None:
    await run.until(lambda: any(one.suppressed for one in run.journal_state.episodes.values()))


def test_a_failing_lane_waits_twice_as_long_each_time_and_a_minute_at_most(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "ASK_AGAIN", 2.0)
    given_up: list[str] = []

    async def nothing(*_: object) -> None:
        return None

    async def give_up(target: Target, waiting: Alert | None, text: str) -> None:
        given_up.append(text)

    async def story() -> list[float]:
        running = lanes.Lanes(lanes.LaneWork(nothing, nothing, lambda: None, give_up))
        lane = lanes._Lane()
        return [await running._failed(GPU, lane, "KeyError") for _ in range(7)]

    assert asyncio.run(story()) == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert given_up == [
        "KeyError three times in a row on gpu/node1/3; see the log for the traceback."
    ]
