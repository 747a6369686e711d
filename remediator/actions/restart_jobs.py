"""Implement the action that stops jobs and restarts them elsewhere from their checkpoints.

The restart does not count as a failed attempt of the job.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import HARDWARE, ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class RestartJobs(Action):
    """The action `restart_jobs`.

    The action is done when each job has ended, runs elsewhere, or has left the target and waits for
    capacity. So the repair of the target does not depend on free capacity elsewhere.
    """

    spec: ActionSpec = ActionSpec(
        "restart_jobs",
        Effect.MOVES_JOBS,
        Level.DRAIN,
        HARDWARE | {TargetKind.JOB},
        would="restart its jobs elsewhere",
        did="restarted {jobs} elsewhere",
        capability=Capability.RESTART,
        disruptive=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        texts: list[str] = []
        for job_id in step.jobs:
            look = await _observe_job(job_id, step, tools)
            if not look.over:
                return look
            texts.append(look.text)
        return Observation(True, " ".join(texts) or "There was no job to move.")

    async def act(self, step: Step, tools: Tools) -> None:
        for job_id in step.jobs:
            exclude = await _excluded(job_id, step, tools)
            if not await tools.cluster.restarted(job_id, op_id=f"{step.op_id}-{job_id}"):
                call = tools.cluster.restart(
                    job_id,
                    op_id=f"{step.op_id}-{job_id}",
                    exclude=exclude,
                    always=step.target.kind is TargetKind.JOB,
                )
                await effect(call)


async def _excluded(job_id: str, step: Step, tools: Tools) -> tuple[Target, ...]:
    """Return the GPUs and nodes on which the job must not be placed.

    These are the target and the hardware that other alerts report as unhealthy. A job that the
    cluster has already moved off the target stays where it runs, even if an alert names other
    hardware that the job uses. For an incident about the job itself, the job's own GPUs are not
    excluded, because they are not suspected. If the job fails repeatedly, the step names the nodes on
    which it failed, and other hardware comes from the alerts that are active now.
    """
    if step.target.kind is TargetKind.JOB:
        now = tools.senses.reported_now if tools.playbook.ends_jobs else ()
        return tuple(dict.fromkeys((*step.also, *now)))
    job = await tools.cluster.job(job_id) if step.also else None
    moved = job is not None and job.running and not job.uses(step.target)
    return (step.target,) if moved else (step.target, *step.also)


async def _observe_job(job_id: str, step: Step, tools: Tools) -> Observation:
    restarted = await tools.cluster.restarted(job_id, op_id=f"{step.op_id}-{job_id}")
    job = await tools.cluster.job(job_id)
    if job is None or job.finished:
        return Observation(True, f"{job_id} has ended.")
    if restarted and job.running:
        return Observation(True, f"{job_id} runs on {_described(job.places)}.")
    about_job = step.target.kind is TargetKind.JOB
    # Clusters name the state of a waiting job differently; a waiting job holds no GPUs.
    why = f": {job.reason}" if job.reason else ""
    if not about_job and tools.waited() > PATIENCE and not job.uses(step.target):
        return Observation(
            True, f"{job_id} has left {step.target} and waits for capacity elsewhere{why}."
        )
    if not job.running and not job.places:
        return Observation(False, f"{job_id} waits for capacity{why}.")
    return Observation(False, f"{job_id} is {job.state}{why}.")


def _described(places: tuple[Target, ...]) -> str:
    """Return the GPUs of each node as text, such as "node1 GPUs 0,1"."""
    gpus: dict[str, list[str]] = {}
    for place in places:
        gpus.setdefault(place.name, [])
        if place.gpu is not None:
            gpus[place.name].append(str(place.gpu))
    return " and ".join(
        f"{name} GPUs {','.join(held)}" if held else name for name, held in gpus.items()
    )
