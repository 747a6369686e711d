"""Turns: how many decisions are made at the same time, and in which order they wait.

When ten thousand alerts arrive together, an alert that arrives afterwards must not wait for all of them.
So the newest waiter of the same urgency is first. Incidents with steps in progress are before all others, and
incidents that only notify people are after all others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count


class Urgency(IntEnum):
    """The urgency of a decision; the smallest value is first."""

    IN_PROGRESS = 0
    NEW = 1
    NOTIFY_ONLY = 2


class Turns:
    """Allows `slots` decisions at the same time. Waiting for something else while in a turn delays others."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._numbers = count()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the context ends."""
        await self._acquire(urgency)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, urgency: Urgency) -> None:
        if self._free > 0:
            self._free -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, -next(self._numbers), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            granted = heapq.heappop(self._waiting)[2]
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1


class Pace:
    """Spreads repeated decisions over time: at most `rate` of them start in a second."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._order = asyncio.Lock()
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for the next start, first come first served."""
        async with self._order:
            loop = asyncio.get_running_loop()
            if (wait := self._next - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._next = loop.time() + self._interval
