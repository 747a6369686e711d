"""The interfaces and objects that the engine and its parts share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from remediator.clusters.base import Cluster
from remediator.core.events import Event
from remediator.executor import Executor
from remediator.senses import Senses


class EventAppender(Protocol):
    """The part of the journal that the engine and the outbox use."""

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]: ...


@dataclass(frozen=True, slots=True)
class EngineContext:
    """The objects that the engine uses to act.

    `now` returns Unix seconds. `addresses` is the number of addresses that receive notifications.
    """

    cluster: Cluster
    senses: Senses
    executor: Executor
    now: Callable[[], float]
    lane_failed: Callable[[], None] = lambda: None
    evaluated: Callable[[], None] = lambda: None
    addresses: int = 0
