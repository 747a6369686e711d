"""A decision in brief, as tests compare it."""

from __future__ import annotations

from remediator.core.decision import Act, Decision, Hold, Move, Rehearse, Widen


def brief(decision: Decision) -> tuple[str, object]:
    """The kind of a decision, and what matters of it."""
    match decision:
        case Act(step, _, _):
            return "act", step.id
        case Move(state, _, _, _, _):
            return "move", state
        case Hold(reason, _, _):
            return "hold", reason
        case Rehearse(actions, _):
            return "would", actions
        case Widen():
            return "widen", None
        case _:
            return "wait", None


def outcome(decision: Decision) -> tuple[str, object]:
    """The same, and of a move its reason too."""
    if isinstance(decision, Move):
        return "move", (decision.state, decision.reason)
    return brief(decision)
