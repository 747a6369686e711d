"""Collect the hardware that active alerts report as unhealthy.

It is used to detect storms, and to keep moved jobs off that hardware.
"""

from __future__ import annotations

from collections.abc import Callable

from fleetmedic.kernel.labels import Target
from remediator.alert_states import AlertStates
from remediator.core.evidence import AlertStatus
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, FaultClass, Playbook
from remediator.core.routing import Route, last_repaired_at

MOST_ROUTES = 100_000


class ReportedHardware:
    """The hardware named by alerts of playbooks that quarantine hardware.

    `route` returns the playbook and target of an alert.
    """

    def __init__(self, journal_state: JournalState, route: Callable[[Alert], Route]) -> None:
        self._state = journal_state
        self._route = route
        self._targets: dict[tuple[str, str], Target | None] = {}
        self._cached: tuple[object, frozenset[Target]] = (None, frozenset())

    def active(self, alerts: AlertStates, now: float) -> frozenset[Target]:
        """Return the hardware that active alerts report now.

        Alerts that are silenced, inhibited, muted, over, or older than the target's repair do not count.
        Computed at most twice a second, because thousands of alerts may arrive in one second.
        """
        key = (alerts.version, int(now * 2))
        if self._cached[0] != key:
            self._cached = (key, frozenset(self._active(alerts)))
        return self._cached[1]

    def is_reported(self, target: Target, alerts: AlertStates) -> bool:
        """Return whether a firing hardware alert, silenced ones included, names the target."""
        listed = (*alerts.active(), *(alert for alert, _ in alerts.withheld()))
        fires = (one.alert for one in self._state.firing_records())
        return any(self._target(alert) == target for alert in (*listed, *fires))

    def concerns(self, alert: Alert, playbook: Playbook) -> bool:
        """Return whether an alert justifies the actions of a playbook.

        This is the case if the alert's own playbook acts on the same class of fault. For example,
        an application error on a GPU is not a signal that the GPU is faulty.
        """
        own = self._route(alert).playbook
        if own is None or playbook.notify_only:
            return playbook.notify_only
        return not own.notify_only and own.fault_class is playbook.fault_class

    def _active(self, alerts: AlertStates) -> set[Target]:
        found: set[Target] = set()
        for alert in alerts.active():
            self._add_reported(alert, found)
        for record in self._state.firing_records():
            if self._target(record.alert) is None:
                continue
            standing = alerts.evidence(record.alert, record.received).standing
            if standing in (AlertStatus.ACTIVE, AlertStatus.UNKNOWN):
                self._add_reported(record.alert, found)
        return found

    def _add_reported(self, alert: Alert, found: set[Target]) -> None:
        target = self._target(alert)
        if target is not None and alert.starts_at > last_repaired_at(target, self._state):
            found.add(target)

    def _target(self, alert: Alert) -> Target | None:
        """Return the hardware that an alert reports, or None. Results are cached by fingerprint and alert name."""
        key = (alert.fingerprint, alert.name)
        if key not in self._targets:
            if len(self._targets) >= MOST_ROUTES:
                self._targets.clear()
            route = self._route(alert)
            hardware = route.playbook is not None and (
                route.playbook.fault_class is FaultClass.HARDWARE and route.playbook.quarantine
            )
            self._targets[key] = route.target if hardware else None
        return self._targets[key]
