"""Implement the action that releases the targets that the incident quarantined."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import HARDWARE, ActionSpec, Effect, Level
from remediator.core.model import OWNER, Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class ReleaseTarget(Action):
    """The action `release`."""

    spec: ActionSpec = ActionSpec(
        "release",
        Effect.RELEASES,
        Level.QUARANTINE,
        HARDWARE,
        would="re-admit it after probation",
        did="returned {on} to service",
        reversible=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        kept = [str(target) for target in step.also if await _ours(target, tools)]
        if kept:
            return Observation(False, f"Not released yet: {', '.join(kept)}.")
        return Observation(
            True, f"Back in service: {', '.join(map(str, step.also)) or step.target}."
        )

    async def act(self, step: Step, tools: Tools) -> None:
        for number, target in enumerate(step.also):
            if await _ours(target, tools):
                op_id = f"{step.op_id}-{number}"
                await effect(tools.cluster.release(target, op_id=op_id, owner=OWNER))


async def _ours(target: Target, tools: Tools) -> bool:
    held = await tools.cluster.quarantined(target)
    return held is not None and held.owner == OWNER
