"""Determine what the remediator would do at level `observe` with the current facts. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.core import job_failures, step_guards
from remediator.core.action import ActionSpec, Effect
from remediator.core.decision import Case, Rehearse
from remediator.core.reasons import Reason


def rehearse(case: Case) -> Rehearse:
    """Return the actions that the playbook's level allows, each with a description of what would
    block it now."""
    steps = tuple(_steps(case))
    return Rehearse(
        tuple(action for action, _ in steps), Reason.OBSERVE_ONLY, tuple(text for _, text in steps)
    )


def _steps(case: Case) -> Iterator[tuple[ActionSpec, str]]:
    target = case.incident.target
    for planned in case.shape.planned:
        action = planned.action
        if planned.level.rank > case.playbook.level.rank:
            continue
        would = f"The remediator would {action.would} ({target})"
        if not planned.kept:
            yield action, f"The remediator would not {action.would} ({target}): {planned.text}"
        elif action.effect is Effect.MOVES_JOBS and not case.facts.jobs:
            yield action, f"{would}, but no job runs on it now."
        else:
            wait = _waits(case, action)
            limits = f" {planned.note[0].upper()}{planned.note[1:]}." if planned.note else ""
            said = f"{would}{f', but the step would wait now: {wait}' if wait else '.'}"
            yield action, f"{said}{limits}"


def _waits(case: Case, action: ActionSpec) -> str:
    """Return the reason why a disruptive step would be held now; empty if the step would start."""
    if action.effect is Effect.REPAIRS:
        return step_guards.disruptive_step(case).text
    if action.effect is Effect.FAILS_JOBS:
        return job_failures.below_limit(case) or job_failures.doubt(case)
    if action.effect is Effect.MOVES_JOBS:
        if text := job_failures.no_trouble(case):
            return text
        running = any(job.running for job in case.facts.jobs)
        verdict = (
            step_guards.moves_running_jobs(case) if running else step_guards.moves_dead_jobs(case)
        )
        return verdict.text
    if action.effect is Effect.SCALES and step_guards.is_scale_in(case):
        return step_guards.scales_in(case).text
    return ""
