"""Return the decisions about a job whose own command fails repeatedly, for playbooks with `jobs.then`.

The job is restarted on another node after each failure, and is failed when it has reached the limit.
Pure functions.
"""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import job_failures, plan, step_guards
from remediator.core.action import ActionSpec, Effect
from remediator.core.decision import Act, Case, Decision, Hold, Move, Wait, held
from remediator.core.ending import give_up, notify_once
from remediator.core.guards import Ruling, Verdict
from remediator.core.model import IncidentState, JobsPlan, StepState
from remediator.core.reasons import Reason

# How often (seconds) the job is checked for another failure. New alerts are handled immediately.
LOOK_AGAIN = 2.0
DEADLINE = 60.0
MOST_TRIES = 2


def decide_failing(case: Case, jobs: JobsPlan, then: ActionSpec) -> Decision:
    """Return the next decision about an unfinished job that fails repeatedly."""
    if notification := notify_once(case, "opened"):
        return notification
    if not case.facts.firing:
        text = f"The alert on {case.incident.target} is over, and the job keeps running."
        return Move(IncidentState.JOBS_MOVED, Reason.ALERT_GONE, text)
    if stuck := _stuck(case, then):
        return stuck
    if job_failures.no_trouble(case):
        return Wait(case.now + LOOK_AGAIN)
    if len(job_failures.recent_restarts(case)) < jobs.max_attempts:
        return _restart(case, jobs)
    return _fail(case, then)


def _stuck(case: Case, then: ActionSpec) -> Decision | None:
    """Return the decision if a step has failed so that an operator must act, otherwise None."""
    restart = case.actions.of(Effect.MOVES_JOBS)
    for action in (restart, then):
        failed = [run for run in case.incident.runs(action.name) if run.state is StepState.FAILED]
        if failed and failed[-1].reason is Reason.EFFECT_UNKNOWN:
            return give_up(case, Reason.EFFECT_UNKNOWN, failed[-1].text)
        if len(failed) >= MOST_TRIES:
            return give_up(case, Reason.JOB_STUCK, failed[-1].text)
    run = case.incident.last(restart.name)
    missing = run is not None and run.reason is Reason.EFFECT_MISSING
    if run is not None and missing and not case.facts.jobs[0].running:
        # There was no capacity until the deadline, so another attempt would not help.
        return give_up(case, Reason.JOB_STUCK, run.text)
    return None


def _restart(case: Case, jobs: JobsPlan) -> Decision:
    """Return the decision to restart the job on a node on which it has not failed."""
    running = case.facts.jobs[0].running
    verdict = step_guards.moves_running_jobs(case) if running else step_guards.moves_dead_jobs(case)
    if not verdict.allows:
        return _not_now(case, verdict)
    away = _away(case)
    if away is None:
        text = (
            f"No other node is in service, so {case.incident.target} cannot be restarted elsewhere."
        )
        return Hold(Reason.CAUSE_UNKNOWN, text)
    failures = case.facts.failures
    where = f" on {failures.node}" if failures.node else ""
    text = f"{case.incident.target} failed again{where}: {failures.text}."
    if not job_failures.failed_again(case):
        text = f"Another alert on {case.incident.target} started after its last restart."
    step = plan.new_step(
        case.incident,
        case.actions.of(Effect.MOVES_JOBS),
        jobs.deadline,
        jobs=(case.incident.target.name,),
        also=away,
    )
    return Act(step, Reason.MOVING_JOBS, text)


def _away(case: Case) -> tuple[Target, ...] | None:
    """Return the nodes to exclude: those on which the job failed, or only the last if no other node
    would be left. None if no node is left."""
    serving = set(case.facts.failures.in_service)
    last = case.facts.failures.node if job_failures.failed_again(case) else ""
    for names in (job_failures.failed_on(case), (last,) if last else ()):
        if serving.difference(names):
            return tuple(Target(TargetKind.NODE, name) for name in names)
    return None


def _fail(case: Case, then: ActionSpec) -> Decision:
    """Return the decision to fail the job, if nothing else can be the cause."""
    verdict = step_guards.fails_job(case, then)
    if not verdict.allows:
        return _not_now(case, verdict)
    step = plan.new_step(case.incident, then, DEADLINE, jobs=(case.incident.target.name,))
    return Act(step, Reason.JOB_FAILED, job_failures.verdict_text(case))


def _not_now(case: Case, verdict: Verdict) -> Decision:
    if verdict.ruling is Ruling.REFUSE:
        return give_up(case, verdict.reason, verdict.text)
    return held(verdict)
