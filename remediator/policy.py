"""What the remediator goes by while it runs: playbooks, limits, the ceiling over every level."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remediator.core.guards import Limits
from remediator.core.model import Alert, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.routing import Route, route
from remediator.core.settle import RECURRENCE_WINDOW, Terms


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change while the engine runs. `idle` is the longest time between two looks;
    `cluster` is the value of the label of that name."""

    playbooks: tuple[Playbook, ...]
    limits: Limits
    ceiling: Level
    factor: float
    idle: float
    cluster: str

    def route(self, alert: Alert) -> Route:
        """Where an alert leads in this cluster."""
        return route(alert, self.playbooks, self.cluster)

    def is_watchdog(self, alert: Alert) -> bool:
        """Whether an alert is the dead man's switch."""
        return self.route(alert).reason is Reason.DEAD_MAN_SIGNAL

    @property
    def terms(self) -> Terms:
        """What limits new incidents."""
        shrinking = (one.name for one in self.playbooks if one.scale and one.scale.step < 0)
        return Terms(self.ceiling, RECURRENCE_WINDOW / self.factor, frozenset(shrinking))

    def playbook(self, name: str) -> Playbook | None:
        """The playbook of that name, if it is still configured; it widens to nothing that only observes."""
        found = next((one for one in self.playbooks if one.name == name), None)
        wider = next((one for one in self.playbooks if found and one.name == found.widen_to), None)
        if found and (wider is None or Level.OBSERVE in (wider.level, self.ceiling)):
            return replace(found, widen_to=None)
        return found
