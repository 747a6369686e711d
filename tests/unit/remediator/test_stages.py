"""Nothing but a notification follows from an alert whose stage is not `act`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fleetmedic.kernel.labels import Target
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


@pytest.mark.parametrize("stage", ["shadow", "notify"])
@pytest.mark.parametrize("staged_first", [True, False])
def test_a_staged_alert_on_a_second_gpu_does_not_make_the_node_the_target(
    tmp_path: Path, stage: str, staged_first: bool
) -> None:
    """Two lost GPUs of a node within the hold are one incident of the node; one lost GPU is not."""

    async def story() -> None:
        async with world(tmp_path) as run:
            sibling = replace(fire("GpuLost", Target.parse("node1/5")), fingerprint="sibling")
            sibling = replace(sibling, labels={**sibling.labels, "stage": stage})
            alerts = [sibling, fire("GpuLost")]
            for alert in alerts if staged_first else reversed(alerts):
                await _receive(run, alert)
            await run.state(IncidentState.PROBATION)
            targets = {one.target for one in run.journal_state.incidents.values()}
            assert targets == {GPU, Target.parse("node1/5")}
            assert {effect.subject for effect in run.cluster.effects} == {str(GPU)}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("NodeDown", {"node": "node1"}),
        ("TrainingStalled", {"job_id": "train-a"}),
        ("InferenceQueueGrowing", {"service": "serve"}),
        ("InferenceOverProvisioned", {"service": "serve"}),
    ],
)
@pytest.mark.parametrize("stage", ["shadow", "notify", "typo"])
def test_no_node_job_or_workload_is_touched_for_a_staged_alert(
    tmp_path: Path, name: str, labels: dict[str, str], stage: str
) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            run.cluster.submit("train-a", on=GPU)
            run.cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
            alert = _staged("GpuLost", stage, alertname=name, **labels)
            kept = {**alert.labels, "gpu": "", "uuid": ""} | (
                {} if "node" in labels else {"node": ""}
            )
            await _receive(run, replace(alert, labels=kept))
            await run.until(lambda: run.people.occasions == ["opened"])
            (only,) = run.journal_state.incidents.values()
            assert only.level is Level.OBSERVE
            assert run.verbs() == []

    asyncio.run(story())


def test_staged_alerts_neither_begin_a_storm_nor_keep_jobs_off_hardware(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as run:
            named = [Target.parse(f"node{n}/{gpu}") for n in (2, 3, 4) for gpu in range(8)]
            for target in named:
                alert = fire("GpuPeerOutlier", target)
                labels = {**alert.labels, "stage": "notify"}
                await _receive(run, replace(alert, labels=labels))
            await run.until(lambda: len(run.people.occasions) == len(named))
            assert run.journal_state.storms == {}
            await run.send("GpuLost")
            await run.state(IncidentState.PROBATION)
            assert {effect.subject for effect in run.cluster.effects} == {str(GPU)}

    asyncio.run(story())
