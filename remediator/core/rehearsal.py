"""What would really be done where the level is `observe`: today's facts, guards and capabilities. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.core import gates, plan
from remediator.core.decision import Case, Would
from remediator.core.reasons import Reason


def rehearse(case: Case) -> Would:
    """The steps that the playbook's own level would allow, with what would hold each one now."""
    steps = tuple(_steps(case))
    return Would(
        tuple(action for action, _ in steps), Reason.OBSERVE_ONLY, tuple(text for _, text in steps)
    )


def _steps(case: Case) -> Iterator[tuple[str, str]]:
    target = case.incident.target
    for action, needed in plan.outline(case.playbook, target.kind):
        if needed.rank > case.playbook.level.rank:
            continue
        would = f"It would {plan.WOULD[action]} ({target})"
        if _impossible(case, action):
            yield action, f"It would not {plan.WOULD[action]} ({target}): this cluster cannot."
        elif action == "restart_jobs" and not case.view.jobs:
            yield action, f"{would}; no job is on it now."
        else:
            wait = _waits(case, action)
            yield action, f"{would}{f'; it would wait now: {wait}' if wait else '.'}"


def _impossible(case: Case, action: str) -> bool:
    needed = "probe" if action == "verify" else gates.CAPABILITY.get(action)
    return needed is not None and needed not in case.view.capabilities


def _waits(case: Case, action: str) -> str:
    """Why a disruptive step would wait now; nothing where it would not."""
    if action in plan.REPAIRS:
        return gates.disrupts(case).text
    if action == "restart_jobs":
        running = any(job.running for job in case.view.jobs)
        verdict = gates.moves_running_jobs(case) if running else gates.moves_dead_jobs(case)
        return verdict.text
    if action == "scale" and gates.shrinks(case):
        return gates.scales_in(case).text
    return ""
