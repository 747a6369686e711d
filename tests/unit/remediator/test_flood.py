"""A flood of alerts that only notify people does not delay the handling of faulty hardware."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fleetmedic.kernel.labels import Target
from remediator.core.events import Kind
from remediator.core.model import IncidentState
from remediator.journal import replay
from tests.unit.remediator.running import GPU, fire, world

FLOOD = 600


def test_a_lost_gpu_is_quarantined_before_a_flood_of_notifications_is_handled(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            flood = [
                fire("NodeOomKill", Target.parse(f"node1/{number}"), at=float(1_000_000 + number))
                for number in range(FLOOD)
            ]
            waiting = asyncio.create_task(run.engine.receive(flood, "webhook"))
            await asyncio.sleep(0)
            await run.send("GpuLost", GPU)
            await waiting
            await run.state(IncidentState.CLOSED)

    asyncio.run(story())
    events = list(replay(tmp_path))
    quarantined = next(
        event.seq
        for event in events
        if event.kind is Kind.STEP_DONE and event.data["action"] == "quarantine_gpu"
    )
    notified = [event.seq for event in events if event.kind is Kind.NOTIFIED]
    assert sum(seq < quarantined for seq in notified) < FLOOD / 2
