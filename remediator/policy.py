"""The playbooks, limits and maximum automation level of a running remediator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from remediator.actions.registry import catalogue
from remediator.core.action import ActionCatalogue
from remediator.core.guards import Limits
from remediator.core.model import Alert, FaultClass, Incident, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.routing import Route, route
from remediator.core.settle import RECURRENCE_WINDOW, Terms

MOST_ROUTES = 100_000


@dataclass(frozen=True)
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
    _routes: dict[str, tuple[Alert, Route]] = field(default_factory=dict, compare=False)

    def route(self, alert: Alert) -> Route:
        """Return the playbook and the target of an alert, by the configured playbooks.

        The result depends on the labels only, so it is kept for an alert that is sent repeatedly.
        """
        known = self._routes.get(alert.fingerprint)
        if known is not None and known[0].labels == alert.labels:
            return known[1]
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        found = route(alert, self.playbooks, self.cluster)
        self._routes[alert.fingerprint] = (alert, found)
        return found

    def is_watchdog(self, alert: Alert) -> bool:
        """Return whether an alert is the Watchdog (dead man's switch)."""
        return self.route(alert).reason is Reason.DEAD_MAN_SIGNAL

    @cached_property
    def terms(self) -> Terms:
        """Return the limits that apply to new incidents."""
        shrinking = (one.name for one in self.playbooks if one.scale and one.scale.step < 0)
        window = RECURRENCE_WINDOW / self.factor
        return Terms(self.ceiling, window, frozenset(shrinking), self.limits.pin)

    def playbook(self, name: str) -> Playbook | None:
        """Return the playbook of that name, or None if it is not configured.

        Its `widen_to` is removed if the other playbook is missing or only observes.
        """
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Playbook]:
        named = {one.name: one for one in reversed(self.playbooks)}

        def widening(one: Playbook) -> Playbook:
            wider = named.get(one.widen_to or "")
            if wider is None or Level.OBSERVE in (wider.level, self.ceiling):
                return replace(one, widen_to=None)
            return one

        return {name: widening(one) for name, one in named.items()}


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
