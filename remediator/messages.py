"""Build the payloads of notifications about one incident, or about many incidents with one cause. Pure.

A message may be delivered hours later, so its text contains points in time and no durations.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleetmedic.kernel.labels import Target
from remediator.core.action import Effect
from remediator.core.model import Incident, Step, StepState
from remediator.core.reasons import Reason

MOST_TARGETS = 20
MOST_ALERTS = 5
OCCASIONS = {
    "opened": "{target} needs attention: {alerts}{why}",
    "treated": "{target} is quarantined, and the remediator is handling it: {alerts}{why}",
    "quarantined": "{target} is quarantined: {alerts}{why}",
    "back": "{target} is back in service and healthy; the incident is closed.",
    "job_failed": "{target} has been failed by the remediator, because the job keeps failing: {alerts}{why}",
    "closed": "{target}: the incident is closed. {why}",
    "escalated": "{target} needs an operator: {alerts}{why}",
    "failed": "{target} needs an operator; the remediator takes no further action: {alerts}{why}",
    "overridden": "{target} is no longer quarantined, but may still be faulty: {alerts}{why}",
    "level": "{target} waits for an operator, because the automation level allows no further action: {alerts}{why}",
    "limit": "{target} is at its size limit: {alerts}{why}",
    "held": "{target} has been held since {since}: {why}",
    "orphaned": "{target} needs an operator: playbook {playbook} of its open incident is no longer configured.",
    "approval": "{target} waits for an approval: {alerts}{why} {commands}",
    "lane_failed": "{target} needs an operator: the remediator failed repeatedly on this target. {alerts}{why}",
}
HEALTHY = frozenset({Reason.READMITTED, Reason.HEALTHY_IN_SERVICE})


def occasion_of(step: Step) -> str:
    """Return the occasion of a `notify` step: the part of its id after the colon."""
    return step.id.partition(":")[2]


def incident_body(
    incident: Incident, occasion: str, op_id: str, refusal: str | None = None
) -> dict[str, Any]:
    """Return the payload about the current state of one incident.

    The part of the occasion after a hyphen, as in `held-budget_out`, is left out. `refusal` is the reason
    why this remediator may take no action; None if it may.
    """
    occasion = occasion.partition("-")[0]
    return {
        "text": _text(incident, occasion, op_id, refusal),
        "occasion": occasion,
        "op_id": op_id,
        "incident": incident.id,
        "target": str(incident.target),
        "state": str(incident.state),
        "reason": str(incident.current_reason[0]),
        "playbook": incident.playbook,
        "alerts": [one.alertname for one in incident.alerts],
    }


def approval_commands(incident: Incident) -> str:
    """Return the commands that approve or reject the incident's current request, as sentences."""
    number = f"{incident.id} --request {incident.requests} --reason WHY"
    return f"To approve: `fleetmedic approve {number}`. To reject: `fleetmedic reject {number}`."


def group_body(
    text: str, group: str, op_id: str, count: int, targets: Sequence[Target]
) -> dict[str, Any]:
    """Return the payload about `count` incidents with one cause, such as a pause. `text` describes the cause."""
    return {
        "text": text,
        "occasion": "held",
        "op_id": op_id,
        "group": group,
        "incidents": count,
        "targets": [str(target) for target in targets[:MOST_TARGETS]],
    }


def _text(incident: Incident, occasion: str, op_id: str, refusal: str | None) -> str:
    shown = "back" if occasion == "closed" and _back(incident) else occasion
    if occasion == "opened" and incident.quarantined:
        shown = "quarantined" if refusal else "treated"
    pattern = OCCASIONS.get(shown, "{target} needs attention: {alerts}{why}")
    text = pattern.format(
        target=incident.target,
        playbook=incident.playbook,
        alerts=_alerts(incident),
        since=_clock(incident.held_since or incident.since),
        why=_why(incident, occasion, op_id),
        commands=approval_commands(incident),
    ).strip()
    return text if refusal is None or refusal in text else f"{text} {refusal}"


def _back(incident: Incident) -> bool:
    """Return whether the target was released as healthy. At this time the incident is not closed yet."""
    released = incident.readmitted and not incident.quarantined
    return incident.released is None and (released or incident.reason in HEALTHY)


def _why(incident: Incident, occasion: str, op_id: str) -> str:
    """Return the reason for the message: the incident's current reason, or the result that ends the incident.

    The text of an announced `failed` or `limit` message is already the reason of the next state.
    """
    run = incident.prepared
    if occasion in ("failed", "limit") and run is not None and run.step.op_id == op_id and run.text:
        return run.text
    ending = {"closed": StepState.DONE, "failed": StepState.FAILED}.get(occasion)
    ended = [
        one.text
        for one in incident.counted_steps(incident.mark)
        if one.state is ending and one.step.effect is not Effect.NOTIFIES
    ]
    return ended[-1] if ended else incident.current_reason[1]


def _alerts(incident: Incident) -> str:
    """Return the names of the incident's alerts, as a sentence."""
    names = sorted({one.shown_name for one in incident.alerts})
    more = f" and {len(names) - MOST_ALERTS} more" if len(names) > MOST_ALERTS else ""
    return f"{', '.join(names[:MOST_ALERTS])}{more}. " if names else ""


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")
