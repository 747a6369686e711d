"""Implement the action that resets a GPU.

The action `verify` checks later whether the reset repaired the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class ResetGpu(Action):
    """The action `reset_gpu`."""

    spec: ActionSpec = ActionSpec(
        "reset_gpu",
        Effect.REPAIRS,
        Level.REPAIR,
        frozenset({TargetKind.GPU}),
        would="reset the GPU",
        did="reset {on}",
        capability=Capability.GPU_RESET,
        disruptive=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        if await tools.cluster.reset_seen(step.target, op_id=step.op_id):
            return Observation(True, f"{step.target} was reset.")
        return Observation(False, f"{step.target} was not reset yet.")

    async def act(self, step: Step, tools: Tools) -> None:
        await effect(tools.cluster.reset_gpu(step.target, op_id=step.op_id))
