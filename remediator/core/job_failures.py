"""Determine whether a job itself causes its failures, or the hardware on which it runs. Pure functions.

Only failures since the incident was opened count, because restarts before it may have been moves off
failed hardware. Each restart by the remediator needs a new failure.
"""

from __future__ import annotations

from remediator.core.action import Effect
from remediator.core.decision import Case
from remediator.core.model import StepRun, StepState

# A job that has run for this long (seconds) since its last failure is not failing now. The embedded cluster
# forgets failures after the same time.
FAILURE_COUNTS_FOR = 600.0


def restarts(case: Case) -> tuple[StepRun, ...]:
    """Return the completed restarts of the job in this incident, oldest first."""
    runs = case.incident.runs_with(Effect.MOVES_JOBS)
    return tuple(run for run in runs if run.state is StepState.DONE)


def counts_from(case: Case) -> float:
    """Return the time since which failures count (Unix seconds): the last restart by this incident,
    otherwise its opening or an operator's retry."""
    opened = max(case.incident.opened, case.incident.retried_at or 0.0)
    return max((run.ended or run.started for run in restarts(case)), default=opened)


def failed_again(case: Case) -> bool:
    """Return whether the job's command has failed by itself since the last restart, and recently."""
    return _counts(case, case.facts.failures.at)


def alerted_again(case: Case) -> bool:
    """Return whether another alert on the job, such as a stall, has started since the last restart."""
    at = case.facts.failures.alerted_at
    return at is not None and at > counts_from(case)


def failed_on(case: Case) -> tuple[str, ...]:
    """Return the nodes on which the job has failed in this incident, sorted. The last node is
    included only if it is known."""
    before = {target.name for run in restarts(case) for target in run.step.also}
    now = {case.facts.failures.node} if failed_again(case) and case.facts.failures.node else set()
    return tuple(sorted(before | now))


def recent_restarts(case: Case) -> tuple[float, ...]:
    """Return the times of the restarts of the job that count for the playbook's limit (Unix seconds)."""
    jobs = case.playbook.jobs
    action = case.actions.of(Effect.MOVES_JOBS).name
    since = case.now - (jobs.window if jobs else 0.0)
    return tuple(
        at
        for name, target, at in case.facts.attempts
        if name == action and target == case.incident.target and at > since
    )


def below_limit(case: Case) -> str:
    """Return a text if the job was restarted less often than the playbook requires before it is failed."""
    most = case.playbook.jobs.max_attempts if case.playbook.jobs else 0
    found = len(recent_restarts(case))
    if 0 < most <= found:
        return ""
    return f"{case.incident.target} was restarted {found} times; the playbook requires {most} restarts first."


def no_trouble(case: Case) -> str:
    """Return why the job needs no restart: it has not failed again. Empty if it has, or if the playbook
    restarts jobs for another reason."""
    if not case.playbook.ends_jobs or failed_again(case) or alerted_again(case):
        return ""
    return f"{case.incident.target} has not failed by itself since its last restart."


def doubt(case: Case) -> str:
    """Return why it is not certain that the job itself causes its failures; empty if it is certain."""
    failures, job = case.facts.failures, case.incident.target
    nodes = failed_on(case)
    if not failed_again(case):
        return f"{job} has not failed again since its last restart, or the cluster does not report its failures."
    if not failures.node:
        return f"The cluster does not report on which node {job} failed."
    if len(nodes) < 2:
        return f"{job} has failed on {nodes[0]} only; the cause may be this node."
    if sick := sorted(failures.suspects.intersection(nodes)):
        return f"Hardware of {', '.join(sick)} is reported unhealthy, and {job} failed there."
    if failures.others:
        return (
            f"Other jobs ({failures.others}) restart repeatedly at the same time, which suggests a shared cause, "
            "such as storage or the network."
        )
    return ""


def verdict_text(case: Case) -> str:
    """Return the reason for which the job is failed: what was tried, where, and the last failure."""
    done = len(restarts(case))
    times = "once" if done == 1 else f"{done} times"
    text = f"The job kept failing on {', '.join(failed_on(case))}, although it was restarted elsewhere {times}."
    last = case.facts.failures.text
    return f"{text} Last failure, on {case.facts.failures.node}: {last}." if last else text


def _counts(case: Case, at: float | None) -> bool:
    return at is not None and at > counts_from(case) and case.now - at <= FAILURE_COUNTS_FOR
