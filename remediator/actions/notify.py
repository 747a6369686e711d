"""Tell people: always in the log, and to every address that the settings name.

Whether a message arrived cannot be observed later, so after a crash it is sent again: at least once,
with the operation's id in it for the receiver to tell a repetition by.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from remediator.actions.base import Look, Tools
from remediator.core.model import Step


@dataclass(frozen=True, slots=True)
class Notify:
    """`notify`."""

    name: str = "notify"
    disruptive: bool = False
    _sent: dict[str, str] = field(default_factory=dict)

    async def observe(self, step: Step, tools: Tools) -> Look:
        if step.op_id in self._sent:
            return Look(True, self._sent.pop(step.op_id))
        return Look(False, "Nobody was told yet.")

    async def act(self, step: Step, tools: Tools) -> None:
        occasion = step.id.partition(":")[2]
        self._sent[step.op_id] = await tools.notifier.tell(tools.incident, occasion, step.op_id)
