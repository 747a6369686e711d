"""Which maintenance of notifications.yml mutes an alert now, as Alertmanager decides it.

Alertmanager before 0.28 does not report what a time interval mutes, so the remediator evaluates the
windows of the same file itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.intervals import Window, interval
from fleetmedic.alerting.settings import Maintenance, Matches, Notifications

# The dead man's switch: its route comes before those of maintenance, so no window mutes it.
_NEVER_MUTED = "Watchdog"


def is_open(window: Window, now: float) -> bool:
    """Whether the window is open at `now`, in Unix seconds. Raises UserError for an invalid window."""
    return interval(window).contains(now)


def matches(match: Matches, labels: Mapping[str, str]) -> bool:
    """Whether every expression matches the whole of its label; a missing label is the empty string."""
    return all(expression(text).fullmatch(labels.get(label, "")) for label, text in match.items())


def open_maintenance(
    given: Notifications, labels: Mapping[str, str], now: float
) -> Maintenance | None:
    """The first maintenance that matches the labels and has a window that is open at `now`.

    What is compiled is cached, so the call takes microseconds for each maintenance.
    """
    if labels.get("alertname") == _NEVER_MUTED:
        return None
    for each in given.maintenance:
        if matches(each.match, labels) and any(is_open(one, now) for one in each.windows):
            return each
    return None
