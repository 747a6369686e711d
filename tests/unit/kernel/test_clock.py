"""The monotonic time of an event loop, which a test may replace."""

from __future__ import annotations

import asyncio
import time

from fleetmedic.kernel.clock import monotonic


def test_it_is_the_time_of_the_running_loop() -> None:
    async def story() -> tuple[float, float]:
        asyncio.get_running_loop().time = lambda: 5.0  # type: ignore[method-assign]
        return monotonic(), asyncio.get_running_loop().time()

    assert asyncio.run(story()) == (5.0, 5.0)


def test_without_a_loop_it_is_the_machines() -> None:
    before = time.monotonic()
    assert before <= monotonic() <= time.monotonic()
