"""Prove health: the active test passes so often in a row, and metrics taken since say healthy.

Alerts are not asked: they outlive cures. Unknown is neither healthy nor sick.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from remediator.actions.base import Look, Tools
from remediator.core.model import Step
from remediator.core.plan import OPINION, WATCH
from remediator.health import Health


@dataclass(frozen=True, slots=True)
class Verify:
    """`verify`. It changes nothing that lasts, so it may be run again at will."""

    name: str = "verify"
    disruptive: bool = False
    _healthy_since: dict[str, float] = field(default_factory=dict)

    async def observe(self, step: Step, tools: Tools) -> Look:
        plan = tools.playbook.verify
        if step.id == WATCH:
            return await self._watched(step, tools)
        if step.id == OPINION and tools.heard():
            text = "Another independent signal came before the test could tell."
            return Look(True, text, ok=False)
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

    async def _watched(self, step: Step, tools: Tools) -> Look:
        """Metrics stay healthy for a while, and no alert names the target: jobs run on it, or no test can
        be made. What is not healthy begins the while again."""
        if tools.accused():
            self._healthy_since.pop(step.op_id, None)
            return Look(True, f"An alert on {step.target} fires again.", ok=False)
        health = await tools.senses.health(step.target, tools.incident.opened, settles=False)
        quiet = await tools.senses.quiet(step.target)
        if health.state is not Health.HEALTHY or quiet is not True:
            self._healthy_since.pop(step.op_id, None)
            named = f"An alert still names {step.target}, or Alertmanager's answer is not complete."
            return Look(False, health.text if quiet else named, ok=False)
        since = self._healthy_since.setdefault(step.op_id, time.monotonic())
        if time.monotonic() - since < tools.watch:
            return Look(False, f"{health.text} They must stay so for {tools.watch:g} s.", ok=False)
        del self._healthy_since[step.op_id]
        text = f"{health.text} They stayed so for {tools.watch:g} s, and no alert names it."
        return Look(True, text, passed=True)

    async def act(self, step: Step, tools: Tools) -> None:
        """Nothing to do: testing is looking."""
