"""Implement the action that fails a job permanently, with the reason that the core gives."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.errors import shortened
from fleetmedic.kernel.labels import TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect

LONGEST_REASON = 800


@dataclass(frozen=True, slots=True)
class FailJob(Action):
    """The action `fail_job`.

    Its level is repair, not drain: a drained job continues elsewhere, but a failed job does not
    continue until its owner submits it again.
    """

    spec: ActionSpec = ActionSpec(
        "fail_job",
        Effect.FAILS_JOBS,
        Level.REPAIR,
        frozenset({TargetKind.JOB}),
        would="fail the job if it keeps failing on different nodes",
        did="failed {jobs}",
        capability=Capability.FAIL,
        disruptive=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        job_id = step.target.name
        job = await tools.cluster.job(job_id)
        if job is None:
            return Observation(True, f"The cluster no longer knows {step.target}.", ok=False)
        if await tools.cluster.failed(job_id, op_id=step.op_id):
            return Observation(True, f"{step.target} has failed: {job.reason}")
        if job.finished:
            text = f"{step.target} had already ended ({job.state}), so it was not failed."
            return Observation(True, text, ok=False)
        return Observation(False, f"{step.target} is still {job.state}.")

    async def act(self, step: Step, tools: Tools) -> None:
        # The reason was written to the journal with the step, so it is the same after a crash.
        run = tools.incident.prepared
        reason = f"{tools.incident.id}: {run.text if run else ''}"
        call = tools.cluster.fail(
            step.target.name, op_id=step.op_id, reason=shortened(reason, LONGEST_REASON)
        )
        await effect(call)
