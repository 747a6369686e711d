"""Implement the action that verifies whether a target is healthy.

The active test must pass several times in a row, and the metrics since the repair must be healthy.
Alerts are not used, because they continue to fire for some time after a repair. An unknown result
counts neither as healthy nor as unhealthy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fleetmedic.kernel.clock import monotonic
from fleetmedic.wording.counts import counted
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import HARDWARE, ActionSpec, Capability, Effect, Level
from remediator.core.model import Step
from remediator.core.plan import METRICS, OPINION, WATCH
from remediator.health import Health


@dataclass(frozen=True, slots=True)
class Verify(Action):
    """The action `verify`. It changes nothing permanently, so it can be repeated."""

    spec: ActionSpec = ActionSpec(
        "verify",
        Effect.VERIFIES,
        Level.QUARANTINE,
        HARDWARE,
        would="test it",
        did="tested {on}",
        capability=Capability.PROBE,
    )
    _healthy_since: dict[str, float] = field(default_factory=dict)

    async def observe(self, step: Step, tools: Tools) -> Observation:
        plan = tools.playbook.verify
        if step.id == WATCH:
            return await self._observe_metrics(step, tools)
        if step.id == METRICS:
            return await self._observe_by_metrics(step, tools)
        if step.id == OPINION and tools.other_signal():
            text = "Another independent signal arrived before the test had a result."
            return Observation(True, text, ok=False)
        said: list[str] = []
        if "metrics" in plan.tests:
            repaired = tools.incident.repaired_at
            since = repaired or tools.incident.opened
            health = await tools.senses.health(step.target, since, settles=repaired is not None)
            if health.state is not Health.HEALTHY:
                sick = health.state is Health.SICK
                # After a repair, a device has until the deadline to return; a second opinion does not wait.
                over = sick and step.id == OPINION
                return Observation(over, health.text, ok=False, passed=False if sick else None)
            said.append(health.text)
        if "probe" in plan.tests:
            for number in range(plan.passes):
                # Somebody may have returned the target to service since the step was announced.
                if any(job.running for job in await tools.cluster.jobs_on(step.target)):
                    text = f"Jobs run on {step.target}, so it is not tested under load."
                    return Observation(True, text, ok=False)
                result = await tools.cluster.probe(step.target)
                if not result.passed:
                    return Observation(True, result.text, ok=False, passed=False)
                if number == plan.passes - 1:
                    said.append(f"Test passed {counted(plan.passes, 'time')}: {result.text}")
        return Observation(True, " ".join(said), passed=True)

    async def _observe_metrics(self, step: Step, tools: Tools) -> Observation:
        """Check whether metrics stay healthy for `watch` seconds while no alert names the target.

        Used if jobs run on the target or no active test is possible. Each unhealthy result restarts the wait.
        """
        if tools.alert_active():
            self._healthy_since.pop(step.op_id, None)
            return Observation(True, f"An alert on {step.target} is firing again.", ok=False)
        health = await tools.senses.health(step.target, tools.incident.opened, settles=False)
        quiet = await tools.senses.quiet(step.target)
        if health.state is not Health.HEALTHY or quiet is not True:
            self._healthy_since.pop(step.op_id, None)
            named = f"An alert still names {step.target}, or Alertmanager's response is incomplete."
            return Observation(False, health.text if quiet else named, ok=False)
        return self._healthy_for(step, tools, health.text, ", and no alert names the target")

    async def _observe_by_metrics(self, step: Step, tools: Tools) -> Observation:
        """Check whether metrics stay healthy for `watch` seconds, because no load test is possible.

        A repaired device has until the playbook's deadline to return. Then unhealthy metrics are a failed test.
        """
        repaired = tools.incident.repaired_at
        since = repaired or tools.incident.opened
        health = await tools.senses.health(step.target, since, settles=repaired is not None)
        if health.state is Health.HEALTHY:
            return self._healthy_for(step, tools, health.text)
        self._healthy_since.pop(step.op_id, None)
        sick = health.state is Health.SICK
        over = sick and tools.waited() >= tools.playbook.verify.deadline
        return Observation(over, health.text, ok=False, passed=False if sick else None)

    def _healthy_for(self, step: Step, tools: Tools, said: str, also: str = "") -> Observation:
        """Return the observation of healthy metrics: passed when they stayed healthy for `watch` seconds."""
        since = self._healthy_since.setdefault(step.op_id, monotonic())
        if monotonic() - since < tools.watch:
            text = f"{said} They must stay healthy for {tools.watch:g} s."
            return Observation(False, text, ok=False)
        del self._healthy_since[step.op_id]
        return Observation(
            True, f"{said} They stayed healthy for {tools.watch:g} s{also}.", passed=True
        )

    async def act(self, step: Step, tools: Tools) -> None:
        """Do nothing here, because `observe` runs the tests."""
