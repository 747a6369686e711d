"""Prove health: the active test passes so often in a row, and metrics taken since say healthy.

Alerts are not asked: they outlive cures. Unknown is neither healthy nor sick.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Look, Tools
from remediator.core.model import Step
from remediator.core.plan import OPINION
from remediator.senses import Health


@dataclass(frozen=True, slots=True)
class Verify:
    """`verify`. It changes nothing that lasts, so it may be run again at will."""

    name: str = "verify"
    disruptive: bool = False

    async def observe(self, step: Step, tools: Tools) -> Look:
        plan = tools.playbook.verify
        if step.id == OPINION and tools.heard():
            return Look(True, "Another witness came before the test could tell.", ok=False)
        said: list[str] = []
        if "metrics" in plan.tests:
            repaired = tools.incident.repaired_at
            since = repaired or tools.incident.opened
            health = await tools.senses.health(step.target, since, settles=repaired is not None)
            if health.state is not Health.HEALTHY:
                sick = health.state is Health.SICK
                # After a repair a device has until the deadline to come back; an opinion does not wait.
                over = sick and step.id == OPINION
                return Look(over, health.text, ok=False, passed=False if sick else None)
            said.append(health.text)
        if "probe" in plan.tests:
            for number in range(plan.passes):
                result = await tools.cluster.probe(step.target)
                if not result.passed:
                    return Look(True, result.text, ok=False, passed=False)
                if number == plan.passes - 1:
                    said.append(f"Test passed {plan.passes} times: {result.text}")
        return Look(True, " ".join(said), passed=True)

    async def act(self, step: Step, tools: Tools) -> None:
        """Nothing to do: testing is looking."""
