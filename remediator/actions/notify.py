"""Notifies people of an incident. The message becomes durable with the end of this step.

The outbox then delivers the message for up to a day, so that no step waits for a receiver.
"""

from __future__ import annotations

from dataclasses import dataclass

from remediator.actions.base import Look, Tools
from remediator.core.model import Step
from remediator.messages import incident_body, occasion_of


@dataclass(frozen=True, slots=True)
class Notify:
    """`notify`. Ends at once: `outcome_events` writes the message into the journal."""

    name: str = "notify"
    disruptive: bool = False

    async def observe(self, step: Step, tools: Tools) -> Look:
        body = incident_body(tools.incident, occasion_of(step), step.op_id)
        return Look(True, f"People are notified: {body['text']}")

    async def act(self, step: Step, tools: Tools) -> None:
        """Nothing to do: the outbox sends the message."""
