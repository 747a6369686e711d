"""Run one announced step: observe, act, and observe until the effect is present or the deadline has passed.

The step is already durable in the journal. Every action is idempotent by its operation id. Even so, the
effect is checked before an action is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.registry import Registry
from remediator.actions.base import Action, Observation, Tools
from remediator.clusters.base import ClusterError
from remediator.core.action import Effect
from remediator.core.events import Event, Kind, noted, notified, step_event
from remediator.core.model import Incident, Step, StepRun
from remediator.core.reasons import Reason
from remediator.messages import incident_body, occasion_of

log = structlog.get_logger("remediator")
FIRST_LOOK_AFTER = 0.02
SLOWEST_LOOK = 0.5
GRACE_AFTER_RESTART = 10.0


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The result of a step: done, failed or withdrawn, with the reason and a description."""

    kind: Kind
    reason: Reason
    text: str
    passed: bool | None = None


class Executor:
    """Runs steps, and limits how many disruptive steps of each type run at the same time."""

    def __init__(
        self,
        registry: Registry[Action],
        *,
        disruptive_at_once: int,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._registry = registry
        # A limit per kind, so that hanging reboots do not delay restarts of jobs.
        self._slots = {
            action.name: asyncio.Semaphore(disruptive_at_once)
            for action in registry
            if action.spec.disruptive
        }
        self._one_at_a_time = asyncio.Lock()
        self._now = now

    async def run(self, run: StepRun, tools: Tools, *, resumed: bool) -> StepOutcome:
        """Run an announced step and return its result. `resumed`: an earlier process may have started it."""
        action = self._registry.get(run.step.action)
        if not action.spec.disruptive:
            return await self._carry_out(action, run, tools, resumed=resumed)
        async with contextlib.AsyncExitStack() as held:
            if tools.one_at_a_time():
                await held.enter_async_context(self._one_at_a_time)
            await held.enter_async_context(self._slots[action.name])
            return await self._carry_out(action, run, tools, resumed=resumed)

    async def _carry_out(
        self, action: Action, run: StepRun, tools: Tools, *, resumed: bool
    ) -> StepOutcome:
        step = run.step
        # The deadline starts here, not when the step is written to the journal: the wait for a slot does not count.
        begun = self._now()
        tools = replace(tools, waited=lambda: self._now() - begun)
        deadline = begun + (max(step.deadline, GRACE_AFTER_RESTART) if resumed else step.deadline)
        pause = FIRST_LOOK_AFTER
        acted = False
        while True:
            look = await self._look(action, step, tools)
            if isinstance(look, Observation) and look.over:
                return _seen(look)
            if isinstance(look, ClusterError) and not look.transient:
                return self._blind(action, look, began=acted or resumed)
            if isinstance(look, Observation) and not acted:
                # A step that another process may have started is not withdrawn at once.
                grace = deadline if step.effect is Effect.REPAIRS else begun + GRACE_AFTER_RESTART
                against = await self._against(step, tools, resumed and self._now() < grace)
                if isinstance(against, StepOutcome):
                    return against
                if not against:
                    refused = await self._act(action, step, tools)
                    acted = refused is None
                    if refused is not None and not refused.transient:
                        return await self._refused(action, step, tools, refused)
                    if acted:
                        continue
            if self._now() >= deadline:
                return self._overdue(action, look, began=acted or resumed)
            await asyncio.sleep(min(pause, max(0.0, deadline - self._now())))
            pause = min(pause * 1.5, SLOWEST_LOOK)

    async def _against(self, step: Step, tools: Tools, wait: bool) -> StepOutcome | bool:
        """Return whether the guards block a step, right before its action.

        False: the step is allowed. True: the step is blocked, but `wait` is set, so its effect is
        only observed. A StepOutcome: the step is withdrawn.
        """
        if step.effect is Effect.NOTIFIES:
            return False
        verdict = await tools.confirm(step)
        if verdict.allows:
            return False
        if wait:
            return True
        return StepOutcome(Kind.STEP_WITHDRAWN, verdict.reason, verdict.text)

    async def _refused(
        self, action: Action, step: Step, tools: Tools, refused: ClusterError
    ) -> StepOutcome:
        """Return the result after a failed call to the cluster.

        The effect is observed once more, because the call may have had its effect.
        """
        again = await self._look(action, step, tools)
        if isinstance(again, Observation) and again.over:
            return _seen(again)
        return StepOutcome(Kind.STEP_FAILED, Reason.STEP_REFUSED, str(refused))

    async def _look(self, action: Action, step: Step, tools: Tools) -> Observation | ClusterError:
        try:
            return await action.observe(step, tools)
        except ClusterError as error:
            return error

    async def _act(self, action: Action, step: Step, tools: Tools) -> ClusterError | None:
        try:
            await action.act(step, tools)
        except ClusterError as error:
            log.warning("step_refused", step=step.id, on=str(step.target), error=str(error))
            return error
        finally:
            tools.acted()
        return None

    def _blind(self, action: Action, error: ClusterError, *, began: bool) -> StepOutcome:
        """Return the result of a step whose effect cannot be observed.

        If a disruptive step may have started, an operator must check.
        """
        unknown = action.spec.disruptive and began
        reason = Reason.EFFECT_UNKNOWN if unknown else Reason.STEP_REFUSED
        return StepOutcome(Kind.STEP_FAILED, reason, str(error))

    def _overdue(
        self, action: Action, look: Observation | ClusterError, *, began: bool
    ) -> StepOutcome:
        if isinstance(look, ClusterError):
            return self._blind(action, look, began=began)
        return StepOutcome(Kind.STEP_FAILED, Reason.EFFECT_MISSING, look.text, look.passed)


def _seen(look: Observation) -> StepOutcome:
    if look.ok:
        return StepOutcome(Kind.STEP_DONE, Reason.EFFECT_SEEN, look.text, look.passed)
    failed = Reason.NOT_HEALED if look.passed is False else Reason.STEP_REFUSED
    return StepOutcome(Kind.STEP_FAILED, failed, look.text, look.passed)


def outcome_events(
    incident: Incident,
    step: Step,
    outcome: StepOutcome,
    now: float,
    refusal: str | None = None,
) -> tuple[Event, ...]:
    """Return the events for the result of a step.

    The end of a `notify` step and its message are recorded together. The message contains `refusal`, the
    reason why this remediator may take no action.
    """
    ended = step_event(
        outcome.kind, incident, step, now, outcome.reason, outcome.text, passed=outcome.passed
    )
    if outcome.kind is not Kind.STEP_DONE:
        return (ended,)
    if step.effect is Effect.VERIFIES:
        text = outcome.text
        return (ended, noted(Kind.VERIFIED, incident, now, Reason.VERIFIED, text, passed=True))
    if step.effect is Effect.NOTIFIES:
        occasion = occasion_of(step)
        body = incident_body(incident, occasion, step.op_id, refusal)
        return (ended, notified(now, step.op_id, body, incident=incident, occasion=occasion))
    return (ended,)
