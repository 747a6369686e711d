"""Return the decisions about the jobs on a quarantined target, until no job is left. Pure
functions.

A job whose processes are dead is restarted immediately. A running job is moved only after the
initial hold, with the number of signals that the playbook requires, and after a checkpoint if the
job can write one.
"""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import guards, plan, step_guards
from remediator.core.action import Effect
from remediator.core.decision import Act, Case, Decision, Move, Wait, held
from remediator.core.ending import beyond_level, give_up
from remediator.core.facts import TargetJob
from remediator.core.failing import decide_failing
from remediator.core.guards import Ruling, Verdict
from remediator.core.model import IncidentState, JobsPlan, Level, StepRun, StepState
from remediator.core.reasons import Reason

MOST_MOVES = 4


def decide_quarantined(case: Case) -> Decision:
    """Return the next decision in state QUARANTINED. It depends on whether jobs run on the target,
    and whether they may be moved."""
    if not case.facts.firing:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    jobs = case.playbook.jobs
    affected = _affected(case)
    if jobs is None or not jobs.restart or not affected:
        if case.facts.known:
            reason = Reason.JOBS_MOVED if jobs is None else Reason.NO_JOBS
            return Move(IncidentState.JOBS_MOVED, reason)
        return held(guards.target_known(False))
    if case.level.rank < Level.DRAIN.rank:
        return beyond_level(
            case, (case.actions.of(Effect.SAVES), case.actions.of(Effect.MOVES_JOBS))
        )
    if any(not job.running for job in affected):
        return _refused(case, step_guards.moves_dead_jobs(case)) or Move(
            IncidentState.DRAINING, Reason.MOVING_JOBS
        )
    if step_guards.evidence_is_stale(case):
        return Move(IncidentState.VERIFYING, Reason.HELD_LONG)
    if case.incident.target.kind is TargetKind.NODE and not step_guards.any_repair_supported(case):
        text = (
            "This cluster supports none of the node's repairs, so its running jobs are not moved."
        )
        return give_up(case, Reason.UNSUPPORTED, text)
    if refused := _refused(case, step_guards.moves_running_jobs(case)):
        return refused
    if _needs_checkpoint(case):
        return Move(IncidentState.CHECKPOINTING, Reason.SAVING)
    return Move(IncidentState.DRAINING, Reason.MOVING_JOBS)


def _needs_checkpoint(case: Case) -> bool:
    """Return whether the jobs must be signalled to write a checkpoint before they are moved."""
    jobs = case.playbook.jobs
    signal = case.actions.of(Effect.SAVES)
    able = not case.shape.unsupported(signal)
    return bool(jobs and jobs.signal and able and case.incident.last(signal.name) is None)


def _refused(case: Case, verdict: Verdict) -> Decision | None:
    """Return the decision if the verdict does not allow moving jobs now; None if moving is allowed.

    If there are too few signals and no alert is active, the target is verified, so that a running
    job does not keep it quarantined.
    """
    if verdict.allows:
        return None
    if verdict.ruling is Ruling.REFUSE:
        return give_up(case, verdict.reason, verdict.text)
    if verdict.reason is Reason.WITNESSES and not case.facts.alerts_active:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    return held(verdict)


def decide_checkpointing(case: Case) -> Decision:
    """Return the next decision in state CHECKPOINTING: signal the jobs, then wait for the
    checkpoint, at most the grace period."""
    return save_checkpoints(case, case.facts.jobs) or Move(
        IncidentState.DRAINING, Reason.MOVING_JOBS
    )


def decide_draining(case: Case) -> Decision:
    """Return the next decision in state DRAINING: restart the target's jobs elsewhere, dead jobs
    first."""
    if case.level.rank < Level.DRAIN.rank:  # the level was lowered since
        return give_up(case, Reason.LEVEL)
    jobs = case.playbook.jobs
    assert jobs is not None  # noqa: S101 - the table leads here only with a plan for jobs
    if case.incident.target.kind is TargetKind.JOB:
        return _one_job(case, jobs)
    if not case.facts.known:
        return held(guards.target_known(False))
    affected = _affected(case)
    if not affected:
        return Move(IncidentState.JOBS_MOVED, Reason.JOBS_MOVED)
    if not case.facts.firing:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    dead = tuple(job for job in affected if not job.running)
    if dead:
        return _refused(case, step_guards.moves_dead_jobs(case)) or move_jobs(case, dead)
    if step_guards.evidence_is_stale(case) and not _moves(case):
        return Move(IncidentState.VERIFYING, Reason.HELD_LONG)
    if refused := _refused(case, step_guards.moves_running_jobs(case)):
        return refused
    if _needs_checkpoint(case):
        return Move(IncidentState.CHECKPOINTING, Reason.SAVING)
    return move_jobs(case, affected)


def save_checkpoints(
    case: Case, jobs: tuple[TargetJob, ...], on: Target | None = None
) -> Decision | None:
    """Return the next decision to get a checkpoint of these jobs, or None when all have finished."""
    running = tuple(job.job_id for job in jobs if job.running)
    signal = case.actions.of(Effect.SAVES)
    name = plan.step_on_node(signal) if on else signal.name
    told = case.incident.last(name)
    if told is None:
        if not running or case.shape.unsupported(signal):
            return None
        verdict = step_guards.alert_driven_step(case)
        if not verdict.allows:
            return held(verdict)
        step = plan.new_step(case.incident, signal, plan.QUICK, on=on, name=name, jobs=running)
        return Act(step, Reason.SAVING)
    if told.state is not StepState.DONE or not running or case.playbook.jobs is None:
        return None
    saved = case.facts.checkpoint_at is not None and case.facts.checkpoint_at >= told.started
    grace_over = (told.ended or told.started) + case.playbook.jobs.grace
    return None if saved or case.now >= grace_over else Wait(min(grace_over, case.now + 0.5))


def move_jobs(case: Case, jobs: tuple[TargetJob, ...], on: Target | None = None) -> Decision:
    """Return the decision to restart these jobs elsewhere, or to escalate after too many attempts."""
    verdict = step_guards.alert_driven_step(case)
    if not verdict.allows:
        return held(verdict)
    restart = case.actions.of(Effect.MOVES_JOBS)
    name = plan.step_on_node(restart) if on else restart.name
    runs = case.incident.runs(name)
    failed = [run for run in runs if run.state is StepState.FAILED]
    if len(failed) >= 2 or len(runs) >= MOST_MOVES:
        return give_up(case, Reason.JOB_STUCK, runs[-1].text)
    names = tuple(job.job_id for job in jobs)
    deadline = case.playbook.jobs.deadline if case.playbook.jobs else 60.0
    step = plan.new_step(
        case.incident,
        restart,
        deadline,
        on=on,
        name=name,
        jobs=names,
        also=tuple(one for one in case.facts.reported_hardware if one != case.incident.target),
    )
    return Act(step, Reason.MOVING_JOBS)


def _affected(case: Case) -> tuple[TargetJob, ...]:
    """Return the jobs on the target, and as dead jobs those that ran there when it was quarantined.

    The cluster may move a dead job itself after the quarantine. The restart is still requested, to
    confirm that the job runs elsewhere. It has no effect on a job that has already moved.
    """
    run = case.incident.last(plan.quarantine(case.actions, case.incident).id)
    seen = {job.job_id for job in case.facts.jobs}
    seen |= {job for one in _moves(case) if one.state is StepState.DONE for job in one.step.jobs}
    left = tuple(TargetJob(job, False) for job in (run.step.jobs if run else ()) if job not in seen)
    return case.facts.jobs + left


def _moves(case: Case) -> tuple[StepRun, ...]:
    """Return the runs of the step that restarts the jobs on the target."""
    return case.incident.runs(case.actions.of(Effect.MOVES_JOBS).name)


def _one_job(case: Case, jobs: JobsPlan) -> Decision:
    """Return the next decision for an incident about a job: restart the job, at most as often as
    the playbook allows."""
    restart = case.actions.of(Effect.MOVES_JOBS)
    if jobs.then is not None and case.incident.done(jobs.then.name):
        failed = case.incident.last(jobs.then.name)
        return Move(IncidentState.JOBS_MOVED, Reason.JOB_FAILED, failed.text if failed else "")
    restarted = case.incident.done(restart.name) and jobs.then is None
    if restarted and (case.facts.jobs or not case.facts.known):
        return Move(IncidentState.JOBS_MOVED, Reason.JOB_RESTARTED)
    if not case.facts.known:
        return held(guards.target_known(False))
    if not case.facts.job_known:
        text = f"The cluster no longer knows {case.incident.target}."
        return give_up(case, Reason.UNKNOWN_JOB, text)
    if not case.facts.jobs:
        return Move(IncidentState.JOBS_MOVED, Reason.NO_JOBS, f"{case.incident.target} has ended.")
    if jobs.then is not None:
        return decide_failing(case, jobs, jobs.then)
    run = case.incident.last(restart.name)
    if run is not None and run.reason is Reason.EFFECT_MISSING and not case.facts.jobs[0].running:
        # There was no capacity until the deadline, so another attempt would not help.
        return give_up(case, Reason.JOB_STUCK, run.text)
    if not case.facts.firing:
        text = f"The alert on {case.incident.target} ended before the job was restarted."
        return Move(IncidentState.JOBS_MOVED, Reason.ALERT_GONE, text)
    earlier = tuple(
        at
        for action, target, at in case.facts.attempts
        if action == restart.name and target == case.incident.target
    )
    verdict = guards.attempts(earlier, jobs.max_attempts, jobs.window, case.now)
    if verdict.ruling is Ruling.REFUSE:
        return give_up(case, Reason.ATTEMPTS, verdict.text)
    running = case.facts.jobs[0].running
    verdict = step_guards.moves_running_jobs(case) if running else step_guards.moves_dead_jobs(case)
    if verdict.ruling is Ruling.REFUSE:
        return give_up(case, verdict.reason, verdict.text)
    return move_jobs(case, case.facts.jobs) if verdict.allows else held(verdict)
