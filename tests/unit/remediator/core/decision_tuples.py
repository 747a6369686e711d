"""Convert decisions to short tuples, which tests compare."""

from __future__ import annotations

from remediator.core.decision import Act, Decision, Hold, Move, Rehearse, Widen


def as_tuple(decision: Decision) -> tuple[str, object]:
    """Return the type of a decision and its main value, such as the step or the new state."""
    match decision:
        case Act(step, _, _):
            return "act", step.id
        case Move(state, _, _, _, _):
            return "move", state
        case Hold(reason, _, _):
            return "hold", reason
        case Rehearse(actions, _):
            return "would", tuple(action.name for action in actions)
        case Widen():
            return "widen", None
        case _:
            return "wait", None


def as_tuple_with_reason(decision: Decision) -> tuple[str, object]:
    """Return the same tuple, with the reason in addition for a Move."""
    if isinstance(decision, Move):
        return "move", (decision.state, decision.reason)
    return as_tuple(decision)
