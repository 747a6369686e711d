"""The playbooks, limits and maximum automation level of a running remediator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from remediator.actions.registry import catalogue
from remediator.core.action import ActionCatalogue
from remediator.core.guards import Limits
from remediator.core.model import Alert, FaultClass, Incident, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.routing import Route, route
from remediator.core.settle import RECURRENCE_WINDOW, Terms


@dataclass(frozen=True, slots=True)
class Policy:
    """The configuration for the engine's decisions. It does not change while the engine runs.

    `idle` is the longest time (seconds) between two decisions on an incident. `cluster` is the
    value of the label `cluster`. `actions` are the declarations of the actions that playbooks use.
    """

    playbooks: tuple[Playbook, ...]
    limits: Limits
    ceiling: Level
    factor: float
    idle: float
    cluster: str
    actions: ActionCatalogue = field(default_factory=catalogue)

    def route(self, alert: Alert) -> Route:
        """Return the playbook and the target of an alert, by the configured playbooks."""
        return route(alert, self.playbooks, self.cluster)

    def is_watchdog(self, alert: Alert) -> bool:
        """Return whether an alert is the Watchdog (dead man's switch)."""
        return self.route(alert).reason is Reason.DEAD_MAN_SIGNAL

    @property
    def terms(self) -> Terms:
        """Return the limits that apply to new incidents."""
        shrinking = (one.name for one in self.playbooks if one.scale and one.scale.step < 0)
        window = RECURRENCE_WINDOW / self.factor
        return Terms(self.ceiling, window, frozenset(shrinking), self.limits.pin)

    def playbook(self, name: str) -> Playbook | None:
        """Return the playbook of that name, or None if it is not configured.

        Its `widen_to` is removed if the other playbook is missing or only observes.
        """
        found = next((one for one in self.playbooks if one.name == name), None)
        wider = next((one for one in self.playbooks if found and one.name == found.widen_to), None)
        if found and (wider is None or Level.OBSERVE in (wider.level, self.ceiling)):
            return replace(found, widen_to=None)
        return found


def unconfigured(incident: Incident) -> Playbook:
    """Return an empty playbook, to release the quarantines of a playbook that is no longer configured."""
    return Playbook(
        incident.playbook,
        (),
        (),
        incident.target.kind,
        FaultClass.SERVICE,
        Level.REPAIR,
        notify=False,
    )
