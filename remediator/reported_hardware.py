"""Collect the hardware that active alerts report as unhealthy.

It is used to detect storms, and to keep moved jobs off that hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.labels import Target
from remediator.alert_states import AlertStates
from remediator.core.evidence import AlertStatus
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, FaultClass, Playbook
from remediator.core.routing import Route, last_repaired_at

# The least age and the largest age (seconds) of the result while events are written to the journal.
SOONEST = 0.5
LATEST = 2.0
# Without changes, the result is still computed again after this time (seconds), because windows open and close.
OLDEST = 5.0
BUSY_SHARE = 0.05


class Reported:
    """The hardware that active alerts reported as unhealthy at one moment."""

    def __init__(self, targets: Iterable[Target] = ()) -> None:
        self.targets = frozenset(targets)

    @cached_property
    def ordered(self) -> tuple[Target, ...]:
        """The targets in order."""
        return tuple(sorted(self.targets))


class ReportedHardware:
    """The hardware named by alerts of playbooks that quarantine hardware.

    `route` returns the playbook and target of an alert. `monotonic` returns seconds.
    """

    def __init__(
        self,
        journal_state: JournalState,
        route: Callable[[Alert], Route],
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._state = journal_state
        self._route = route
        self._reported = Reported()
        self._inputs = (-1, -1)
        self._computed_at = -1e9
        self._took = 0.0

    def active(self, alerts: AlertStates) -> Reported:
        """Return the hardware that active alerts report now.

        Alerts that are silenced, inhibited, muted, over, or older than the target's repair do not count.
        A new response of Alertmanager counts at once. Otherwise the result is computed at most twice a
        second, because thousands of alerts may arrive in one second.
        """
        began, inputs = self._monotonic(), (alerts.version, self._state.seq)
        if began - self._computed_at >= self._least_age(inputs):
            found = self._active(alerts)
            if found != self._reported.targets:
                self._reported = Reported(found)
            self._inputs, self._computed_at = inputs, began
            self._took = self._monotonic() - began
        return self._reported

    def _least_age(self, inputs: tuple[int, int]) -> float:
        """Return the age (seconds) from which the last result is computed again."""
        if inputs[0] != self._inputs[0]:
            return 0.0
        if inputs == self._inputs:
            return OLDEST
        return min(LATEST, max(SOONEST, self._took / BUSY_SHARE))

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
            target = self._target(record.alert)
            if target is None or target in found:
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
        """Return the hardware that an alert reports, or None."""
        found = self._route(alert)
        hardware = found.playbook is not None and (
            found.playbook.fault_class is FaultClass.HARDWARE and found.playbook.quarantine
        )
        return found.target if hardware else None
