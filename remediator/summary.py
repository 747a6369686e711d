"""Summarise an incident in one paragraph: target, jobs, actions so far, and the next action. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from fleetmedic.wording.counts import counted
from remediator.actions.registry import catalogue
from remediator.core.action import Effect
from remediator.core.facts import EVERYTHING
from remediator.core.model import Incident, IncidentState, Level, Playbook, StepRun, StepState
from remediator.core.shape import PlanShape, shape
from remediator.messages import approval_commands

MOST_NAMED = 5
ACTIONS = catalogue()
_DID = {action.name: action.did for action in ACTIONS if action.did}


def summary(
    incident: Incident,
    playbook: Playbook | None,
    refusal: str | None = None,
    capabilities: frozenset[str] = EVERYTHING,
) -> str:
    """Return one paragraph about the current state of an incident. Times are UTC.

    `refusal` is the reason why this remediator may take no action, and replaces the next action.
    `capabilities` are those of the cluster: what it does not support is left out of the plan.
    """
    now = _now(incident)
    shaped = _shape(incident, playbook, capabilities)
    following = _next(incident, shaped)
    if refusal is not None and not incident.ended:
        following = "" if refusal in now else refusal
    left_out = shaped.sentence if shaped is not None else ""
    left_out = "" if left_out in now else left_out
    parts = (_what(incident), _jobs(incident), _done(incident), now, left_out, following)
    return " ".join(filter(None, parts))


def clock(at: float) -> str:
    """Return a Unix time as UTC date and time, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def listed(names: Iterable[str]) -> str:
    """Return names as part of a sentence. A long list is shortened to the first names and a count."""
    found = list(names)
    if len(found) > MOST_NAMED:
        return f"{', '.join(found[:MOST_NAMED])} and {len(found) - MOST_NAMED} more"
    return " and ".join(filter(None, (", ".join(found[:-1]), found[-1]))) if found else "none"


def _what(incident: Incident) -> str:
    names = sorted({one.shown_name for one in incident.alerts})
    alerts = f"{listed(names)} on {incident.target}" if names else f"Incident on {incident.target}"
    return f"{alerts} since {clock(incident.opened)}."


def _jobs(incident: Incident) -> str:
    names = sorted({job for run in incident.steps for job in run.step.jobs})
    if not names:
        return ""
    return f"Affected {'job' if len(names) == 1 else 'jobs'}: {listed(names)}."


def _done(incident: Incident) -> str:
    done = list(dict.fromkeys(_steps(incident.counted_steps())))
    return f"The remediator {'; '.join(done)}." if done else "No action was taken."


def _steps(runs: Iterable[StepRun]) -> Iterator[str]:
    for run in runs:
        pattern = _DID.get(run.step.action)
        if pattern is None:
            continue
        jobs = listed(run.step.jobs)
        size = counted(run.step.replicas or 0, "replica")
        did = pattern.format(on=run.step.target, jobs=jobs, replicas=size)
        if run.step.effect is Effect.VERIFIES and run.passed is not None:
            yield f"{did} ({'passed' if run.passed else 'failed'} at {_time(run)})"
        elif run.state is StepState.DONE:
            yield f"{did} ({_time(run)})"
        else:
            state = "running since" if run.state is StepState.PREPARED else "failed at"
            yield f"{did} ({state} {_time(run)})"


def _time(run: StepRun) -> str:
    return datetime.fromtimestamp(run.ended or run.started, UTC).strftime("%H:%M:%S UTC")


def _now(incident: Incident) -> str:
    text = incident.current_reason[1]
    if incident.held_since is not None:
        return f"On hold since {clock(incident.held_since)}: {text}"
    return f"{incident.state} since {clock(incident.since)}: {text}"


def _shape(
    incident: Incident, playbook: Playbook | None, capabilities: frozenset[str]
) -> PlanShape | None:
    """Return the shape of an open incident's plan; None at level observe, where no action is taken."""
    if incident.ended or playbook is None or incident.level is Level.OBSERVE:
        return None
    return shape(ACTIONS, playbook, incident.target.kind, capabilities, incident.level)


def _next(incident: Incident, shaped: PlanShape | None) -> str:
    if incident.state is IncidentState.ESCALATED:
        return (
            f"Manual action is required. Then `fleetmedic release {incident.target}` returns the target "
            f"to service, or `fleetmedic retry {incident.id}` starts the playbook again."
        )
    if incident.state is IncidentState.AWAIT_APPROVAL and incident.approved is not None:
        order = incident.approved
        return f"{order.by} approved the return to service: {order.why} The alerts are checked once more before."
    if incident.state is IncidentState.AWAIT_APPROVAL:
        return approval_commands(incident)
    if incident.state is IncidentState.PROBATION and incident.until is not None:
        return f"Next: a last test and the return to service, not before {clock(incident.until)}."
    if incident.level is Level.OBSERVE and not incident.ended:
        return "Level observe: the remediator takes no action."
    left = [
        step.action
        for step in (shaped.kept if shaped is not None else ())
        if not incident.done(step.action.name) and step.action.effect is not Effect.NOTIFIES
    ]
    return f"Next: {left[0].would}." if left else ""
