"""The life cycle of an incident: the table of transitions, and the function that applies an event.

`evolve` makes no decisions. It raises IllegalTransition for a transition that is not in the table.
docs/lifecycle.md is generated from TRANSITIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fleetmedic.kernel.labels import Target
from remediator.core.action import Effect
from remediator.core.events import Event, Kind, step_of
from remediator.core.model import (
    Episode,
    Incident,
    IncidentState,
    Level,
    Order,
    Step,
    StepRun,
    StepState,
)
from remediator.core.reasons import Reason

S = IncidentState
_EXITS = frozenset({S.OVERRIDDEN, S.ESCALATED, S.FAILED})
# Before a repair, the node's incident may take over the incidents of its GPUs, which end SUPPRESSED.
_EARLY = _EXITS | {S.SUPPRESSED}

TRANSITIONS: dict[IncidentState, frozenset[IncidentState]] = {
    S.NEW: frozenset({S.TRIAGED}) | _EARLY,
    S.TRIAGED: frozenset({S.HELD, S.QUARANTINED, S.DRAINING, S.REPAIRING, S.VERIFYING, S.CLOSED})
    | _EARLY,
    S.HELD: frozenset({S.TRIAGED}) | _EARLY,
    S.QUARANTINED: frozenset({S.CHECKPOINTING, S.DRAINING, S.JOBS_MOVED, S.VERIFYING}) | _EARLY,
    S.CHECKPOINTING: frozenset({S.DRAINING}) | _EARLY,
    S.DRAINING: frozenset({S.CHECKPOINTING, S.JOBS_MOVED, S.VERIFYING}) | _EARLY,
    S.JOBS_MOVED: frozenset({S.REPAIRING, S.VERIFYING, S.CLOSED}) | _EARLY,
    S.REPAIRING: frozenset({S.REPAIRING, S.VERIFYING, S.CLOSED}) | _EXITS,
    S.VERIFYING: frozenset({S.QUARANTINED, S.REPAIRING, S.PROBATION}) | _EXITS,
    S.PROBATION: frozenset({S.AWAIT_APPROVAL, S.QUARANTINED, S.VERIFYING, S.REPAIRING, S.CLOSED})
    | _EXITS,
    S.AWAIT_APPROVAL: frozenset({S.QUARANTINED, S.VERIFYING, S.CLOSED}) | _EXITS,
    S.ESCALATED: frozenset({S.TRIAGED, S.VERIFYING, S.OVERRIDDEN}),
    S.SUPPRESSED: frozenset(),
    S.CLOSED: frozenset(),
    S.OVERRIDDEN: frozenset(),
    S.FAILED: frozenset(),
}


class IllegalTransition(Exception):  # noqa: N818 - the name says what happened
    """The exception for an event that is not allowed in the incident's current state."""


def new_incident(event: Event) -> Incident:
    """Create the incident of an IncidentOpened event. Raises IllegalTransition for other events."""
    if event.kind is not Kind.INCIDENT_OPENED or event.incident is None or event.target is None:
        raise IllegalTransition(f"{event.kind} does not start an incident")
    return Incident(
        id=event.incident,
        target=Target.parse(event.target),
        playbook=event.data["playbook"],
        level=Level(event.data["level"]),
        opened=event.at,
        since=event.at,
        text=event.text,
        recurrence=event.data["recurrence"],
    )


def evolve(incident: Incident, event: Event) -> Incident:
    """Return the incident after an event. Raises IllegalTransition and no other exception."""
    if event.incident != incident.id:
        raise IllegalTransition(f"the event belongs to {event.incident}, not to {incident.id}")
    handler = _HANDLERS.get(event.kind)
    if handler is None:
        raise IllegalTransition(f"{event.kind} does not change an incident")
    return handler(incident, event)


def _moved(incident: Incident, event: Event) -> Incident:
    to = IncidentState(event.data["state"])
    if to not in TRANSITIONS[incident.state]:
        raise IllegalTransition(
            f"the life cycle of incidents has no transition from {incident.state} to {to}"
        )
    after = replace(
        incident,
        state=to,
        reason=event.reason or incident.reason,
        text=event.text,
        since=event.at,
        until=event.data.get("until"),
        mark=len(incident.steps),
        rung=event.data.get("rung", incident.rung),
        absorbed_by=event.data.get("absorbed_by", incident.absorbed_by),
        approved=None,
        requests=incident.requests + (to is S.AWAIT_APPROVAL),
    )
    if event.reason is Reason.RETRIED:
        steps = len(incident.steps)
        after = replace(after, base=steps, rung=0, retried_at=event.at, rehearsed=False)
    return _free(after)


def _free(incident: Incident) -> Incident:
    return replace(incident, held=None, held_text="", held_since=None)


def _prepared(incident: Incident, event: Event) -> Incident:
    if incident.prepared is not None:
        raise IllegalTransition(f"the step {incident.prepared.step.id} has no outcome yet")
    step = step_of(event.data)
    if any(run.step.op_id == step.op_id for run in incident.steps):
        raise IllegalTransition(
            f"the step {step.id} was already prepared as attempt {step.attempt}"
        )
    run = StepRun(step, StepState.PREPARED, event.at, text=event.text)
    dead = incident.dead or event.data.get("dead", False)
    after = replace(incident, steps=(*incident.steps, run), dead=dead)
    # A notification does not end a hold.
    return after if step.effect is Effect.NOTIFIES else _free(after)


def _ended(incident: Incident, event: Event) -> Incident:
    run = incident.prepared
    if run is None or run.step.op_id != event.data["op_id"]:
        raise IllegalTransition(f"the step {event.data['step']} was not prepared")
    done = event.kind is Kind.STEP_DONE
    after = replace(
        run,
        state=_ENDINGS[event.kind],
        ended=event.at,
        text=event.text,
        passed=event.data.get("passed"),
        reason=event.reason,
    )
    steps = tuple(after if one is run else one for one in incident.steps)
    incident = replace(incident, steps=steps)
    return _with_effect(incident, run.step, event.at) if done else incident


def _with_effect(incident: Incident, step: Step, at: float) -> Incident:
    """Return the incident after the successful end of a step."""
    effect, target = step.effect, step.target
    if effect is Effect.QUARANTINES and target not in incident.quarantined:
        return replace(incident, quarantined=(*incident.quarantined, target))
    if effect is Effect.RELEASES:
        # Targets that were taken over after the release was announced stay quarantined.
        rest = tuple(one for one in incident.quarantined if one not in step.also)
        return replace(incident, quarantined=rest)
    if effect is Effect.REPAIRS:
        return replace(incident, repaired_at=at)
    if effect is Effect.VERIFIES and step.id == step.action:
        return replace(incident, repaired_at=incident.repaired_at or at)
    return incident


def _absorbed(incident: Incident, event: Event) -> Incident:
    episode = Episode(**event.data)
    if any(known.key == episode.key for known in incident.alerts):
        return incident
    return replace(incident, alerts=(*incident.alerts, episode))


def _held(incident: Incident, event: Event) -> Incident:
    # Another guard does not restart the hold, so that people are notified of the whole wait.
    since = event.at if incident.held_since is None else incident.held_since
    return replace(incident, held=event.reason, held_text=event.text, held_since=since)


def _ordered(incident: Incident, event: Event) -> Incident:
    return replace(incident, released=Order(event.data["by"], event.data["why"]))


def _approved(incident: Incident, event: Event) -> Incident:
    """Record an approval. It belongs to one request, and ends with the next change of state."""
    asked = incident.state is S.AWAIT_APPROVAL and event.data["request"] == incident.requests
    if not asked or incident.approved is not None:
        raise IllegalTransition(f"{incident.id} does not wait for this approval")
    return replace(incident, approved=Order(event.data["by"], event.data["why"]))


def _inherited(incident: Incident, event: Event) -> Incident:
    more = (Target.parse(text) for text in event.data["targets"])
    new = tuple(target for target in more if target not in incident.quarantined)
    return replace(incident, quarantined=incident.quarantined + new)


def _rehearsed(incident: Incident, event: Event) -> Incident:
    return replace(incident, rehearsed=True)


def _unchanged(incident: Incident, event: Event) -> Incident:
    return incident


_ENDINGS = {
    Kind.STEP_DONE: StepState.DONE,
    Kind.STEP_FAILED: StepState.FAILED,
    Kind.STEP_WITHDRAWN: StepState.WITHDRAWN,
}

_HANDLERS: dict[Kind, Callable[[Incident, Event], Incident]] = {
    Kind.STATE_CHANGED: _moved,
    Kind.STEP_PREPARED: _prepared,
    Kind.STEP_DONE: _ended,
    Kind.STEP_FAILED: _ended,
    Kind.STEP_WITHDRAWN: _ended,
    Kind.ALERT_ABSORBED: _absorbed,
    Kind.HELD: _held,
    Kind.INHERITED: _inherited,
    Kind.WOULD_DO: _rehearsed,
    Kind.VERIFIED: _unchanged,
    Kind.NOTIFIED: _unchanged,
    Kind.ORDERED: _ordered,
    Kind.APPROVED: _approved,
}


def diagram() -> str:
    """Return the transition table as a Mermaid state diagram, for docs/lifecycle.md."""
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state} --> {to}" for to in IncidentState if to in following]
        lines += [f"    {state} --> [*]"] if not following else []
    return "\n".join(lines) + "\n"
