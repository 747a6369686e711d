"""The engine: runs one task per target, which gathers facts, decides, records the decision and
acts.

No action starts before its event is durable in the journal. Only durable events change the state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.base import Tools
from remediator.core import events, step_guards
from remediator.core.decision import Case
from remediator.core.events import Event, Kind
from remediator.core.evidence import Evidence
from remediator.core.guards import Verdict
from remediator.core.instruments import EVENTS, instrument
from remediator.core.journal_state import JournalState
from remediator.core.lifecycle import IllegalTransition
from remediator.core.model import Alert, Incident, IncidentState, Playbook, Step, StepRun, op_id
from remediator.core.reasons import Reason
from remediator.core.routing import Route, absorbable, holder, last_repaired_at
from remediator.core.settle import (
    Settled,
    admit,
    ended_with,
    hand_over,
    renewed,
    settle,
    unattended,
    widen,
)
from remediator.engine_context import EngineContext, EventAppender
from remediator.executor import outcome_events
from remediator.incident_orders import IncidentOrders
from remediator.journal import JournalDown
from remediator.messages import incident_body
from remediator.notices import group_notice, lane_failed
from remediator.policy import Policy, unconfigured
from remediator.storms import Storms

log = structlog.get_logger("remediator")
ASK_AGAIN = 2.0
MOST_FAILURES = 3
SLOWEST_LANE = 60.0
KIN = 64
# The states that use budget: gathering facts and announcing a step must not interleave between incidents.
SPENDING = frozenset(
    {IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD, IncidentState.REPAIRING}
)


@dataclass(slots=True)
class _TargetLane:
    """The task of one target: its queue of alerts, and the event that wakes it."""

    inbox: deque[Alert] = field(default_factory=deque)
    failures: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Engine:
    """Runs all incidents. Each target has its own task, so that targets are handled concurrently."""

    def __init__(
        self,
        rules: Policy,
        journal_state: JournalState,
        journal: EventAppender,
        world: EngineContext,
    ) -> None:
        self._rules = rules
        self._journal_state = journal_state
        self._journal = journal
        self._world = world
        self._lanes: dict[Target, _TargetLane] = {}
        self._budget = asyncio.Lock()
        self._kin = tuple(asyncio.Lock() for _ in range(KIN))
        self._announced: set[str] = set()
        self._withheld: set[tuple[str, Reason]] = set()
        self.storms = Storms(rules.limits, journal_state, journal, world)
        self.exits = IncidentOrders(
            rules.playbook, journal_state, journal, world, self._kick, self._alone, rules.limits.pin
        )

    def start(self) -> None:
        """Continue the work of an earlier process: undecided alerts and open incidents."""
        for alert in self._journal_state.undecided():
            self._sort_in(alert, self._rules.route(alert))
        for incident in self._journal_state.open_incidents():
            self._kick(incident.target)

    async def close(self) -> None:
        """Stop all tasks. The next process checks the announced steps."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake_all(self) -> None:
        """Decide again about every open incident now."""
        for incident in self._journal_state.open_incidents():
            self._kick(incident.target)

    def playbook(self, name: str) -> Playbook | None:
        """Return the playbook of that name, or None if it is no longer configured."""
        return self._rules.playbook(name)

    async def receive(self, alerts: Sequence[Alert], source: str) -> int:
        """Store alerts durably, then handle them; returns the number of new alerts.

        Raises JournalDown if they cannot be stored; then none is recorded.
        """
        now = self._world.now()
        news: list[tuple[Alert, Route]] = []
        written: list[Event] = []
        for alert in alerts:
            found = self._rules.route(alert)
            if found.reason is Reason.DEAD_MAN_SIGNAL and alert.firing:
                self._world.senses.record_watchdog()
            if self._journal_state.known(alert):
                continue
            news.append((alert, found))
            written.append(events.alert_received(alert, found.target, now, source))
            if alert.firing and (found.playbook is None or found.target is None):
                written.append(
                    events.suppressed(alert, found.target, now, found.reason, found.text)
                )
        await self._journal.append(written)
        for alert, found in news:
            self._sort_in(alert, found)
        return len(news)

    async def take_up(self, alerts: Iterable[Alert]) -> None:
        """Decide again about alerts whose incident has ended.

        These are alerts that still fire after a person's release has expired, or that report a new
        event.
        """
        now, pin, journal_state = self._world.now(), self._rules.terms.pin, self._journal_state
        for alert in alerts:
            found = self._rules.route(alert)
            if (target := found.target) is None or ended_with(alert, journal_state) is None:
                continue
            dated = alert.name in EVENTS
            event_at = await self._world.senses.event_at(alert, target) if dated else None
            if unattended(alert, target, journal_state, now, pin) or renewed(
                alert, target, journal_state, event_at
            ):
                self._sort_in(alert, found)

    async def note_withheld(self, alerts: Iterable[tuple[Alert, Evidence]]) -> None:
        """Record, once per alert, why silenced, inhibited and muted alerts lead to no action."""
        now = self._world.now()
        written: list[Event] = []
        noted: set[tuple[str, Reason]] = set()
        for alert, evidence in alerts:
            key = (alert.key, evidence.reason)
            noted.add(key)
            record = self._journal_state.episodes.get(alert.key)
            if key in self._withheld or (record is not None and record.incident):
                continue
            found = self._rules.route(alert)
            if found.playbook is not None and found.target is not None:
                text = f"{alert.name} on {found.target} is not handled. {evidence.text}"
                written.append(events.suppressed(alert, found.target, now, evidence.reason, text))
        await self._journal.append(written)
        self._withheld = noted

    async def pause(self, by: str, why: str) -> None:
        """Pause all actions, and record it in the journal."""
        await self._journal.append((events.paused(by, why, self._world.now()),))
        self.wake_all()

    async def resume(self, by: str) -> None:
        """Resume all actions, and record it in the journal."""
        # Changes during the pause, such as a silence, must be known before actions resume.
        await self._world.senses.refresh()
        await self._journal.append((events.resumed(by, self._world.now()),))
        self.wake_all()

    def _sort_in(self, alert: Alert, found: Route) -> None:
        """Pass an alert to the task of its target."""
        if found.playbook is None or found.target is None:
            return
        if alert.firing:
            self._lanes.setdefault(found.target, _TargetLane()).inbox.append(alert)
            self._kick(found.target)
        elif concerned := holder(found.target, self._journal_state):
            self._kick(concerned.target)

    def _kick(self, target: Target) -> None:
        lane = self._lanes.setdefault(target, _TargetLane())
        lane.wake.set()
        if lane.task is None or lane.task.done():
            lane.task = asyncio.create_task(self._run(target, lane), name=f"lane {target}")

    async def _run(self, target: Target, lane: _TargetLane) -> None:
        """Run the task of one target until the target has neither an incident nor a new alert."""
        while True:
            lane.wake.clear()
            try:
                while lane.inbox:
                    await self._admit(lane.inbox[0], target)
                    lane.inbox.popleft()
                pause = await self._advance(target)
                lane.failures = 0
            except JournalDown as error:
                log.error("journal_down", target=str(target), error=str(error))
                pause = ASK_AGAIN
            except Exception as error:
                log.exception("lane_failed", target=str(target))
                pause = await self._failed(target, lane, type(error).__name__)
            if pause is None and not lane.inbox:
                self._lanes.pop(target, None)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause or 0.0):
                    await lane.wake.wait()

    async def _failed(self, target: Target, lane: _TargetLane, error: str) -> float:
        """Count an exception of a target's task; returns the seconds until the next attempt.

        After three exceptions in a row, the alert is dropped or the incident is escalated, and
        people are notified.
        """
        self._world.lane_failed()
        lane.failures += 1
        if lane.failures == MOST_FAILURES:
            text = f"{error} three times in a row on {target}; see the log for the traceback."
            try:
                waiting = lane.inbox[0] if lane.inbox else None
                now = self._world.now()
                await self._journal.append(
                    lane_failed(target, waiting, self._journal_state, text, now)
                )
                if lane.inbox:
                    lane.inbox.popleft()
                    lane.failures = 0
            except Exception:
                log.exception("lane_failed", target=str(target))
                lane.failures -= 1
        return min(ASK_AGAIN * float(2 ** min(lane.failures, 10)), SLOWEST_LANE)

    async def _admit(self, alert: Alert, target: Target) -> None:
        """Handle one alert: add it to an incident, suppress it, or open an incident."""
        found = self._rules.route(alert)
        if found.playbook is None:
            return
        now = self._world.now()
        dated = last_repaired_at(target, self._journal_state) > 0 or ended_with(
            alert, self._journal_state
        )
        event_at = await self._world.senses.event_at(alert, target) if dated else None
        async with self._alone(target):
            written = admit(
                alert,
                target,
                found.playbook,
                self._journal_state,
                now,
                self._rules.terms,
                event_at=event_at,
            )
            await self._journal.append(written)
        if (concerned := holder(target, self._journal_state)) and concerned.target != target:
            self._kick(concerned.target)
        self._gather(target)

    async def _advance(self, target: Target) -> float | None:
        """Make one decision about the target's incident.

        Returns the seconds until the next decision, or None if there is no incident.
        """
        incident = self._journal_state.incident_on(target)
        if incident is None:
            return None
        playbook = self._rules.playbook(incident.playbook)
        if playbook is None:
            return await self._orphaned(incident)
        return await self._go_on(incident, playbook)

    async def _go_on(self, incident: Incident, playbook: Playbook) -> float:
        target = incident.target
        if (run := incident.prepared) is not None:
            return await self._execute(incident, playbook, run)
        async with self._alone(target):
            handed = hand_over(incident, self._journal_state, self._world.now())
            await self._journal.append(handed)
        if handed:
            self._kick(Target(TargetKind.NODE, target.name))
            return 0.0
        if incident.state is IncidentState.HELD:
            # Most decisions repeat the hold, so they need not wait for each other.
            pause = await self._decide(incident, playbook, holds_only=True)
            if pause is not None:
                return pause
        spending = self._budget if incident.state in SPENDING else contextlib.nullcontext()
        async with spending:
            return await self._decide(incident, playbook) or 0.0

    async def _decide(
        self, incident: Incident, playbook: Playbook, *, holds_only: bool = False
    ) -> float | None:
        """Decide and record the decision; returns the seconds until the next one.

        With `holds_only`, a decision other than a hold is not recorded, and the result is None.
        """
        facts = await self._world.senses.facts(incident, playbook)
        if (
            facts.stops.storm
            and facts.pool.name not in self._journal_state.storms
            and facts.pool.name
        ):
            await self.storms.begin(facts.pool.name, facts.stops.storm)
        async with self._alone(incident.target):
            now = self._world.now()
            incident = self._journal_state.incidents[incident.id]
            if incident.ended:
                return 0.0
            settled = settle(Case(incident, playbook, facts, self._rules.limits, now))
            if holds_only and settled.hold is None:
                return None
            if settled.widen is not None:
                await self._widen(incident, settled)
                return 0.0
            if settled.step is not None:
                self._announced.add(settled.step.op_id)
            notice = group_notice(incident, settled, self._journal_state, self._rules.limits, now)
            await self._journal.append((*settled.events, *notice))
            if settled.again and self._journal_state.incidents[incident.id] == incident:
                raise IllegalTransition(
                    f"the decision for {incident.id} does not change its state {incident.state}"
                )
        if settled.step is not None or settled.again:
            return 0.0
        if settled.wake_at is None:
            return self._rules.idle
        return min(self._rules.idle, max(0.01, settled.wake_at - self._world.now()))

    async def _widen(self, incident: Incident, settled: Settled) -> None:
        playbook = self._rules.playbook(incident.playbook)
        wider = self._rules.playbook(playbook.widen_to or "") if playbook else None
        if wider is None or settled.widen is None:
            return
        written = widen(
            incident,
            settled.widen,
            wider,
            self._journal_state,
            self._world.now(),
            self._rules.terms,
        )
        await self._journal.append(written)
        node = Target(TargetKind.NODE, incident.target.name)
        self._kick(node)
        self._gather(node)

    def _gather(self, target: Target) -> None:
        """Wake the tasks of a node's GPUs, so that each hands its incident over to the node's
        incident.
        """
        if target.kind is TargetKind.NODE and self._journal_state.incident_on(target) is not None:
            for incident in absorbable(target, self._journal_state):
                self._kick(incident.target)

    async def _execute(self, incident: Incident, playbook: Playbook, run: StepRun) -> float:
        resumed = run.step.op_id not in self._announced
        world = self._world
        tools = Tools(
            world.cluster,
            world.senses,
            incident,
            playbook,
            confirm=lambda step: self._confirm(incident.id, playbook, step),
            heard=lambda: self._heard(incident),
            accused=lambda: world.senses.accused(
                self._journal_state.incidents[incident.id], playbook
            ),
            alone=self.storms.ended_lately,
            watch=self._rules.limits.watch,
        )
        outcome = await world.executor.run(run, tools, resumed=resumed)
        current = self._journal_state.incidents[incident.id]
        await self._journal.append(outcome_events(current, run.step, outcome, world.now()))
        self._announced.discard(run.step.op_id)
        return ASK_AGAIN if outcome.kind is Kind.STEP_WITHDRAWN else 0.0

    async def _confirm(self, identity: str, playbook: Playbook, step: Step) -> Verdict:
        """Return the verdict of the guards right before a step.

        Disruptive steps use facts that are gathered for this check.
        """
        incident, senses = self._journal_state.incidents[identity], self._world.senses
        if step_guards.needs_facts(step, playbook):
            facts = await senses.facts(incident, playbook, fresh=True)
        else:
            facts = senses.stopped(incident)
        case = Case(incident, playbook, facts, self._rules.limits, self._world.now())
        return step_guards.right_before(case, step)

    def _alone(self, target: Target) -> asyncio.Lock:
        """Return the lock to hold from a decision until it is recorded.

        A node and its GPUs share a lock, because their incidents change each other.
        """
        return self._kin[hash(target.name) % KIN]

    def _heard(self, incident: Incident) -> bool:
        """Return whether a queued alert would be an additional independent signal for the incident."""
        lane = self._lanes.get(incident.target)
        known = {instrument(episode.alertname) for episode in incident.alerts}
        return lane is not None and any(instrument(alert.name) not in known for alert in lane.inbox)

    async def _orphaned(self, incident: Incident) -> float:
        """Escalate an incident whose playbook is no longer configured.

        A person's release order is still carried out, with an empty playbook.
        """
        if incident.released is not None or (
            incident.prepared is not None and incident.prepared.step.action == "release"
        ):
            return await self._go_on(incident, unconfigured(incident))
        if incident.reason is Reason.PLAYBOOK_GONE:
            return self._rules.idle
        now = self._world.now()
        written: list[Event] = []
        if incident.state is not IncidentState.ESCALATED:
            written = [events.moved(incident, IncidentState.ESCALATED, now, Reason.PLAYBOOK_GONE)]
        op = op_id(incident.id, "orphaned", 1)
        if op not in self._journal_state.outbox and op not in self._journal_state.groups:
            body = incident_body(incident, "orphaned", op)
            written.append(
                events.notified(now, op, body, incident=incident, occasion="orphaned", group=op)
            )
        await self._journal.append(written)
        return self._rules.idle
