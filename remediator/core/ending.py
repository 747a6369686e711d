"""How an incident stops short: the level goes no further, a person is needed, or nothing is left. Pure."""

from __future__ import annotations

from remediator.core import plan
from remediator.core.decision import Act, Case, Decision, Move, Wait, Would
from remediator.core.model import State
from remediator.core.reasons import Reason


def give_up(case: Case, reason: Reason, text: str = "") -> Decision:
    """Hand over to a person. What we quarantined stays so, and the incident stays with it."""
    if case.incident.quarantined:
        return Move(State.ESCALATED, reason, text)
    return told(case, "failed") or Move(State.FAILED, reason, text)


def told(case: Case, occasion: str) -> Decision | None:
    """Tell people, once per occasion; None when that is done, or the playbook tells nobody."""
    if not case.playbook.notify or case.incident.last(f"notify:{occasion}") is not None:
        return None
    return Act(plan.notify(case.incident, occasion), Reason.STEP_ALLOWED, "People are told.")


def beyond_level(case: Case, actions: tuple[str, ...]) -> Decision:
    """The level in force ends here: write down what is not done, tell people, wait for a person.

    When every alert is over and no job is left on it, tests decide whether somebody has healed it.
    """
    if not case.incident.rehearsed:
        return Would(actions, Reason.LEVEL)
    if telling := told(case, "level"):
        return telling
    if not case.view.firing and not case.view.jobs:
        return Move(State.VERIFYING, Reason.ALERT_RESOLVED)
    return Wait()


def decide_escalated(case: Case) -> Decision:
    """ESCALATED: people are told once; then it is their turn."""
    return told(case, "escalated") or Wait()
