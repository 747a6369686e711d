"""Find the maintenance window in notifications.yml that mutes an alert now, by Alertmanager's rules.

Alertmanager before 0.28 does not report which alerts a time interval mutes. So the remediator
evaluates the windows in the same file itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.intervals import Window, interval
from fleetmedic.alerting.settings import Maintenance, Matches, Notifications
from fleetmedic.kernel.labels import WATCHDOG

# The dead man's switch: its route precedes the routes of maintenance, so no window mutes it.
_NEVER_MUTED = WATCHDOG


def is_open(window: Window, now: float) -> bool:
    """Return whether a maintenance window is open at `now` (Unix seconds).

    Raises UserError for an invalid window.
    """
    return interval(window).contains(now)


def matches(match: Matches, labels: Mapping[str, str]) -> bool:
    """Return whether every matcher's expression matches the whole value of its label.

    A missing label counts as an empty string.
    """
    return all(expression(text).fullmatch(labels.get(label, "")) for label, text in match.items())


def open_maintenance(
    given: Notifications, labels: Mapping[str, str], now: float
) -> Maintenance | None:
    """Return the first maintenance whose labels match and whose window is open at `now`, or None.

    Compiled expressions are cached, so the call takes microseconds for each maintenance.
    """
    if labels.get("alertname") == _NEVER_MUTED:
        return None
    for each in given.maintenance:
        if matches(each.match, labels) and any(is_open(one, now) for one in each.windows):
            return each
    return None
