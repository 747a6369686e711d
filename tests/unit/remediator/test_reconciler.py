"""The reconciler: which alerts are over, and which quarantines are nobody's.

An alert is over by a complete answer only, and never by a silence, a window or an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from fleetmedic.kernel.labels import Target
from remediator.clusters.memory import MemoryCluster
from remediator.core import events
from remediator.core.journal_state import JournalState, Pin
from remediator.core.model import OWNER, Alert
from remediator.reconciler import ended_alerts
from tests.unit.remediator.fake_alertmanager import WATCHDOG, FakeAlertmanager, states

NOW = 1_700_000_000.0
ALERT = Alert("f", NOW - 300, "x", True, {"alertname": "GpuLost", "node": "node1", "gpu": "3"})


class World:
    """A journal that has heard one alert long ago, and a fake Alertmanager."""

    def __init__(self) -> None:
        self.fake, self.journal_state = FakeAlertmanager(NOW - 3600), JournalState()
        self.alerts = states(self.fake, lambda: NOW)
        self.hear(ALERT)

    def hear(self, alert: Alert, received: float = NOW - 200) -> None:
        self.journal_state.apply(events.alert_received(alert, None, received, "webhook"))

    def gone(self) -> list[Alert]:
        asyncio.run(self.alerts.refresh(0.0))
        return ended_alerts(self.journal_state, self.alerts)


@pytest.fixture
def world() -> World:
    return World()


def test_what_a_complete_answer_does_not_hold_is_over(world: World) -> None:
    (over,) = world.gone()
    assert (over.fingerprint, over.firing, over.key) == ("f", False, ALERT.key)
    world.hear(over)
    assert world.gone() == []


def test_what_is_listed_or_silenced_is_not_over(world: World) -> None:
    world.fake.lists(ALERT)
    assert world.gone() == []
    world.fake.lists(ALERT, silenced_by=("s",))
    assert world.gone() == []


def test_no_answer_and_an_incomplete_one_end_nothing(world: World) -> None:
    assert ended_alerts(world.journal_state, world.alerts) == [], "it was never asked"
    world.fake.error = "gone"
    assert world.gone() == []
    world.fake.error, world.fake.started = "", NOW - 26
    assert world.gone() == []
    world.fake.started = NOW - 3600
    world.fake.forgets(WATCHDOG)
    assert world.gone() == []


def test_what_was_received_a_moment_ago_is_not_over_yet(world: World) -> None:
    late = Alert("g", NOW - 5, "x", True, dict(ALERT.labels) | {"gpu": "4"})
    world.hear(late, NOW - 5)
    assert [one.fingerprint for one in world.gone()] == ["f"]


def test_without_an_alertmanager_only_webhooks_end_alerts() -> None:
    world = World()
    assert ended_alerts(world.journal_state, states(None, lambda: NOW)) == []


class Rounds:
    """A remediator on a cluster, whose reconciler compares when the test says so."""

    def __init__(self, client: TestClient, cluster: MemoryCluster) -> None:
        assert client.portal is not None
        self.call, self.cluster = client.portal.call, cluster
        self.parts = client.app.state.parts  # type: ignore[attr-defined]

    def quarantine(self, name: str) -> None:
        target = Target.parse(name)
        self.call(
            partial(self.cluster.quarantine, target, op_id=name, owner=OWNER, reason="GpuLost.")
        )

    def logged(self, passes: int) -> list[list[str]]:
        """The targets of each line about quarantines without an incident."""
        with capture_logs() as logs:
            for _ in range(passes):
                self.call(self.parts.reconciler.once)
        return [one["targets"] for one in logs if one["event"] == "quarantine_without_incident"]


@pytest.fixture
def rounds(served: Callable[..., AbstractContextManager[TestClient]]) -> Iterator[Rounds]:
    cluster = MemoryCluster()
    with served(cluster) as client:
        yield Rounds(client, cluster)


def test_a_quarantine_without_an_incident_is_logged_once_per_change(rounds: Rounds) -> None:
    rounds.quarantine("node1/3")
    assert rounds.logged(4) == [["gpu/node1/3"]], "from the second pass on, once"
    rounds.quarantine("node2")
    assert rounds.logged(4) == [["gpu/node1/3", "node/node2"]]
    told = [key for key in rounds.parts.journal_state.groups if key.startswith("stray/")]
    assert len(told) == 2, "people are notified of each target"


def test_a_quarantine_that_a_person_keeps_is_not_logged(rounds: Rounds) -> None:
    target = Target.parse("node1/3")
    rounds.quarantine("node1/3")
    rounds.parts.journal_state.kept[target] = Pin("alice", "RMA", NOW)
    assert rounds.logged(3) == []
    assert rounds.parts.journal_state.groups == {}
