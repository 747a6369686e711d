"""Give a workload another number of replicas."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Look, Tools
from remediator.core.model import Step
from remediator.effects import effect


@dataclass(frozen=True, slots=True)
class Scale:
    """`scale`. Over when the cluster has taken the new size; becoming ready is its own affair."""

    name: str = "scale"
    disruptive: bool = False

    async def observe(self, step: Step, tools: Tools) -> Look:
        found = await tools.cluster.workload(step.target.name)
        if found is None:
            return Look(True, f"{step.target} is gone.", ok=False)
        if found.wanted == step.replicas:
            return Look(True, f"{step.target.name} has {found.ready} of {found.wanted} replicas.")
        return Look(False, f"{step.target.name} still wants {found.wanted} replicas.")

    async def act(self, step: Step, tools: Tools) -> None:
        replicas = step.replicas or 0
        await effect(tools.cluster.scale(step.target.name, replicas, op_id=step.op_id))
