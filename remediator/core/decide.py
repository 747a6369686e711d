"""Return the next decision for an incident, given the incident, its playbook, the facts and the
time.

This module is pure. The engine gathers the facts, calls `decide`, writes the decision to the journal, carries
it out, and calls `decide` again. If an announced step has no outcome yet, the engine first observes its effect.
"""

from __future__ import annotations

from collections.abc import Callable

from fleetmedic.kernel.labels import TargetKind
from remediator.core import guards, plan, step_guards
from remediator.core.action import Effect
from remediator.core.approving import decide_awaiting
from remediator.core.decision import Act, Case, Decision, Hold, Move, Rehearse, Wait, held
from remediator.core.ending import (
    decide_escalated,
    decide_release,
    give_up,
    notify_long_hold,
    notify_once,
)
from remediator.core.guards import Ruling
from remediator.core.model import OWNER, IncidentState, Level, StepState
from remediator.core.moving import decide_checkpointing, decide_draining, decide_quarantined
from remediator.core.reasons import Reason
from remediator.core.rehearsal import rehearse
from remediator.core.repairing import (
    decide_jobs_moved,
    decide_probation,
    decide_repairing,
    decide_verifying,
)
from remediator.core.shape import shape


def decide(case: Case) -> Decision:
    """Return the next decision for an incident, in any state."""
    if case.incident.ended:
        return Wait()
    if case.incident.released is not None:
        return decide_release(case)
    if _overridden(case):
        owner = case.facts.quarantine_owner
        text = f"The quarantine of the target now belongs to {owner}." if owner else ""
        if not case.facts.kept:
            doubtful = case.facts.alerts_active or case.incident.state is IncidentState.ESCALATED
            notification = notify_once(case, "overridden", text) if doubtful else None
            return notification or Move(IncidentState.OVERRIDDEN, Reason.RELEASED_BY_OTHERS, text)
        if case.incident.state is not IncidentState.ESCALATED:
            # Ending here would leave a quarantine that nobody releases and nobody is notified of.
            rest = ", ".join(map(str, case.facts.kept))
            text = f"Somebody else released {case.incident.target}; the remediator still keeps {rest} quarantined."
            return Move(IncidentState.ESCALATED, Reason.RELEASED_BY_OTHERS, text)
    return notify_long_hold(case, _allowed(case, _BY_STATE[case.incident.state](case)))


def _allowed(case: Case, decision: Decision) -> Decision:
    """Return the decision, or a hold if the check right before the step would fail now.

    Without this hold, the step would be announced and withdrawn repeatedly, and no notification
    would be sent.
    """
    if not isinstance(decision, Act) or decision.step.effect is Effect.NOTIFIES:
        return decision  # nothing holds a notification
    verdict = step_guards.right_before(case, decision.step)
    return held(verdict) if verdict.ruling is Ruling.HOLD else decision


def _overridden(case: Case) -> bool:
    """Return whether another user or program removed the remediator's quarantine of the target."""
    incident = case.incident
    return (
        case.facts.known
        and incident.target in incident.quarantined
        and case.facts.quarantine_owner != OWNER
    )


def _new(case: Case) -> Decision:
    return Move(IncidentState.TRIAGED, Reason.ROUTED, _with_left_out(case))


def _with_left_out(case: Case) -> str:
    """Return the incident's text, followed by what is left out of its plan and why."""
    if case.level is Level.OBSERVE:  # each action is recorded with its own text instead
        return case.incident.text
    kind = case.incident.target.kind
    shaped = shape(case.actions, case.playbook, kind, case.facts.capabilities, case.level)
    return f"{case.incident.text} {shaped.sentence}".strip()


def _triaged(case: Case) -> Decision:
    playbook = case.playbook
    if playbook.notify_only:
        return notify_once(case, "opened") or Move(IncidentState.CLOSED, Reason.NOTIFIED)
    if not case.facts.firing and _untouched(case):
        return Move(IncidentState.SUPPRESSED, Reason.RESOLVED_FIRST)
    if case.level is Level.OBSERVE:
        return _observe(case)
    if case.incident.target.kind in (TargetKind.JOB, TargetKind.WORKLOAD):
        return _service(case)
    return _quarantine(case)


def _untouched(case: Case) -> bool:
    """Return whether the remediator has taken no action for the incident, except notifications."""
    incident = case.incident
    untouched = incident.only_notified and not incident.quarantined
    return untouched and case.facts.quarantine_owner != OWNER


def _observe(case: Case) -> Decision:
    """Return the next decision at level observe: record the actions that the guards would allow
    now, and take no action."""
    if (
        case.incident.quarantined
    ):  # taken over from the incidents of its GPUs: somebody must release them
        return give_up(case, Reason.LEVEL)
    if case.incident.rehearsed:
        return Move(IncidentState.SUPPRESSED, Reason.OBSERVE_ONLY)
    if not case.facts.job_known:
        return Move(IncidentState.SUPPRESSED, Reason.UNKNOWN_JOB, _no_job(case))
    verdict = (
        step_guards.quarantine(case)
        if case.playbook.quarantine
        else step_guards.alert_driven_step(case)
    )
    if verdict.ruling is Ruling.HOLD:
        return held(verdict)
    if not verdict.allows:
        text = f"The remediator would take no action on {case.incident.target}. {verdict.text}"
        return Rehearse((case.actions.of(Effect.NOTIFIES),), verdict.reason, (text,))
    return rehearse(case)


def _service(case: Case) -> Decision:
    """Return the next decision for an incident about a job or a workload. These targets are never
    quarantined."""
    is_job = case.incident.target.kind is TargetKind.JOB
    action = case.actions.of(Effect.MOVES_JOBS if is_job else Effect.SCALES)
    if is_job and case.facts.known and not case.facts.job_known:
        return give_up(case, Reason.UNKNOWN_JOB, _no_job(case))
    if not guards.level(action.level, case.level).allows:
        if not case.incident.rehearsed:
            return Rehearse((action,), Reason.LEVEL)
        return notify_once(case, "level") or Move(IncidentState.SUPPRESSED, Reason.LEVEL)
    able = step_guards.planned(case, action)
    if not able.allows:
        return give_up(case, able.reason, able.text)
    if is_job and case.playbook.jobs is not None:
        text = f"The remediator restarts {case.incident.target} elsewhere if it fails again."
        return Move(
            IncidentState.DRAINING, Reason.MOVING_JOBS, text if case.playbook.ends_jobs else ""
        )
    if not is_job and case.playbook.scale is not None:
        return Move(IncidentState.REPAIRING, Reason.REPAIR_STARTS)
    return give_up(case, Reason.UNSUPPORTED)


def _no_job(case: Case) -> str:
    return f"The cluster does not know {case.incident.target}, although its alert is active."


def _quarantine(case: Case) -> Decision:
    run = case.incident.last(plan.quarantine(case.actions, case.incident).id)
    if run is not None and run.state is StepState.DONE:
        return Move(IncidentState.QUARANTINED, Reason.QUARANTINED)
    if run is not None and len(case.incident.runs(run.step.id)) >= 2:
        return give_up(case, Reason.QUARANTINE_FAILED, run.text)
    verdict = step_guards.quarantine(case)
    if verdict.ruling is Ruling.REFUSE:
        return give_up(case, verdict.reason, verdict.text)
    if not case.facts.firing and case.incident.quarantined:
        # The quarantines come from the node's GPUs; the alerts ended before the node was quarantined.
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    if not verdict.allows and case.incident.quarantined and step_guards.evidence_is_stale(case):
        # Only past events speak against GPUs that it took over, and the hold may last for hours.
        return Move(IncidentState.VERIFYING, Reason.HELD_LONG)
    if not verdict.allows:
        return held(verdict)
    jobs = tuple(job.job_id for job in case.facts.jobs)
    step = plan.quarantine(case.actions, case.incident, jobs=jobs)
    return Act(step, Reason.QUARANTINED, dead=case.facts.dead)


def _held(case: Case) -> Decision:
    """Return the next decision in state HELD. The same rules apply as in state TRIAGED. When the
    guards allow the step, the incident returns to TRIAGED."""
    answer = _triaged(case)
    if isinstance(answer, Hold):
        return answer
    if isinstance(answer, Move) and answer.state in (
        IncidentState.SUPPRESSED,
        IncidentState.FAILED,
    ):
        return answer
    if isinstance(answer, Act) and answer.step.effect is Effect.NOTIFIES:
        return answer
    return Move(IncidentState.TRIAGED, Reason.STEP_ALLOWED)


_BY_STATE: dict[IncidentState, Callable[[Case], Decision]] = {
    IncidentState.NEW: _new,
    IncidentState.TRIAGED: _triaged,
    IncidentState.HELD: _held,
    IncidentState.AWAIT_APPROVAL: decide_awaiting,
    IncidentState.QUARANTINED: decide_quarantined,
    IncidentState.CHECKPOINTING: decide_checkpointing,
    IncidentState.DRAINING: decide_draining,
    IncidentState.JOBS_MOVED: decide_jobs_moved,
    IncidentState.REPAIRING: decide_repairing,
    IncidentState.VERIFYING: decide_verifying,
    IncidentState.PROBATION: decide_probation,
    IncidentState.ESCALATED: decide_escalated,
}
