"""An event loop with virtual time keeps the order of timers, and waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleetmedic.kernel.clock import monotonic
from remediator.virtual_time import VirtualTimeLoop


def run(story: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story())  # type: ignore[arg-type]


def test_days_pass_at_once_and_in_order() -> None:
    async def story() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, monotonic()))

        await asyncio.gather(wait("week", 604_800), wait("day", 86_400), wait("second", 1))
        return seen

    began = time.monotonic()
    assert run(story) == [("second", 1.0), ("day", 86_400.0), ("week", 604_800.0)]
    assert time.monotonic() - began < 60


def test_a_time_limit_is_virtual_too() -> None:
    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        assert monotonic() == 3600.0

    run(story)


def test_the_result_of_a_thread_arrives() -> None:
    async def story() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert run(story) == 7
