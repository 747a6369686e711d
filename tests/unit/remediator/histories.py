"""Histories of events for property tests: alerts, incidents with steps, orders, pauses, storms, messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.action import Effect
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState, Retention
from remediator.core.model import Alert, Incident, IncidentState, Level, incident_id
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

SHORT = Retention(
    memory=20_000.0, events=60_000.0, quarantines=8_000.0, ended_incidents=4, ended_alerts=6
)
TARGETS = [Target.parse(text) for text in ("node1/0", "node1/1", "node1", "job/train-a")]
PATH = (
    IncidentState.TRIAGED,
    IncidentState.QUARANTINED,
    IncidentState.DRAINING,
    IncidentState.JOBS_MOVED,
    IncidentState.REPAIRING,
    IncidentState.VERIFYING,
    IncidentState.PROBATION,
    IncidentState.CLOSED,
)
EFFECTS = (
    Effect.QUARANTINES,
    Effect.NOTIFIES,
    Effect.MOVES_JOBS,
    Effect.REPAIRS,
    Effect.VERIFIES,
    Effect.RELEASES,
)
ENDS = (
    (IncidentState.OVERRIDDEN, Reason.CLOSED_BY_PERSON),
    (IncidentState.OVERRIDDEN, Reason.RELEASED_BY_OTHERS),
    (IncidentState.SUPPRESSED, Reason.RESOLVED_FIRST),
    (IncidentState.SUPPRESSED, Reason.OBSERVE_ONLY),
    (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED),
)
Move = tuple[str, int, float]
MOVES: dict[str, Callable[[History, int], None]] = {}


class History:
    """Makes valid events from a list of moves, and applies each event to its state."""

    def __init__(self, retention: Retention = SHORT) -> None:
        self.state = JournalState(retention)
        self.events: list[Event] = []
        self.at = NOW

    def add(self, *made: Event) -> None:
        for event in made:
            numbered = replace(event, seq=len(self.events) + 1)
            self.events.append(numbered)
            self.state.apply(numbered)

    def play(self, moves: Sequence[Move]) -> History:
        for name, number, seconds in moves:
            self.at += seconds
            MOVES[name](self, number)
        return self

    def alert(self, number: int, start: float) -> Alert:
        target = TARGETS[number % len(TARGETS)]
        labels = {"alertname": f"A{number % 3}", "cluster": "c", "node": target.name, "n": "x" * 50}
        return Alert(f"f{number}", start, f"{start}", True, labels)

    def fire(self, number: int) -> None:
        alert = self.alert(number, self.at)
        ignored = (Reason.NO_PLAYBOOK, "None.") if number % 2 else None
        self.add(events.alert_received(alert, None, self.at, "webhook", ignored))

    def end_alert(self, number: int) -> None:
        firing = list(self.state.firing_records())
        if firing:
            over = replace(firing[number % len(firing)].alert, firing=False)
            self.add(events.alert_received(over, None, self.at, "reconciler"))

    def fire_again(self, number: int) -> None:
        ended = [self.state.episodes[key] for key in self.state.ended_alerts]
        if ended:
            one = replace(ended[number % len(ended)].alert, firing=True)
            self.add(events.alert_received(one, None, self.at, "webhook"))

    def open(self, number: int) -> None:
        target = TARGETS[number % len(TARGETS)]
        waiting = self.state.undecided()
        if not waiting or self.state.incident_on(target) is not None:
            return
        alert = waiting[number % len(waiting)]
        identity = incident_id(f"{alert.key}/{len(self.events)}", target)
        again = self.state.recurrence(target, self.at - 10_000)
        self.add(
            events.opened(identity, target, "p", Level.REPAIR, self.at, again, "A case."),
            events.absorbed(identity, target, events.episode_of(alert, self.at), self.at),
        )

    def _open(self, number: int) -> Incident | None:
        found = self.state.open_incidents()
        return found[number % len(found)] if found else None

    def advance(self, number: int) -> None:
        one = self._open(number)
        if one is None or one.prepared is not None:
            return
        place = PATH.index(one.state) if one.state in PATH else -1
        reason = Reason.READMITTED if place == len(PATH) - 2 else Reason.ROUTED
        self.add(events.moved(one, PATH[place + 1], self.at, reason))

    def step(self, number: int) -> None:
        one = self._open(number)
        if one is None:
            return
        if one.prepared is not None:
            kind = (Kind.STEP_DONE, Kind.STEP_FAILED, Kind.STEP_WITHDRAWN)[number % 3]
            step = one.prepared.step
            self.add(events.step_event(kind, one, step, self.at, Reason.EFFECT_SEEN))
            return
        effect = EFFECTS[number % len(EFFECTS)]
        on = Target.parse("node1") if number % 2 else one.target
        names = [action for action in ACTIONS if action.effect is effect]
        step = plan.new_step(one, names[0], 60.0, on=on, jobs=("train-a",), also=(one.target,))
        prepared = Kind.STEP_PREPARED
        self.add(events.step_event(prepared, one, step, self.at, Reason.STEP_ALLOWED))

    def end(self, number: int) -> None:
        one = self._open(number)
        if one is not None and one.prepared is None:
            state, reason = ENDS[number % len(ENDS)]
            self.add(events.moved(one, state, self.at, reason, "Ended."))

    def rehearse(self, number: int) -> None:
        if (one := self._open(number)) is not None:
            reason = Reason.OBSERVE_ONLY
            self.add(events.noted(Kind.WOULD_DO, one, self.at, reason, action="notify"))

    def hold(self, number: int) -> None:
        if (one := self._open(number)) is not None:
            self.add(events.noted(Kind.HELD, one, self.at, Reason.PAUSED, "Paused."))

    def order(self, number: int) -> None:
        target = TARGETS[number % 3]
        self.add(events.ordered("release", target, "alice", "why", self.at, None))

    def stop(self, number: int) -> None:
        pause = events.paused("alice", "why", self.at)
        self.add(pause if number % 2 else events.resumed("alice", self.at))

    def storm(self, number: int) -> None:
        began = events.storm_began(f"p{number % 2}", self.at, "A storm.")
        self.add(began if number % 3 else events.storm_ended(f"p{number % 2}", self.at))

    def tell(self, number: int) -> None:
        one = self._open(number)
        group = f"group/{number}" if number % 2 else ""
        body = {"text": "Hello.", "n": number}
        told = events.notified(
            self.at, f"op{len(self.events)}", body, incident=one, group=group, members=("a", "b")
        )
        self.add(told, events.delivered(self.at, f"op{len(self.events)}", "hash"))

    def reconcile(self, number: int) -> None:
        self.add(events.reconciled(self.at, number, 0, 0))


for _name in (
    "fire", "end_alert", "fire_again", "open", "advance", "step", "end", "rehearse", "hold", "order", "stop",
    "storm", "tell", "reconcile",
):  # fmt: skip
    MOVES[_name] = getattr(History, _name)

# Most moves carry incidents on; a step takes a moment, and some take long enough to forget.
_NAMES = st.sampled_from(
    [*MOVES, "fire", "fire", "open", "open", "step", "step", "advance", "advance", "advance"]
)
_SECONDS = st.sampled_from([0.0, 1.0, 60.0, 700.0, 4_000.0, 25_000.0])
MOVE = st.tuples(_NAMES, st.integers(0, 11), _SECONDS)
MOVE_LISTS = st.lists(MOVE, max_size=120)
