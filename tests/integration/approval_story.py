"""An incident that waits for an approval, run by a process that may be killed; for the crash tests."""

from __future__ import annotations

import asyncio
import os
import pickle
from dataclasses import replace
from pathlib import Path

from remediator.clusters.base import Capability
from remediator.clusters.memory import MemoryCluster
from remediator.clusters.memory_state import MemoryJobs
from remediator.core.model import Incident, IncidentState
from tests.unit.remediator.running import GPU, QUICK, Running, SaidSensors, fire, world

LIMITS = replace(QUICK, watch=0.2)


class KeptCluster(MemoryCluster):
    """An in-memory cluster whose state outlives the process, in a file."""

    def keep(self, file: Path) -> None:
        self._file = file
        self._write()

    def _did(self, verb: str, subject: str, op_id: str) -> None:
        super()._did(verb, subject, op_id)
        self._write()

    def _write(self) -> None:
        state = {name: value for name, value in vars(self).items() if name in _KEPT}
        state["jobs"] = self._jobs.by_id
        new = self._file.with_suffix(".new")
        new.write_bytes(pickle.dumps(state))
        new.replace(self._file)

    def restore(self, file: Path) -> None:
        state = pickle.loads(file.read_bytes())
        jobs = state.pop("jobs")
        vars(self).update(state)
        self._jobs = MemoryJobs(self._nodes, self._changed)
        self._jobs.by_id |= jobs
        for job_id, job in jobs.items():
            self._jobs.hold(job_id, job.places)


_KEPT = ("_nodes", "_workloads", "_effects", "_taken")


def opened(folder: Path) -> KeptCluster:
    cluster = KeptCluster(capabilities=frozenset(Capability) - {Capability.PROBE})
    file = folder / "cluster"
    if file.exists():
        cluster.restore(file)
    else:
        cluster.submit("train-a", on=GPU)
        cluster.make_unhealthy(GPU)
    cluster.keep(file)
    return cluster


def story(folder: Path, crash_at: int | None) -> None:
    """Run the incident to its end in this process; it may have begun in an earlier one."""
    if crash_at is not None:
        os.environ["CRASH_AT"] = str(crash_at)
    asyncio.run(_story(folder))


async def _story(folder: Path) -> None:
    alert = fire("GpuLost", at=1_700_000_000.0)
    async with world(folder / "data", opened(folder), limits=LIMITS, sensors=SaidSensors()) as run:
        if not run.journal_state.episodes:
            await run.engine.receive([alert], "webhook")
        await run.until(lambda: "reset" in run.verbs(), 20.0)
        await run.engine.receive([replace(alert, firing=False)], "reconciler")
        await run.until(lambda: _asks(run) or _incident(run).ended, 20.0)
        if _asks(run):
            one = _incident(run)
            await run.engine.incident_orders.approve(one.id, "alice", "ran a burn-in", 1)
        await run.until(lambda: _incident(run).ended, 20.0)


def _incident(run: Running) -> Incident:
    (one,) = run.journal_state.incidents.values()
    return one


def _asks(run: Running) -> bool:
    one = _incident(run)
    waits = one.state is IncidentState.AWAIT_APPROVAL and one.approved is None
    return waits and one.done("notify:approval-1")
