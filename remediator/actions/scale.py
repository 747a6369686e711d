"""Implement the action that changes the number of replicas of a workload."""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import TargetKind
from fleetmedic.wording.counts import counted
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class Scale(Action):
    """The action `scale`.

    It is done when the cluster has accepted the new number; the new replicas may not be ready yet.
    """

    spec: ActionSpec = ActionSpec(
        "scale",
        Effect.SCALES,
        Level.REPAIR,
        frozenset({TargetKind.WORKLOAD}),
        would="scale the workload",
        did="scaled {on} to {replicas}",
        capability=Capability.SCALE,
        reversible=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        found = await tools.cluster.workload(step.target.name)
        if found is None:
            return Observation(True, f"{step.target} no longer exists.", ok=False)
        wanted = step.replicas or 0
        scales_in = tools.playbook.scale is not None and tools.playbook.scale.step < 0
        # Somebody may have scaled further meanwhile: a scale-out removes no replica, a scale-in adds none.
        if found.wanted <= wanted if scales_in else found.wanted >= wanted:
            return Observation(True, ready_text(step.target.name, found.ready, found.wanted))
        size = counted(found.wanted, "replica")
        return Observation(False, f"{step.target.name} is still set to {size}.")

    async def act(self, step: Step, tools: Tools) -> None:
        replicas = step.replicas or 0
        await effect(tools.cluster.scale(step.target.name, replicas, op_id=step.op_id))


def ready_text(name: str, ready: int, wanted: int) -> str:
    """Return how many replicas are ready. After a scale-in, more can be ready than wanted."""
    if ready > wanted:
        return f"{name} has {counted(ready, 'ready replica')}, and needs only {wanted}."
    return f"{name} has {ready} of {counted(wanted, 'replica')} ready."
