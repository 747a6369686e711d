"""The engine: one lane per target around a pure core. Gather facts, ask, write down, carry out, ask again.

Nothing is done before it is durable in the journal, and the book is only changed by durable events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.base import Notifier, Tools
from remediator.clusters.base import Cluster
from remediator.core import events
from remediator.core.book import Book
from remediator.core.decision import Case
from remediator.core.events import Event
from remediator.core.guards import Limits
from remediator.core.model import Alert, Incident, Level, Playbook, State, StepRun
from remediator.core.reasons import Reason
from remediator.core.routing import Route, absorbable, cured_at, holder, route
from remediator.core.settle import RECURRENCE_WINDOW, Settled, admit, hand_over, settle, widen
from remediator.executor import Executor, outcome_events
from remediator.journal import JournalDown
from remediator.senses import Senses, sensor

log = structlog.get_logger("remediator")
ASK_AGAIN = 2.0
KIN = 64
# The states in which a budget is spent: facts and announcement must not be interleaved with others'.
SPENDING = frozenset({State.NEW, State.TRIAGED, State.HELD, State.REPAIRING})


class Appends(Protocol):
    """What the engine needs of a journal."""

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change while the engine runs. `idle` is the longest time between two looks;
    `cluster` is the value of the label of that name."""

    playbooks: tuple[Playbook, ...]
    limits: Limits
    ceiling: Level
    factor: float
    idle: float
    cluster: str

    def route(self, alert: Alert) -> Route:
        """Where an alert leads in this cluster."""
        return route(alert, self.playbooks, self.cluster)

    def playbook(self, name: str) -> Playbook | None:
        """The playbook of that name, if it is still configured; it widens to nothing that only observes."""
        found = next((one for one in self.playbooks if one.name == name), None)
        wider = next((one for one in self.playbooks if found and one.name == found.widen_to), None)
        if found and (wider is None or Level.OBSERVE in (wider.level, self.ceiling)):
            return replace(found, widen_to=None)
        return found

    @property
    def recurrence(self) -> float:
        """How far back (seconds) an earlier incident counts."""
        return RECURRENCE_WINDOW / self.factor


@dataclass(frozen=True, slots=True)
class World:
    """What the engine acts on and through. `now` is the shell's clock (Unix seconds)."""

    cluster: Cluster
    senses: Senses
    executor: Executor
    notifier: Notifier
    now: Callable[[], float]


@dataclass(slots=True)
class _Lane:
    """The work on one target: alerts to look at, and what wakes it."""

    inbox: deque[Alert] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Engine:
    """Runs every incident, each target in a lane of its own."""

    def __init__(self, rules: Rules, book: Book, journal: Appends, world: World) -> None:
        self._rules = rules
        self._book = book
        self._journal = journal
        self._world = world
        self._lanes: dict[Target, _Lane] = {}
        self._budget = asyncio.Lock()
        self._kin = tuple(asyncio.Lock() for _ in range(KIN))
        self._announced: set[str] = set()

    def start(self) -> None:
        """Take up what an earlier process left: undecided alerts and open incidents."""
        for alert in self._book.undecided():
            self._sort_in(alert, self._rules.route(alert))
        for incident in self._book.open_incidents():
            self._kick(incident.target)

    async def close(self) -> None:
        """Stop every lane; what was announced is looked at by the next process."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake_all(self) -> None:
        """Let every open incident look again."""
        for incident in self._book.open_incidents():
            self._kick(incident.target)

    async def receive(self, alerts: Sequence[Alert], source: str) -> int:
        """Make alerts durable, then let them be looked at; returns how many were news.

        Raises JournalDown, and then nothing has happened.
        """
        now = self._world.now()
        news: list[tuple[Alert, Route]] = []
        written: list[Event] = []
        for alert in alerts:
            found = self._rules.route(alert)
            if found.reason is Reason.DEAD_MAN_SIGNAL and alert.firing:
                self._world.senses.watchdog_at = now
            if self._book.known(alert):
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

    async def pause(self, by: str, why: str) -> None:
        """Stop every action, durably."""
        await self._journal.append((events.paused(by, why, self._world.now()),))
        self.wake_all()

    async def resume(self, by: str) -> None:
        """Let actions go on, durably."""
        await self._journal.append((events.resumed(by, self._world.now()),))
        self.wake_all()

    def _sort_in(self, alert: Alert, found: Route) -> None:
        """Give an alert to the lane of its target."""
        if found.playbook is None or found.target is None:
            return
        if alert.firing:
            self._lanes.setdefault(found.target, _Lane()).inbox.append(alert)
            self._kick(found.target)
        elif concerned := holder(found.target, self._book):
            self._kick(concerned.target)

    def _kick(self, target: Target) -> None:
        lane = self._lanes.setdefault(target, _Lane())
        lane.wake.set()
        if lane.task is None or lane.task.done():
            lane.task = asyncio.create_task(self._run(target, lane), name=f"lane {target}")

    async def _run(self, target: Target, lane: _Lane) -> None:
        """One lane, until its target has neither an incident nor a new alert."""
        while True:
            lane.wake.clear()
            try:
                while lane.inbox:
                    await self._admit(lane.inbox[0], target)
                    lane.inbox.popleft()
                pause = await self._advance(target)
            except JournalDown as error:
                log.error("journal_down", target=str(target), error=str(error))
                pause = ASK_AGAIN
            except Exception:
                log.exception("lane_failed", target=str(target))
                pause = ASK_AGAIN
            if pause is None and not lane.inbox:
                self._lanes.pop(target, None)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause or 0.0):
                    await lane.wake.wait()

    async def _admit(self, alert: Alert, target: Target) -> None:
        """Absorb an alert, find it spent, or open an incident for it."""
        found = self._rules.route(alert)
        if found.playbook is None:
            return
        now = self._world.now()
        ever_cured = cured_at(target, self._book) > 0
        event_at = await self._world.senses.event_at(alert, target) if ever_cured else None
        async with self._alone(target):
            written = admit(
                alert, target, found.playbook, self._book, now,
                ceiling=self._rules.ceiling, event_at=event_at, window=self._rules.recurrence,
            )  # fmt: skip
            await self._journal.append(written)
        if (concerned := holder(target, self._book)) and concerned.target != target:
            self._kick(concerned.target)
        self._gather(target)

    async def _advance(self, target: Target) -> float | None:
        """One move of the target's incident; returns the seconds to wait, None when there is none."""
        incident = self._book.incident_on(target)
        if incident is None:
            return None
        playbook = self._rules.playbook(incident.playbook)
        if playbook is None:
            return await self._orphaned(incident)
        if (run := incident.prepared) is not None:
            await self._execute(incident, playbook, run)
            return 0.0
        async with self._alone(target):
            handed = hand_over(incident, self._book, self._world.now())
            await self._journal.append(handed)
        if handed:
            self._kick(Target(TargetKind.NODE, target.name))
            return 0.0
        spending = self._budget if incident.state in SPENDING else contextlib.nullcontext()
        async with spending:
            return await self._decide(incident, playbook)

    async def _decide(self, incident: Incident, playbook: Playbook) -> float:
        view = await self._world.senses.view(incident, playbook)
        async with self._alone(incident.target):
            now = self._world.now()
            incident = self._book.incidents[incident.id]
            if incident.ended:
                return 0.0
            settled = settle(Case(incident, playbook, view, self._rules.limits, now))
            if settled.widen is not None:
                await self._widen(incident, settled)
                return 0.0
            if settled.step is not None:
                self._announced.add(settled.step.op_id)
            await self._journal.append(settled.events)
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
            incident, settled.widen, wider, self._book, self._world.now(),
            ceiling=self._rules.ceiling, window=self._rules.recurrence,
        )  # fmt: skip
        await self._journal.append(written)
        node = Target(TargetKind.NODE, incident.target.name)
        self._kick(node)
        self._gather(node)

    def _gather(self, target: Target) -> None:
        """Let the incidents of a node's GPUs hand over to that of the node, each in its own lane."""
        if target.kind is TargetKind.NODE and self._book.incident_on(target) is not None:
            for incident in absorbable(target, self._book):
                self._kick(incident.target)

    async def _execute(self, incident: Incident, playbook: Playbook, run: StepRun) -> None:
        resumed = run.step.op_id not in self._announced
        world = self._world
        tools = Tools(
            world.cluster, world.senses, world.notifier, incident, playbook,
            waited=lambda: world.now() - run.started, heard=lambda: self._heard(incident),
            paused=lambda: self._book.pause is not None,
        )  # fmt: skip
        outcome = await world.executor.run(run, tools, resumed=resumed)
        current = self._book.incidents[incident.id]
        await self._journal.append(outcome_events(current, run.step, outcome, world.now()))
        self._announced.discard(run.step.op_id)

    def _alone(self, target: Target) -> asyncio.Lock:
        """Held from a decision to its record: a node's lane and its GPUs' write on each other's incidents."""
        return self._kin[hash(target.name) % KIN]

    def _heard(self, incident: Incident) -> bool:
        """Whether an alert waits in the incident's lane that would be one more witness."""
        lane = self._lanes.get(incident.target)
        known = {sensor(episode.alertname) for episode in incident.alerts}
        return lane is not None and any(sensor(alert.name) not in known for alert in lane.inbox)

    async def _orphaned(self, incident: Incident) -> float:
        """An incident whose playbook is no longer configured: a person's turn."""
        if incident.state is not State.ESCALATED:
            now = self._world.now()
            moved = events.moved(incident, State.ESCALATED, now, Reason.PLAYBOOK_GONE)
            await self._journal.append((moved,))
        return self._rules.idle
