"""Convert decisions to journal events, and incoming alerts to incidents. Pure functions.

All events of a decision are appended to the journal together before any action starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events
from remediator.core.action import ActionSpec, Effect
from remediator.core.decide import decide
from remediator.core.decision import Act, Case, Decision, Hold, Move, Rehearse, Wait, Widen
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState
from remediator.core.lifecycle import evolve
from remediator.core.model import Alert, Incident, IncidentState, Level, Playbook, Step, incident_id
from remediator.core.reasons import Reason
from remediator.core.routing import (
    absorbable,
    covers_gpus,
    holder,
    last_repaired_at,
    may_act,
    notifies_only,
    repaired_since_fault,
)

RECURRENCE_WINDOW = 7 * 86_400.0
HOLD_AGAIN = 2.0
# A change of an alert or of the cluster wakes an incident, so without one the next look may be later.
SLOWEST_AGAIN = 300.0
# An event this long (seconds) after the end of an incident is new, even if its alert never resolved.
NEWER = 2.0


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits that apply when an alert opens an incident.

    `ceiling` is the highest level allowed. `window`: earlier incidents count as recurrence for this
    long. `shrinking` contains the names of the playbooks that remove replicas. `pin`: a target that
    an operator released is not quarantined again for this long. Times are in seconds.
    """

    ceiling: Level
    window: float = RECURRENCE_WINDOW
    shrinking: frozenset[str] = frozenset()
    pin: float = math.inf


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a decision: the events to record, and the next operation.

    `step` is the step to run, `wake_at` the time of the next decision (Unix seconds). `again`:
    decide again immediately. `widen` opens an incident on the node.
    """

    events: tuple[Event, ...]
    step: Step | None = None
    wake_at: float | None = None
    again: bool = False
    widen: Widen | None = None
    hold: Hold | None = None


def settle(case: Case) -> Settled:
    """Make the next decision for an incident, and convert the decision to events.

    If the state changes, `again` is set: the caller gathers new facts and decides again. Only a
    change from NEW or HELD to TRIAGED is continued with the same facts.
    """
    written: list[Event] = []
    while True:
        decision = decide(case)
        new = _recorded(case, decision)
        written += new
        if isinstance(decision, Act):
            return Settled(tuple(written), step=decision.step)
        if isinstance(decision, Widen):
            return Settled(tuple(written), widen=decision)
        if isinstance(decision, Hold):
            # A long hold is checked less often: thousands of incidents may be held at once.
            held_for = case.now - (case.incident.held_since or case.now)
            again = case.now + min(SLOWEST_AGAIN, max(HOLD_AGAIN, held_for / 4))
            wake_at = min(decision.until or again, again)
            return Settled(tuple(written), wake_at=wake_at, hold=decision)
        if isinstance(decision, Wait):
            return Settled(tuple(written), wake_at=decision.until)
        if isinstance(decision, Move) and decision.state is not IncidentState.TRIAGED:
            return Settled(tuple(written), again=True)
        incident = case.incident
        for event in new:
            incident = evolve(incident, event)
        case = replace(case, incident=incident)


def _recorded(case: Case, decision: Decision) -> list[Event]:
    incident, now = case.incident, case.now
    match decision:
        case Act(step, reason, text, dead):
            prepared = Kind.STEP_PREPARED
            return [events.step_event(prepared, incident, step, now, reason, text, dead=dead)]
        case Move(state, reason, text, until, rung):
            return [events.moved(incident, state, now, reason, text, until=until, rung=rung)]
        case Hold(reason, text, until):
            if incident.held is reason and incident.held_text == text:
                return []
            held = events.noted(Kind.HELD, incident, now, reason, text, until=until)
            if incident.state is IncidentState.TRIAGED:
                return [events.moved(incident, IncidentState.HELD, now, reason, text), held]
            return [held]
        case Rehearse(actions, reason, texts):
            said = texts or tuple(_beyond(incident, action) for action in actions)
            return [
                events.noted(Kind.WOULD_DO, incident, now, reason, text, action=action.name)
                for action, text in zip(actions, said, strict=True)
            ]
        case _:
            return []


def _beyond(incident: Incident, action: ActionSpec) -> str:
    return f"The remediator would {action.would} ({incident.target}), but the automation level does not allow it."


def admit(
    alert: Alert,
    target: Target,
    playbook: Playbook,
    journal_state: JournalState,
    now: float,
    terms: Terms,
    *,
    event_at: float | None = None,
    active_since: float | None = None,
) -> tuple[Event, ...]:
    """Return the events for a firing alert with a playbook and a target.

    For a duplicate, there are no events. In the other cases, the events add the alert to an open
    incident, suppress the alert, or open a new incident. `event_at` is the time of the event that
    the alert reports, if metrics show it; `active_since` is the start of the alert's latest episode
    in Prometheus (Unix seconds).
    """
    record = journal_state.episodes.get(alert.key)
    again = (
        unattended(alert, target, journal_state, now, terms.pin)
        or renewed(alert, target, journal_state, event_at)
        or reactivated(alert, target, journal_state, active_since)
    )
    if record is not None and not record.undecided and not again:
        return ()
    episode = events.episode_of(alert, now)
    current = holder(target, journal_state)
    if current is not None and may_act(current) and not episode.may_act:
        text = f"{notifies_only(episode.stage)} The alert changes nothing in the open incident on {current.target}."
        return (events.suppressed(alert, target, now, Reason.STAGE, text),)
    if current is not None and _released(current) and alert.starts_at > (current.repaired_at or 0):
        # Its only remaining step is to notify people that the target is healthy, which is no longer true.
        closed = events.moved(current, IncidentState.CLOSED, now, Reason.READMITTED)
        opening = open_incident(alert, target, playbook, journal_state, now, terms)
        return (closed, *opening)
    if current is not None and not (
        _outranks(playbook, current, target, terms.ceiling)
        or _replaces_scale_in(playbook, current, terms.shrinking)
    ):
        return (events.absorbed(current.id, current.target, episode, now),)
    if not again and repaired_since_fault(alert, target, journal_state, event_at, active_since):
        cured = f"{target} was repaired after {alert.shown_name} began, so the alert is ignored."
        return (events.suppressed(alert, target, now, Reason.SPENT, cured),)
    opening = open_incident(alert, target, playbook, journal_state, now, terms)
    return _instead_of(current, opening, now) if current is not None else opening


def ended_with(alert: Alert, journal_state: JournalState) -> Incident | None:
    """Return the ended incident to which a firing alert belonged.

    None if the alert belongs to no incident or to an open incident.
    """
    record = journal_state.episodes.get(alert.key)
    found = journal_state.incidents.get(record.incident or "") if record else None
    return found if found is not None and found.ended and alert.firing else None


def unattended(
    alert: Alert, target: Target, journal_state: JournalState, now: float, pin: float
) -> bool:
    """Return whether an alert is still firing after an operator's release has expired, and no
    incident handles it."""
    ended = ended_with(alert, journal_state)
    released = (Reason.RELEASED_BY_PERSON, Reason.RELEASED_BY_OTHERS)
    if ended is None or ended.reason not in released:
        return False
    # The release of a node also releases its GPUs.
    whole = Target(TargetKind.NODE, target.name)
    release = journal_state.pins.get(target) or journal_state.pins.get(whole)
    return release is not None and now >= release.at + pin and holder(target, journal_state) is None


def renewed(
    alert: Alert, target: Target, journal_state: JournalState, event_at: float | None
) -> bool:
    """Return whether an alert reports a new event, after its target was returned to service."""
    ended = ended_with(alert, journal_state)
    if ended is None or ended.reason is not Reason.READMITTED or event_at is None:
        return False
    return event_at > ended.since + NEWER and holder(target, journal_state) is None


def reactivated(
    alert: Alert, target: Target, journal_state: JournalState, active_since: float | None
) -> bool:
    """Return whether an alert that was ignored as older than a repair has become active after the repair."""
    record = journal_state.episodes.get(alert.key)
    cured = last_repaired_at(target, journal_state)
    if record is None or not record.suppressed or record.incident is not None:
        return False
    return (
        alert.starts_at <= cured < (active_since or 0.0) and holder(target, journal_state) is None
    )


def _instead_of(current: Incident, opening: tuple[Event, ...], now: float) -> tuple[Event, ...]:
    """Return the events by which a new incident replaces an incident on the same target.

    The replaced incident has only notified people, or scales in a workload.
    """
    heir = str(opening[0].incident)
    if current.target.kind is TargetKind.WORKLOAD:
        state = (
            IncidentState.SUPPRESSED
            if current.state is IncidentState.HELD
            else IncidentState.CLOSED
        )
        ended = events.moved(current, state, now, Reason.DEMAND_ROSE, absorbed_by=heir)
        return (ended, *opening)
    ended = events.moved(
        current,
        IncidentState.SUPPRESSED,
        now,
        Reason.ABSORBED,
        "A more severe alert on the target takes over.",
        absorbed_by=heir,
    )
    return (ended, *opening, *_taken_over(current, heir, current.target, now))


def _taken_over(incident: Incident, heir: str, target: Target, now: float) -> tuple[Event, ...]:
    """Return the events by which another incident takes over the alerts of an incident.

    Alerts whose stage allows notifications only are left out, because the other incident may act.
    """
    return tuple(events.absorbed(heir, target, one, now) for one in incident.alerts if one.may_act)


def _released(current: Incident) -> bool:
    """Return whether every target that the incident quarantined has been tested and released."""
    late = current.state in (IncidentState.PROBATION, IncidentState.AWAIT_APPROVAL)
    over = late and current.readmitted
    return over and not current.quarantined


def _outranks(playbook: Playbook, current: Incident, target: Target, ceiling: Level) -> bool:
    """Return whether a new alert is more severe than the open incident, which has only notified people.

    More severe means that its playbook allows a higher level. At the same level, the alert is added to the
    incident.
    """
    told_only = all(run.step.effect is Effect.NOTIFIES for run in current.steps)
    early = (
        current.state in (IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD)
        and told_only
    )
    further = min(playbook.level.rank, ceiling.rank) > current.level.rank
    return current.target == target and early and further


def _replaces_scale_in(playbook: Playbook, current: Incident, shrinking: frozenset[str]) -> bool:
    """Return whether scale-out must replace a scale-in that is in progress, because demand has risen."""
    grows = playbook.scale is not None and playbook.scale.step > 0
    return grows and current.playbook in shrinking and current.state is not IncidentState.ESCALATED


def open_incident(
    alert: Alert,
    target: Target,
    playbook: Playbook,
    journal_state: JournalState,
    now: float,
    terms: Terms,
) -> tuple[Event, ...]:
    """Return the events that open an incident with its first alert."""
    first = events.episode_of(alert, now)
    level = min(playbook.level, terms.ceiling, key=lambda one: one.rank)
    level = Level.OBSERVE if playbook.notify_only or not first.may_act else level
    identity = incident_id(alert.key, target)
    if identity in journal_state.incidents or journal_state.may_be_archived(alert, now):
        identity = incident_id(f"{alert.key}/{now}", target)
    again = journal_state.recurrence(target, now - terms.window)
    text = f"Playbook {playbook.name} matches {alert.name} on {target}."
    birth = events.opened(identity, target, playbook.name, level, now, again, text)
    if not first.may_act:
        told = f"{text} {notifies_only(first.stage)}"
        birth = replace(birth, reason=Reason.STAGE, text=told)
    return (birth, events.absorbed(identity, target, first, now))


def widen(
    incident: Incident,
    decision: Widen,
    playbook: Playbook,
    journal_state: JournalState,
    now: float,
    terms: Terms,
) -> tuple[Event, ...]:
    """Return the events that open the node's incident.

    The node's incident takes over the incidents of its GPUs. If the node already has an incident, return
    the events that merge the GPU's incident into the node's incident.
    """
    node = Target.parse(f"node/{incident.target.name}")
    current = journal_state.incident_on(node)
    if current is not None and may_act(current):
        return hand_over(incident, journal_state, now)
    first = journal_state.episodes[incident.alerts[0].key].alert
    opening = open_incident(first, node, playbook, journal_state, now, terms)
    opening = (replace(opening[0], text=decision.text, reason=Reason.WIDENED), *opening[1:])
    return _instead_of(current, opening, now) if current is not None else opening


def hand_over(incident: Incident, journal_state: JournalState, now: float) -> tuple[Event, ...]:
    """Return the events that merge a GPU's incident into the open incident of its node, if any."""
    node = Target.parse(f"node/{incident.target.name}") if incident.target.gpu is not None else None
    heir = journal_state.incident_on(node) if node else None
    if (
        heir is None
        or not covers_gpus(heir, journal_state)
        or incident not in absorbable(heir.target, journal_state)
    ):
        return ()
    return _handed(incident, heir, now)


def _handed(incident: Incident, heir: Incident, now: float) -> tuple[Event, ...]:
    kept = _taken_over(incident, heir.id, heir.target, now)
    ended = events.moved(
        incident, IncidentState.SUPPRESSED, now, Reason.WIDENED, absorbed_by=heir.id
    )
    return (events.inherited(heir, incident, now), *kept, ended)
