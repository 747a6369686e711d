"""The engine: runs one task per target, which gathers facts, decides, records the decision and acts.

No action starts before its event is durable in the journal. Only durable events change the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.base import Tools
from remediator.core import events, step_guards
from remediator.core.action import Effect
from remediator.core.decision import Case
from remediator.core.events import Event, Kind
from remediator.core.guards import Verdict
from remediator.core.instruments import adds_signal
from remediator.core.journal_state import JournalState
from remediator.core.lifecycle import IllegalTransition
from remediator.core.model import Alert, Incident, IncidentState, Playbook, Step, StepRun
from remediator.core.reasons import Reason
from remediator.core.routing import Route, absorbable, holder, last_repaired_at
from remediator.core.settle import (
    Settled,
    admit,
    ended_with,
    hand_over,
    settle,
    widen,
)
from remediator.engine_context import EngineContext, EventAppender
from remediator.executor import outcome_events
from remediator.incident_orders import IncidentOrders
from remediator.lanes import ASK_AGAIN, Lanes, LaneWork
from remediator.notices import group_notice, lane_failed, orphaned
from remediator.policy import Policy, unconfigured
from remediator.readmission import has_new_reason
from remediator.storms import Storms
from remediator.turns import Pace, Turns, Urgency
from remediator.withheld import WithheldAlerts

DECISION_LOCKS = 64
# The longest wait (seconds) of an incident that waits for an event, without one.
SLOWEST_IDLE = 600.0
# How many decisions are made at the same time. Most of a decision is CPU time of one thread.
TURNS = 16
# How many incidents on hold decide again in a second. With more of them, each decides less often.
HELD_RATE = 60.0
# A payload of thousands of alerts is stored in parts, so that other requests are answered meanwhile.
PART = 200
# The states that use budget: gathering facts and announcing a step must not interleave between incidents.
SPENDING = frozenset(
    {IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD, IncidentState.REPAIRING}
)


class Engine:
    """Runs all incidents. Each target has its own task, so that targets are handled concurrently."""

    def __init__(
        self, policy: Policy, state: JournalState, journal: EventAppender, context: EngineContext
    ) -> None:
        self._policy = policy
        self._state = state
        self._journal = journal
        self._context = context
        self._lanes = Lanes(
            LaneWork(self._admit, self._advance, context.lane_failed, self._give_up)
        )
        self._budget = asyncio.Lock()
        self._decision_locks = tuple(asyncio.Lock() for _ in range(DECISION_LOCKS))
        self._turns = Turns(TURNS)
        self._held_pace = Pace(HELD_RATE)
        self._announced: set[str] = set()
        self.storms = Storms(policy.limits, state, journal, context)
        self.withheld = WithheldAlerts(policy, state, journal, context)
        self.incident_orders = IncidentOrders(
            policy.playbook,
            state,
            journal,
            context,
            self._lanes.wake,
            self._decision_lock,
            policy.limits.pin,
        )

    def start(self) -> None:
        """Continue where an earlier process stopped: with undecided alerts and open incidents."""
        for alert in self._state.undecided():
            self._dispatch(alert, self._policy.route(alert))
        for incident in self._state.open_incidents():
            self._lanes.wake(incident.target)

    async def close(self) -> None:
        """Stop the tasks of all targets. The next process checks the effect of announced steps."""
        await self._lanes.close()

    def now(self) -> float:
        """Return the current time (Unix seconds)."""
        return self._context.now()

    def wake_all(self) -> None:
        """Start a new decision for every open incident now."""
        for incident in self._state.open_incidents():
            self._lanes.wake(incident.target)

    def playbook(self, name: str) -> Playbook | None:
        """Return the playbook of that name, or None if it is no longer configured."""
        return self._policy.playbook(name)

    async def receive(self, alerts: Sequence[Alert], source: str) -> int:
        """Store received alerts durably, then handle them. Returns the number of new alerts.

        Raises JournalDown.
        """
        parts = (alerts[at : at + PART] for at in range(0, len(alerts), PART))
        return sum([await self._receive_part(part, source) for part in parts])

    async def _receive_part(self, alerts: Sequence[Alert], source: str) -> int:
        now = self._context.now()
        news: list[tuple[Alert, Route]] = []
        written: list[Event] = []
        statuses: dict[str, bool] = {}
        for alert in alerts:
            found = self._policy.route(alert)
            if found.reason is Reason.DEAD_MAN_SIGNAL and alert.firing:
                self._context.senses.record_watchdog()
            key = alert.key  # one payload may contain it twice
            if statuses.get(key, self._state.status(key)) is alert.firing:
                continue
            statuses[key] = alert.firing
            news.append((alert, found))
            leads_nowhere = alert.firing and (found.playbook is None or found.target is None)
            ignored = (found.reason, found.text) if leads_nowhere else None
            written.append(events.alert_received(alert, found.target, now, source, ignored))
        await self._journal.append(written)
        for alert, found in news:
            self._dispatch(alert, found)
        return len(news)

    async def reconsider(self, alerts: Iterable[Alert]) -> None:
        """Handle already handled alerts again if there is a new reason, such as a new event."""
        context, terms = self._context, self._policy.terms
        for alert in alerts:
            found = self._policy.route(alert)
            if found.target is not None and await has_new_reason(
                alert, found.target, self._state, context, terms
            ):
                self._dispatch(alert, found)

    async def pause(self, by: str, why: str) -> None:
        """Pause all actions, and record the pause in the journal."""
        await self._journal.append((events.paused(by, why, self._context.now()),))
        self.wake_all()

    async def resume(self, by: str) -> None:
        """Resume all actions, and record the end of the pause in the journal."""
        # Changes during the pause, such as a silence, must be known before actions resume.
        await self._context.senses.refresh()
        await self._journal.append((events.resumed(by, self._context.now()),))
        self.wake_all()

    def _dispatch(self, alert: Alert, found: Route) -> None:
        """Pass a received alert to the task of its target."""
        if found.playbook is None or found.target is None:
            return
        if alert.firing:
            self._lanes.put(found.target, alert)
        elif concerned := holder(found.target, self._state):
            self._lanes.wake(concerned.target)

    async def _give_up(self, target: Target, waiting: Alert | None, text: str) -> None:
        """Record the third internal error in a row: drop the waiting alert, or escalate the incident."""
        now = self._context.now()
        await self._journal.append(lane_failed(target, waiting, self._state, text, now))

    async def _admit(self, alert: Alert, target: Target) -> None:
        """Handle one alert: add it to an incident, suppress it, or open an incident."""
        async with self._turns.turn(_urgency(self._policy.route(alert).playbook)):
            await self._admit_now(alert, target)

    async def _admit_now(self, alert: Alert, target: Target) -> None:
        found = self._policy.route(alert)
        if found.playbook is None:
            return
        now = self._context.now()
        dated = last_repaired_at(target, self._state) > 0 or ended_with(alert, self._state)
        event_at = await self._context.senses.event_at(alert, target) if dated else None
        since = await self._context.senses.active_since(alert) if dated else None
        async with self._decision_lock(target):
            written = admit(
                alert,
                target,
                found.playbook,
                self._state,
                now,
                self._policy.terms,
                event_at=event_at,
                active_since=since,
            )
            await self._journal.append(written)
        if (concerned := holder(target, self._state)) and concerned.target != target:
            self._lanes.wake(concerned.target)
        self._wake_gpu_targets(target)

    async def _advance(self, target: Target) -> float | None:
        """Make one decision about the target's incident.

        Returns the seconds until the next one; None without incident.
        """
        incident = self._state.incident_on(target)
        if incident is None:
            return None
        playbook = self._policy.playbook(incident.playbook)
        if playbook is None:
            return await self._orphaned(incident)
        return await self._continue_incident(incident, playbook)

    async def _continue_incident(self, incident: Incident, playbook: Playbook) -> float:
        target = incident.target
        if (run := incident.prepared) is not None:
            return await self._execute(incident, playbook, run)
        async with self._decision_lock(target):
            handed = hand_over(incident, self._state, self._context.now())
            await self._journal.append(handed)
        if handed:
            self._lanes.wake(Target(TargetKind.NODE, target.name))
            return 0.0
        if incident.state is IncidentState.HELD:
            await self._held_pace.wait()
            pause = await self._decide(incident, playbook)
        else:
            async with self._turns.turn(_urgency(playbook, incident)):
                pause = await self._decide(incident, playbook)
        if pause is not None:
            return pause
        # Waiting for the budget takes no turn from others.
        async with self._budget, self._turns.turn(Urgency.IN_PROGRESS):
            return await self._decide(incident, playbook, may_spend=True) or 0.0

    async def _decide(
        self, incident: Incident, playbook: Playbook, *, may_spend: bool = False
    ) -> float | None:
        """Make and record a decision about an incident. Returns the seconds until the next decision.

        Without `may_spend`, a step that uses budget is not recorded, and the result is None.
        """
        facts = await self._context.senses.facts(incident, playbook)
        self._context.evaluated()
        if facts.stops.storm and facts.pool.name not in self._state.storms and facts.pool.name:
            await self.storms.begin(facts.pool.name, facts.stops.storm)
        async with self._decision_lock(incident.target):
            now = self._context.now()
            incident = self._state.incidents[incident.id]
            if incident.ended:
                return 0.0
            settled = settle(
                Case(incident, playbook, facts, self._policy.limits, now, self._policy.actions)
            )
            if not may_spend and incident.state in SPENDING and _spends(settled):
                return None
            if settled.widen is not None:
                await self._widen(incident, settled)
                return 0.0
            if settled.step is not None:
                self._announced.add(settled.step.op_id)
            notice = group_notice(incident, settled, self._state, self._policy.limits, now)
            await self._append((*settled.events, *notice))
            if settled.again and self._state.incidents[incident.id] == incident:
                raise IllegalTransition(
                    f"the decision for {incident.id} does not change its state {incident.state}"
                )
        if settled.step is not None or settled.again:
            return 0.0
        # The reconciler wakes every incident, so a long wait without an end needs fewer decisions.
        idle = min(SLOWEST_IDLE, max(self._policy.idle, (now - incident.since) / 4))
        if settled.wake_at is None:
            return idle
        return min(idle, max(0.01, settled.wake_at - self._context.now()))

    async def _append(self, written: Sequence[Event]) -> None:
        """Record events, and wake the incidents that wait for the budget if a target returned to service."""
        before = len(self._state.taking)
        await self._journal.append(written)
        if len(self._state.taking) >= before:
            return
        for one in self._state.open_incidents():
            if one.held in (Reason.BUDGET_OUT, Reason.BUDGET_NEW):
                self._lanes.wake(one.target)

    async def _widen(self, incident: Incident, settled: Settled) -> None:
        playbook = self._policy.playbook(incident.playbook)
        wider = self._policy.playbook(playbook.widen_to or "") if playbook else None
        if wider is None or settled.widen is None:
            return
        written = widen(
            incident, settled.widen, wider, self._state, self._context.now(), self._policy.terms
        )
        await self._journal.append(written)
        node = Target(TargetKind.NODE, incident.target.name)
        self._lanes.wake(node)
        self._wake_gpu_targets(node)

    def _wake_gpu_targets(self, target: Target) -> None:
        """Wake the tasks of a node's GPUs, so that each hands its incident over to the node's incident."""
        if target.kind is TargetKind.NODE and self._state.incident_on(target) is not None:
            for incident in absorbable(target, self._state):
                self._lanes.wake(incident.target)

    async def _execute(self, incident: Incident, playbook: Playbook, run: StepRun) -> float:
        resumed = run.step.op_id not in self._announced
        context = self._context
        tools = Tools(
            context.cluster,
            context.senses,
            incident,
            playbook,
            confirm=lambda step: self._confirm(incident.id, playbook, step),
            other_signal=lambda: self._has_other_signal(incident),
            alert_active=lambda: context.senses.has_active_alert(
                self._state.incidents[incident.id], playbook
            ),
            one_at_a_time=self.storms.ended_lately,
            acted=context.senses.cluster_changed,
            watch=self._policy.limits.watch,
            addresses=context.addresses,
        )
        outcome = await context.executor.run(run, tools, resumed=resumed)
        current = self._state.incidents[incident.id]
        refusal = context.senses.refusal()
        written = outcome_events(current, run.step, outcome, context.now(), refusal)
        await self._append(written)
        self._announced.discard(run.step.op_id)
        return ASK_AGAIN if outcome.kind is Kind.STEP_WITHDRAWN else 0.0

    async def _confirm(self, identity: str, playbook: Playbook, step: Step) -> Verdict:
        """Check the guards right before a step, with new facts if the step is disruptive."""
        incident, senses = self._state.incidents[identity], self._context.senses
        actions = self._policy.actions
        if step_guards.needs_facts(actions.named(step.action), playbook, incident.state):
            facts = await senses.facts(incident, playbook, fresh=True)
            stopped = senses.stopped(incident)
            stops = stopped.stops
            if stopped.paused or stops.other_installation or stops.clock:
                facts = stopped  # it has begun while the facts were gathered
        else:
            facts = senses.stopped(incident)
        now = self._context.now()
        case = Case(incident, playbook, facts, self._policy.limits, now, actions)
        return step_guards.right_before(case, step)

    def _decision_lock(self, target: Target) -> asyncio.Lock:
        """Return the lock to hold until a decision is recorded. A node shares it with its GPUs."""
        return self._decision_locks[hash(target.name) % DECISION_LOCKS]

    def _has_other_signal(self, incident: Incident) -> bool:
        """Return whether a queued alert would be an additional independent signal for the incident."""
        now = self._context.now()
        queued = [events.episode_of(alert, now) for alert in self._lanes.queued(incident.target)]
        return adds_signal(incident.alerts, queued)

    async def _orphaned(self, incident: Incident) -> float:
        """Escalate an incident without a configured playbook. A release order is still carried out."""
        if incident.released is not None or (
            incident.prepared is not None and incident.prepared.step.effect is Effect.RELEASES
        ):
            return await self._continue_incident(incident, unconfigured(incident))
        if incident.reason is Reason.PLAYBOOK_GONE:
            return self._policy.idle
        written = orphaned(incident, self._state, self._context.now())
        await self._journal.append(written)
        return self._policy.idle


def _urgency(playbook: Playbook | None, incident: Incident | None = None) -> Urgency:
    if playbook is None or playbook.notify_only:
        return Urgency.NOTIFY_ONLY
    begun = incident is not None and incident.state not in (
        IncidentState.NEW,
        IncidentState.TRIAGED,
    )
    return Urgency.IN_PROGRESS if begun else Urgency.NEW


def _spends(settled: Settled) -> bool:
    """Return whether a decision may use budget: by a step, or by the record of one at level observe.

    A notification uses none.
    """
    step = settled.step
    planned = any(event.kind is Kind.WOULD_DO for event in settled.events)
    return planned or (step is not None and step.effect is not Effect.NOTIFIES)
