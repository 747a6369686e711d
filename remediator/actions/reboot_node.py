"""Implement the action that reboots a node.

The action `verify` checks later whether the reboot repaired the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import HARDWARE, ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.crash_points import effect


@dataclass(frozen=True, slots=True)
class RebootNode(Action):
    """The action `reboot_node`."""

    spec: ActionSpec = ActionSpec(
        "reboot_node",
        Effect.REPAIRS,
        Level.REPAIR,
        HARDWARE,
        would="reboot the node",
        did="rebooted {on}",
        capability=Capability.REBOOT,
        whole_node=True,
        disruptive=True,
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        if await tools.cluster.reboot_seen(step.target, op_id=step.op_id):
            return Observation(True, f"{step.target} has finished its reboot.")
        return Observation(False, f"{step.target} has not finished its reboot yet.")

    async def act(self, step: Step, tools: Tools) -> None:
        await effect(tools.cluster.reboot_node(step.target, op_id=step.op_id))
