"""Each capability taken away in turn, for each packaged playbook, against the hand-written table.

docs/missing-capabilities.md has the table. Each of its rows runs with the real engine.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.kernel.share import share
from remediator.clusters.memory import MemoryCluster
from remediator.core.action import Capability
from remediator.core.model import Alert, IncidentState, Level, Playbook
from remediator.core.shape import shape
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.running import (
    QUICK,
    Running,
    SaidSensors,
    fire,
    playbooks,
    world,
)

OTHER = "any other"
GPU, NODE, JOB = Target.parse("node1/3"), Target.parse("node1"), Target.parse("job/train-a")
WORKLOAD = Target.parse("workload/serve")
TARGETS = {
    TargetKind.GPU: GPU, TargetKind.NODE: NODE, TargetKind.JOB: JOB, TargetKind.WORKLOAD: WORKLOAD,
}  # fmt: skip
# test_failing_jobs.py has the incidents of jobs that are failed in the end.
BOOKS = {
    one.name: one
    for one in playbooks()
    if not one.dead_man_signal and (one.jobs is None or one.jobs.then is None)
}


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    playbook: str
    missing: str
    left_out: tuple[str, ...]
    calls: tuple[str, ...]
    end: str
    notifications: tuple[str, ...]


def _listed(text: str) -> tuple[str, ...]:
    return () if text in ("nothing", "none") else tuple(text.split(", "))


def _rows() -> list[Row]:
    lines = share("docs/missing-capabilities.md").read_text(encoding="utf-8").splitlines()
    cells = [[one.strip() for one in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return [
        Row(one[0], one[1], _listed(one[2]), _listed(one[3]), one[4], _listed(one[5]))
        for one in cells
        if one[0] in BOOKS
    ]


ROWS = _rows()
NAMED = {name: {one.missing for one in ROWS if one.playbook == name} for name in BOOKS}
CASES = [
    (row, capability)
    for row in ROWS
    for capability in Capability
    if capability == row.missing or (row.missing == OTHER and capability not in NAMED[row.playbook])
]


def test_the_table_has_each_playbook_with_each_capability_once() -> None:
    assert len(CASES) == len(BOOKS) * len(Capability)
    assert {row.missing for row in ROWS} <= {OTHER, *Capability}
    assert all(OTHER in named for named in NAMED.values())


def _alert(playbook: Playbook, target: Target, *, firing: bool = True) -> Alert:
    name = playbook.alertnames[0] if playbook.alertnames else "DiskFull"
    one = fire(name, target, at=1_700_000_000.0, firing=firing)
    service = {"service": target.name} if target.kind is TargetKind.WORKLOAD else {}
    return replace(one, labels=one.labels | dict(playbook.labels) | service)


def _cluster(playbook: Playbook, capability: Capability) -> MemoryCluster:
    cluster = MemoryCluster(capabilities=frozenset(Capability) - {capability})
    cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
    cluster.submit("train-a", on=GPU)
    whole = playbook.target is TargetKind.NODE
    cluster.make_unhealthy(NODE if whole else GPU, heals_by="reboot" if whole else "reset")
    return cluster


def _rests(run: Running) -> bool:
    """Whether the incident has ended, needs an operator, or waits for an approval."""
    one = next(iter(run.journal_state.incidents.values()), None)
    if one is None or one.prepared is not None:
        return False
    if one.state is IncidentState.ESCALATED:
        return one.done("notify:escalated")
    asks = one.state is IncidentState.AWAIT_APPROVAL and one.approved is None
    return one.ended or (asks and one.done("notify:approval-1"))


async def _run(row: Row, run: Running) -> tuple[list[str], str, list[str]]:
    playbook = BOOKS[row.playbook]
    target = TARGETS[playbook.target or TargetKind.NODE]
    heals = {"reset", "reboot"} if playbook.quarantine else {"restart", "scale"}
    await run.engine.receive([_alert(playbook, target)], "webhook")
    await run.until(lambda: _rests(run) or bool(heals & set(run.verbs())))
    if not _rests(run):
        await run.engine.receive([_alert(playbook, target, firing=False)], "webhook")
        await run.until(lambda: _rests(run))
    before = run.verbs()
    (one,) = run.journal_state.incidents.values()
    calls = before
    if one.state is IncidentState.AWAIT_APPROVAL:
        await asyncio.sleep(0.1)
        assert run.verbs() == before, "nothing happens before the approval"
        await run.engine.incident_orders.approve(one.id, "alice", "tested by hand")
        await run.until(lambda: _rests(run))
        calls = [*before, "approve", *run.verbs()[len(before) :]]
    (one,) = run.journal_state.incidents.values()
    return calls, f"{one.state} {one.reason}", run.people.occasions


@pytest.mark.parametrize(
    ("row", "capability"),
    CASES,
    ids=[f"{row.playbook}-without-{capability}" for row, capability in CASES],
)
def test_without_a_capability_the_incident_does_what_the_table_says(
    tmp_path: Path, row: Row, capability: Capability
) -> None:
    playbook = BOOKS[row.playbook]
    demand = 100.0 if playbook.scale is not None and playbook.scale.step > 0 else 0.0
    limits = replace(QUICK, watch=0.3)

    async def story() -> tuple[list[str], str, list[str]]:
        cluster = _cluster(playbook, capability)
        sensors = SaidSensors(waiting=demand)
        async with world(tmp_path, cluster, limits=limits, sensors=sensors) as run:
            return await _run(row, run)

    calls, end, notifications = asyncio.run(story())
    expected = ", ".join(row.calls), row.end, ", ".join(row.notifications)
    # A message that is named after a request or a reason has that name behind a hyphen.
    occasions = [one.partition("-")[0] for one in notifications]
    assert (", ".join(calls), end, ", ".join(occasions)) == expected


@pytest.mark.parametrize(
    ("row", "capability"),
    CASES,
    ids=[f"{row.playbook}-without-{capability}" for row, capability in CASES],
)
def test_what_a_missing_capability_leaves_out_of_the_plan_is_in_the_table(
    row: Row, capability: Capability
) -> None:
    playbook = BOOKS[row.playbook]
    able = frozenset[str](Capability) - {capability}
    shaped = shape(ACTIONS, playbook, playbook.target or TargetKind.NODE, able, Level.REPAIR)
    assert tuple(one.action.name for one in shaped.left_out) == row.left_out
    assert all(one.text.endswith(".") for one in shaped.left_out)
    for one in shaped.left_out:
        assert one.action.would in shaped.sentence


def test_why_the_api_and_the_page_say_what_is_left_out_and_why(served) -> None:
    cluster = MemoryCluster(capabilities=frozenset(Capability) - {Capability.GPU_RESET})
    left_out = (
        "Left out of the plan: reset the GPU (This cluster lacks a required capability: gpu reset)."
    )
    one = fire("GpuLost", GPU)
    one = replace(one, labels=one.labels | {"cluster": "local"})
    with served(cluster, "repair") as client:
        client.portal.call(client.app.state.parts.engine.receive, [one], "webhook")
        deadline = time.monotonic() + 10
        while (
            not (found := client.get("/api/v1/incidents").json()["incidents"])
            or not cluster.effects
        ):
            assert time.monotonic() < deadline, found
        asked = client.get("/api/v1/why", params={"target": "node1/3"}).json()["decisions"]
        (said,) = (line for line in asked if left_out in line["text"])
        touched = next(line for line in asked if line["event"] == "StepPrepared")
        assert said["seq"] < touched["seq"], "it is said before anything is touched"
        identity = found[0]["id"]
        assert left_out in client.get(f"/api/v1/incidents/{identity}").json()["summary"]
        assert left_out in client.get(f"/incidents/{identity}").text
