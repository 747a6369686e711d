"""A storm begins at once, is told of once, and ends after ten minutes below its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import GpuFacts, NodeFacts
from remediator.core.events import Event, Kind
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.storm import storm_in
from remediator.engine_context import EngineContext
from remediator.storms import Storms

NOW = 1_700_000_000.0


def node(name: str, pool: str = "default") -> NodeFacts:
    return NodeFacts(name, True, tuple(GpuFacts(n, f"{name}-{n}") for n in range(8)), None, pool)


NODES = tuple(node(f"node{n}") for n in range(8))
MANY = [Target.parse(f"node{n}") for n in range(3)]


class Shell:
    """The journal and the senses of storms: what is accused, the time, and what was written."""

    def __init__(self) -> None:
        self.at, self.accused = NOW, list[Target]()
        self.journal_state, self.written = JournalState(), list[Event]()
        world = EngineContext(cast(Any, None), cast(Any, self), cast(Any, None), lambda: self.at)
        self.storms = Storms(Limits(), self.journal_state, self, world)

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        for event in events:
            self.journal_state.apply(event)
        self.written += events
        return tuple(events)

    @property
    def reported_now(self) -> Iterable[Target]:
        return sorted(self.accused)

    def storm_in(self, snapshot: ClusterSnapshot, pool: str) -> str | None:
        return storm_in(snapshot.size(pool), self.accused)

    def look(self, at: float | None = None, nodes: tuple[NodeFacts, ...] = NODES) -> list[Kind]:
        """The kinds of what is written by a look at a time."""
        self.at = self.at if at is None else at
        before = len(self.written)
        asyncio.run(self.storms.update(ClusterSnapshot(nodes)))
        return [event.kind for event in self.written[before:]]


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_a_storm_begins_at_once_and_people_get_one_message(shell: Shell) -> None:
    assert shell.look() == []
    shell.accused = MANY
    assert shell.look() == [Kind.STORM_BEGAN, Kind.NOTIFIED]
    began, told = shell.written
    assert (began.data["pool"], "3 of 8 nodes" in began.text) == ("default", True)
    assert told.data["body"]["targets"] == ["node/node0", "node/node1", "node/node2"]
    assert told.data["group"] == "storm/default/1700000000"
    for _ in range(3):
        assert shell.look(shell.at + 60) == []


def test_it_ends_after_ten_minutes_below_the_limit_without_a_person(shell: Shell) -> None:
    shell.accused = MANY
    shell.look()
    shell.accused = MANY[:2]
    assert shell.look(NOW + 10) == []
    assert shell.look(NOW + 609.9) == []
    assert shell.journal_state.storms
    assert shell.look(NOW + 610) == [Kind.STORM_ENDED]
    assert not shell.journal_state.storms
    assert shell.look(NOW + 700) == []


def test_a_relapse_begins_the_ten_minutes_again(shell: Shell) -> None:
    shell.accused = MANY
    shell.look()
    shell.accused = []
    shell.look(NOW + 10)
    shell.accused = MANY
    assert shell.look(NOW + 500) == []
    shell.accused = []
    assert shell.look(NOW + 510) == []
    assert shell.look(NOW + 1109) == []
    assert shell.look(NOW + 1110) == [Kind.STORM_ENDED]


def test_a_second_storm_is_told_of_again(shell: Shell) -> None:
    shell.accused = MANY
    shell.look()
    shell.accused = []
    shell.look(NOW + 1)
    shell.look(NOW + 601)
    shell.accused = MANY
    assert shell.look(NOW + 700) == [Kind.STORM_BEGAN, Kind.NOTIFIED]
    assert len({one.data["op_id"] for one in shell.written if one.kind is Kind.NOTIFIED}) == 2


def test_pools_have_storms_of_their_own(shell: Shell) -> None:
    shell.accused = MANY
    nodes = (*NODES[:3], node("node7", "other"))
    assert shell.look(nodes=nodes) == [Kind.STORM_BEGAN, Kind.NOTIFIED]
    assert set(shell.journal_state.storms) == {"default"}


def test_a_storm_in_a_pool_that_is_gone_ends_as_well(shell: Shell) -> None:
    shell.accused = MANY
    shell.look()
    nodes = tuple(node(one.name, "renamed") for one in NODES[:1])
    assert shell.look(NOW + 10, nodes) == []
    assert shell.look(NOW + 610, nodes) == [Kind.STORM_ENDED]


def test_many_lanes_begin_one_storm(shell: Shell) -> None:
    async def story() -> None:
        await asyncio.gather(*(shell.storms.begin("default", "A storm.") for _ in range(5)))

    asyncio.run(story())
    assert [event.kind for event in shell.written] == [Kind.STORM_BEGAN, Kind.NOTIFIED]


def test_for_ten_minutes_after_a_storm_steps_go_one_at_a_time(shell: Shell) -> None:
    assert not shell.storms.ended_lately()
    shell.accused = MANY
    shell.look()
    assert not shell.storms.ended_lately()
    shell.accused = []
    shell.look(NOW + 1)
    shell.look(NOW + 601)
    assert shell.storms.ended_lately()
    shell.at = NOW + 1200
    assert shell.storms.ended_lately()
    shell.at = NOW + 1201
    assert not shell.storms.ended_lately()
