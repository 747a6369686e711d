"""Implement the actions that quarantine a GPU or a node, so that the target gets no new jobs.

Running jobs continue. Quarantines by other users or programs are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleetmedic.kernel.errors import shortened
from fleetmedic.kernel.labels import TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import ActionSpec, Capability, Effect, Level
from remediator.core.model import OWNER, Step
from remediator.crash_points import effect

GPU = ActionSpec(
    "quarantine_gpu",
    Effect.QUARANTINES,
    Level.QUARANTINE,
    frozenset({TargetKind.GPU}),
    would="quarantine the GPU",
    did="quarantined {on}",
    capability=Capability.GPU_QUARANTINE,
    reversible=True,
)
NODE = replace(
    GPU,
    name="quarantine_node",
    targets=frozenset({TargetKind.NODE}),
    would="quarantine the node",
    capability=None,
)


@dataclass(frozen=True, slots=True)
class QuarantineTarget(Action):
    """The actions `quarantine_gpu` and `quarantine_node`."""

    spec: ActionSpec

    async def observe(self, step: Step, tools: Tools) -> Observation:
        held = await tools.cluster.quarantined(step.target)
        if held is not None and held.owner == OWNER:
            return Observation(True, f"{step.target} is quarantined and gets no new jobs.")
        return Observation(False, f"{step.target} is not quarantined yet.")

    async def act(self, step: Step, tools: Tools) -> None:
        names = ", ".join(sorted({one.shown_name for one in tools.incident.alerts}))
        reason = shortened(f"{tools.incident.id}: {names} on {tools.incident.target}", 300)
        call = tools.cluster.quarantine(step.target, op_id=step.op_id, owner=OWNER, reason=reason)
        await effect(call)
