"""Implement the action that resets a GPU.

The action `verify` checks later whether the reset repaired the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Observation, Tools
from remediator.core.model import Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class ResetGpu:
    """The action `reset_gpu`."""

    name: str = "reset_gpu"
    disruptive: bool = True

    async def observe(self, step: Step, tools: Tools) -> Observation:
        if await tools.cluster.reset_seen(step.target, op_id=step.op_id):
            return Observation(True, f"{step.target} was reset.")
        return Observation(False, f"{step.target} was not reset yet.")

    async def act(self, step: Step, tools: Tools) -> None:
        await effect(tools.cluster.reset_gpu(step.target, op_id=step.op_id))
