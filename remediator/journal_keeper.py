"""Keeps startup short and the journal's file limited: stores snapshots, and deletes old events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from remediator import snapshots
from remediator.core.journal_state import JournalState
from remediator.journal import Journal, JournalDown
from remediator.journal_pruning import pruning

log = structlog.get_logger("remediator")
# A snapshot is stored after this many events, after this time (seconds) if there were events, and at the end.
EVENTS = 20_000
EVERY = 3_600.0
# At the end, fewer events than this are not worth a snapshot.
FEW = 500


class JournalKeeper:
    """Stores snapshots of the state and deletes events that are older than the retention.

    `trusted` returns whether the clock is trusted: after a jump of the clock nothing is deleted.
    """

    def __init__(
        self, state: JournalState, journal: Journal, trusted: Callable[[], bool], replayed: int
    ) -> None:
        """Set `replayed`, the number of events that the last snapshot did not contain."""
        self._state = state
        self._journal = journal
        self._trusted = trusted
        self._new = replayed
        self._due = asyncio.Event()
        if replayed >= EVENTS:
            self._due.set()

    def count_event(self) -> None:
        """Count an event that was stored after the last snapshot."""
        self._new += 1
        if self._new >= EVENTS:
            self._due.set()

    async def run(self) -> None:
        """Store a snapshot when one is due, then delete old events, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._due.wait()
            except TimeoutError:
                pass
            try:
                if self._new:
                    await self.save()
                if self._trusted():
                    await self.prune()
            except JournalDown as error:
                log.error("journal_down", error=str(error))
                await asyncio.sleep(EVERY / 60)

    async def save(self) -> None:
        """Store a snapshot of the present state. Raises JournalDown; the older snapshot is then kept."""
        self._due.clear()
        new, frozen = self._new, snapshots.freeze(self._state)
        parts = await asyncio.to_thread(snapshots.encode, frozen, self._state.retention)
        await self._journal.maintain(lambda connection: snapshots.store(connection, parts))
        self._new -= new

    async def finish(self) -> None:
        """Store a last snapshot if it shortens the next start."""
        if self._new >= FEW:
            try:
                await self.save()
            except JournalDown as error:
                log.error("journal_down", error=str(error))

    async def prune(self) -> int:
        """Delete the events that are older than the retention. Returns their number. Raises JournalDown."""
        old = pruning(self._state)
        deleted = 0
        while old is not None and not old.done:
            deleted += await self._journal.maintain(old.batch)
        if deleted:
            log.info("events_deleted", events=deleted)
        return deleted
