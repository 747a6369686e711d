"""Implement the action that signals jobs to write a checkpoint now."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import HARDWARE, ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class SignalCheckpoint(Action):
    """The action `signal_checkpoint`. It skips jobs that have already ended."""

    spec: ActionSpec = ActionSpec(
        "signal_checkpoint",
        Effect.SAVES,
        Level.DRAIN,
        HARDWARE | {TargetKind.JOB},
        would="signal its jobs to write a checkpoint",
        did="asked {jobs} for a checkpoint",
        capability=Capability.SIGNAL,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        missing = [job for job in step.jobs if not await _has_signal(job, step, tools)]
        if missing:
            return Observation(False, f"Not signalled yet: {', '.join(missing)}.")
        return Observation(True, f"Signalled to write a checkpoint: {', '.join(step.jobs)}.")

    async def act(self, step: Step, tools: Tools) -> None:
        for job_id in step.jobs:
            if not await _has_signal(job_id, step, tools):
                await effect(tools.cluster.signal(job_id, op_id=f"{step.op_id}-{job_id}"))


async def _has_signal(job_id: str, step: Step, tools: Tools) -> bool:
    if await tools.cluster.signalled(job_id, op_id=f"{step.op_id}-{job_id}"):
        return True
    job = await tools.cluster.job(job_id)
    return job is None or job.finished or not job.running
