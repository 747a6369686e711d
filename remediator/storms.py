"""Record storms. In a storm, alerts report too much hardware of a pool as unhealthy at the same time.

A storm starts immediately, and ends automatically when the pool has stayed below the limit for long
enough.
"""

from __future__ import annotations

import asyncio

from remediator.cluster_snapshot import ClusterSnapshot
from remediator.core import events
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.model import op_id
from remediator.engine_context import EngineContext, EventAppender
from remediator.messages import group_body


class Storms:
    """Records the start and the end of storms in the journal, and notifies people once per storm."""

    def __init__(
        self,
        limits: Limits,
        journal_state: JournalState,
        journal: EventAppender,
        context: EngineContext,
    ) -> None:
        self._limits = limits
        self._state = journal_state
        self._journal = journal
        self._context = context
        self._beginning = asyncio.Lock()
        self._calm_since: dict[str, float] = {}

    async def update(self, snapshot: ClusterSnapshot) -> None:
        """Record a storm in each pool where too much hardware is reported unhealthy, and end past storms."""
        now = self._context.now()
        for pool in sorted({*snapshot.pools, *self._state.storms}):
            text = self._context.senses.storm_in(snapshot, pool)
            if text is not None:
                self._calm_since.pop(pool, None)
                await self.begin(pool, text)
            elif pool in self._state.storms:
                since = self._calm_since.setdefault(pool, now)
                if now - since >= self._limits.calm:
                    del self._calm_since[pool]
                    await self._journal.append((events.storm_ended(pool, now),))

    async def begin(self, pool: str, text: str) -> None:
        """Record the start of a storm in a pool and notify people, unless the storm is already recorded."""
        async with self._beginning:
            if pool in self._state.storms:
                return
            now = self._context.now()
            key = f"storm/{pool}/{now:.0f}"
            op = op_id(key, "storm", 1)
            reported = self._context.senses.reported_now
            body = group_body(text, key, op, len(self._state.open), reported)
            began = events.storm_began(pool, now, text)
            await self._journal.append((began, events.notified(now, op, body, group=key)))

    def ended_lately(self) -> bool:
        """Return whether a storm ended so recently that disruptive steps still run one at a time."""
        ended = max(self._state.storm_ended.values(), default=0.0)
        return self._context.now() - ended < self._limits.calm
