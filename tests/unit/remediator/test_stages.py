"""Nothing but a notification follows from an alert whose stage is not `act`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.model import Alert, IncidentState, Level
from remediator.core.reasons import Reason
from tests.unit.remediator.running import GPU, Running, fire, world


def _staged(name: str, stage: str, **labels: str) -> Alert:
    alert = fire(name)
    return replace(
        alert, fingerprint=f"{name}{stage}", labels={**alert.labels, "stage": stage, **labels}
    )


async def _receive(run: Running, alert: Alert) -> None:
    await run.engine.receive([alert], "webhook")


@pytest.mark.parametrize("stage", ["shadow", "notify"])
def test_people_are_notified_and_nothing_is_touched(tmp_path: Path, stage: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            run.cluster.submit("train-a", on=GPU)
            await _receive(run, _staged("GpuLost", stage))
            closed = await run.state(IncidentState.CLOSED)
            assert (closed.playbook, closed.level) == ("notify-critical", Level.OBSERVE)
            assert run.verbs() == []
            assert run.people.occasions == ["opened"]

    asyncio.run(story())


def test_where_no_playbook_notifies_the_journal_says_why_nothing_follows(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            alert = _staged("GpuLost", "notify", severity="info")
            await _receive(run, alert)
            assert run.journal_state.incidents == {}
            assert run.journal_state.episodes[alert.key].suppressed
            assert run.verbs() == []

    asyncio.run(story())


def test_it_is_no_signal_of_an_incident_that_acts_and_no_reason_to_wait(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            await _receive(run, _staged("GpuXidFatalHardware", "notify"))
            await run.state(IncidentState.CLOSED)
            await run.send("GpuLost")
            await _receive(run, _staged("GpuHung", "shadow"))
            acting = await run.state(IncidentState.PROBATION)
            assert [one.alertname for one in acting.alerts] == ["GpuLost"]
            assert acting.reason is not Reason.NEW_ALERT

    asyncio.run(story())
