"""Implement the action that notifies people of an incident.

When the step ends, the message is in the journal. The outbox then tries to deliver it for up to a
day, so that no step waits for a receiver.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.labels import TargetKind
from remediator.actions.base import Action, Observation, Tools
from remediator.core.action import ActionSpec, Effect, Level
from remediator.core.model import Step
from remediator.messages import incident_body, occasion_of


@dataclass(frozen=True, slots=True)
class Notify(Action):
    """The action `notify`. It ends immediately, because `outcome_events` writes the message into
    the journal."""

    spec: ActionSpec = ActionSpec(
        "notify",
        Effect.NOTIFIES,
        Level.QUARANTINE,
        frozenset(TargetKind),
        would="notify people",
        did="",
    )

    async def observe(self, step: Step, tools: Tools) -> Observation:
        refusal = tools.senses.refusal()
        body = incident_body(tools.incident, occasion_of(step), step.op_id, refusal)
        state = "queued" if tools.addresses else "recorded, not sent (notify.webhooks is empty)"
        return Observation(True, f"Notification {state}: {body['text']}")

    async def act(self, step: Step, tools: Tools) -> None:
        """Do nothing here, because the outbox sends the notification."""
