"""Prove health: the active test passes so often in a row, and metrics taken since say healthy.

Alerts are not asked: they outlive cures. Unknown is neither healthy nor sick.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Look, Tools
from remediator.core.model import Step
from remediator.senses import Health


@dataclass(frozen=True, slots=True)
class Verify:
    """`verify`. It changes nothing that lasts, so it may be run again at will."""

    name: str = "verify"
    disruptive: bool = False

    async def observe(self, step: Step, tools: Tools) -> Look:
        plan = tools.playbook.verify
        text = "No test was asked for."
        if "metrics" in plan.tests:
            since = tools.incident.repaired_at or tools.incident.opened
            health = await tools.senses.health(step.target, since)
            text = health.text
            if health.state is Health.UNKNOWN:
                return Look(False, text, ok=False, passed=None)
            if health.state is Health.SICK:
                return Look(False, text, ok=False, passed=False)
        if "probe" in plan.tests:
            for _ in range(plan.passes):
                result = await tools.cluster.probe(step.target)
                text = f"{result.text} {text}" if "metrics" in plan.tests else result.text
                if not result.passed:
                    return Look(True, result.text, ok=False, passed=False)
        return Look(True, text, passed=True)

    async def act(self, step: Step, tools: Tools) -> None:
        """Nothing to do: testing is looking."""
