"""Turns and paces: who decides first, and how many at once."""

from __future__ import annotations

import asyncio

from remediator.turns import Pace, Turns, Urgency


def test_the_most_urgent_is_first_and_then_the_newest() -> None:
    async def story() -> list[str]:
        turns, order = Turns(1), list[str]()

        async def decide(name: str, urgency: Urgency) -> None:
            async with turns.turn(urgency):
                order.append(name)

        async with asyncio.TaskGroup() as tasks, turns.turn(Urgency.NEW):
            for name in ("old", "newer", "newest"):
                tasks.create_task(decide(name, Urgency.NEW))
            tasks.create_task(decide("acting", Urgency.IN_PROGRESS))
            await asyncio.sleep(0)
            assert order == []
        return order

    assert asyncio.run(story()) == ["acting", "newest", "newer", "old"]


def test_at_most_so_many_decide_at_once() -> None:
    async def story() -> int:
        turns, now, most = Turns(3), 0, 0

        async def decide() -> None:
            nonlocal now, most
            async with turns.turn(Urgency.NEW):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1

        await asyncio.gather(*(decide() for _ in range(50)))
        return most

    assert asyncio.run(story()) == 3


def test_a_waiter_that_is_cancelled_takes_no_turn_from_others() -> None:
    async def story() -> None:
        turns = Turns(1)

        async def decide() -> None:
            async with turns.turn(Urgency.NEW):
                pass

        for yields in range(4):  # cancelled before and after its turn is granted
            async with turns.turn(Urgency.NEW):
                waiting = asyncio.create_task(decide())
                await asyncio.sleep(0)
            for _ in range(yields):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(1):
                await decide()

    asyncio.run(story())


def test_a_pace_spreads_starts_and_delays_no_first_one() -> None:
    async def story() -> list[float]:
        pace, loop = Pace(100.0), asyncio.get_running_loop()
        began, times = loop.time(), list[float]()

        async def decide() -> None:
            await pace.wait()
            times.append(loop.time() - began)

        await asyncio.gather(*(decide() for _ in range(4)))
        return times

    times = asyncio.run(story())
    assert all(at >= 0.01 * number - 0.002 for number, at in enumerate(times))
