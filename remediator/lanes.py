"""Run one task for each target, so that targets are handled concurrently and each in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from fleetmedic.kernel.labels import Target
from remediator.core.model import Alert
from remediator.journal import JournalDown

log = structlog.get_logger("remediator")
ASK_AGAIN = 2.0
MOST_FAILURES = 3
SLOWEST_LANE = 60.0


@dataclass(frozen=True, slots=True)
class LaneWork:
    """What the task of a target does.

    `admit` handles one alert. `advance` makes one decision, and returns the seconds until the next one, or
    None without an incident. `failed` counts an internal error. `give_up` records the third error in a
    row about the waiting alert, or about the target's incident.
    """

    admit: Callable[[Alert, Target], Awaitable[None]]
    advance: Callable[[Target], Awaitable[float | None]]
    failed: Callable[[], None]
    give_up: Callable[[Target, Alert | None, str], Awaitable[None]]


@dataclass(slots=True)
class _Lane:
    """The task of one target: its queue of alerts, and the event that wakes it."""

    inbox: deque[Alert] = field(default_factory=deque)
    failures: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Lanes:
    """The tasks of all targets that have an incident or a new alert."""

    def __init__(self, work: LaneWork) -> None:
        self._work = work
        self._lanes: dict[Target, _Lane] = {}

    def put(self, target: Target, alert: Alert) -> None:
        """Queue an alert for the task of its target."""
        self._lanes.setdefault(target, _Lane()).inbox.append(alert)
        self.wake(target)

    def wake(self, target: Target) -> None:
        """Start the next decision about a target now."""
        lane = self._lanes.setdefault(target, _Lane())
        lane.wake.set()
        if lane.task is None or lane.task.done():
            lane.task = asyncio.create_task(self._run(target, lane), name=f"lane {target}")

    def queued(self, target: Target) -> Sequence[Alert]:
        """Return the alerts that wait for the task of a target."""
        lane = self._lanes.get(target)
        return tuple(lane.inbox) if lane else ()

    async def close(self) -> None:
        """Stop all tasks."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, target: Target, lane: _Lane) -> None:
        """Run the task of one target until the target has neither an incident nor a new alert."""
        while True:
            lane.wake.clear()
            try:
                while lane.inbox:
                    await self._work.admit(lane.inbox[0], target)
                    lane.inbox.popleft()
                pause = await self._work.advance(target)
                lane.failures = 0
            except JournalDown as error:
                log.error("journal_down", target=str(target), error=str(error))
                pause = ASK_AGAIN
            except Exception as error:
                log.exception("lane_failed", target=str(target))
                pause = await self._failed(target, lane, type(error).__name__)
            if pause is None and not lane.inbox:
                self._lanes.pop(target, None)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause or 0.0):
                    await lane.wake.wait()

    async def _failed(self, target: Target, lane: _Lane, error: str) -> float:
        """Count an internal error on a target. Returns the seconds to wait."""
        self._work.failed()
        lane.failures += 1
        if lane.failures == MOST_FAILURES:
            text = f"{error} three times in a row on {target}; see the log for the traceback."
            try:
                await self._work.give_up(target, lane.inbox[0] if lane.inbox else None, text)
                if lane.inbox:
                    lane.inbox.popleft()
                    lane.failures = 0
            except Exception:
                log.exception("lane_failed", target=str(target))
                lane.failures -= 1
        return min(ASK_AGAIN * float(2 ** min(lane.failures, 10)), SLOWEST_LANE)
