"""Implement the action that notifies people of an incident.

When the step ends, the message is in the journal. The outbox then tries to deliver it for up to a
day, so that no step waits for a receiver.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Observation, Tools
from remediator.core.model import Step
from remediator.messages import incident_body, occasion_of


@dataclass(frozen=True, slots=True)
class Notify:
    """The action `notify`. It ends immediately, because `outcome_events` writes the message into
    the journal."""

    name: str = "notify"
    disruptive: bool = False

    async def observe(self, step: Step, tools: Tools) -> Observation:
        refusal = tools.senses.refusal()
        body = incident_body(tools.incident, occasion_of(step), step.op_id, refusal)
        return Observation(True, f"Notification queued: {body['text']}")

    async def act(self, step: Step, tools: Tools) -> None:
        """Do nothing here, because the outbox sends the notification."""
