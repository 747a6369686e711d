"""Finds the maintenance of notifications.yml that mutes an alert now, by Alertmanager's rules.

Alertmanager before 0.28 does not report alerts that a time interval mutes. So the remediator evaluates
the windows of the same file itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.intervals import Window, interval
from fleetmedic.alerting.settings import Maintenance, Matches, Notifications

# The dead man's switch: its route precedes the routes of maintenance, so no window mutes it.
_NEVER_MUTED = "Watchdog"


def is_open(window: Window, now: float) -> bool:
    """Whether the window is open at `now`, in Unix seconds. Raises UserError for an invalid window."""
    return interval(window).contains(now)


def matches(match: Matches, labels: Mapping[str, str]) -> bool:
    """Whether every expression matches its whole label; a missing label is the empty string."""
    return all(expression(text).fullmatch(labels.get(label, "")) for label, text in match.items())


def open_maintenance(
    given: Notifications, labels: Mapping[str, str], now: float
) -> Maintenance | None:
    """The first maintenance that matches the labels and has a window that is open at `now`.

    Compiled expressions are cached, so the call takes microseconds for each maintenance.
    """
    if labels.get("alertname") == _NEVER_MUTED:
        return None
    for each in given.maintenance:
        if matches(each.match, labels) and any(is_open(one, now) for one in each.windows):
            return each
    return None
