"""Return the decisions about a target that metrics report as healthy, but that no load test verified.

An operator must approve the return to service. Without an approval, the target stays quarantined.
"""

from __future__ import annotations

from remediator.core import guards, plan, step_guards
from remediator.core.action import Effect
from remediator.core.decision import Act, Case, Decision, Move, Wait, held
from remediator.core.ending import give_up, notify_once
from remediator.core.evidence import AlertStatus
from remediator.core.model import IncidentState, StepRun, StepState
from remediator.core.reasons import Reason


def needs_approval(case: Case, run: StepRun) -> bool:
    """Return whether an operator must approve the release after the test `run`.

    A target that was never repaired, and on which jobs ran while its metrics were watched, needs none:
    the jobs were its load.
    """
    if run.step.id == plan.METRICS:
        return True
    return case.shape.needs_approval and case.incident.repaired_at is not None


def request_approval(case: Case, run: StepRun) -> Move:
    """Return the decision to request an approval. The request expires after the configured time."""
    until = case.now + case.limits.approval
    text = (
        f"{run.text} This cluster has no test under load: an operator must approve the return of "
        f"{case.incident.target} to service by {guards.utc(until)}. Otherwise it stays quarantined."
    ).strip()
    return Move(IncidentState.AWAIT_APPROVAL, Reason.AWAIT_APPROVAL, text, until=until)


def decide_awaiting(case: Case) -> Decision:
    """Return the next decision in state AWAIT_APPROVAL: notify people, wait, and release the target
    only after an approval."""
    incident = case.incident
    if incident.readmitted and not incident.quarantined:
        return notify_once(case, "closed") or Move(IncidentState.CLOSED, Reason.READMITTED)
    if _has_new_alert(case):
        # The approval, if there is one, was given before the alert: it does not count for the next test.
        repaired = incident.repaired_at is not None
        state = IncidentState.VERIFYING if repaired else IncidentState.QUARANTINED
        return Move(state, Reason.NEW_ALERT)
    if incident.until is None or case.now >= incident.until:
        return give_up(case, Reason.APPROVAL_EXPIRED, _expired(case))
    if incident.approved is None:
        occasion = f"approval-{incident.requests}"
        return notify_once(case, occasion, incident.text) or Wait(incident.until)
    verdict = step_guards.return_to_service(case)
    if not verdict.allows:
        return held(verdict)
    release = case.actions.of(Effect.RELEASES)
    failed = [run for run in incident.runs(release.name) if run.state is StepState.FAILED]
    if len(failed) >= 2:
        return give_up(case, Reason.RELEASE_FAILED, failed[-1].text)
    step = plan.new_step(incident, release, plan.QUICK, also=incident.quarantined)
    order = incident.approved
    return Act(step, Reason.APPROVED, f"{order.by} approved the return to service: {order.why}")


def _has_new_alert(case: Case) -> bool:
    """Return whether an alert of the incident is active, or reports an event since the request."""
    event = case.facts.event_at
    new_event = event is not None and event > case.incident.since
    return new_event or case.facts.evidence.standing is AlertStatus.ACTIVE


def _expired(case: Case) -> str:
    incident = case.incident
    kept = f"{incident.target} stays quarantined."
    if incident.approved is None:
        return f"No operator approved the return of {incident.target} to service in time: {kept}"
    why = f" ({incident.held_text.rstrip('.')})" if incident.held_text else ""
    return (
        f"{incident.approved.by} approved the return of {incident.target} to service, but it was not "
        f"possible before the approval expired{why}: {kept}"
    )
