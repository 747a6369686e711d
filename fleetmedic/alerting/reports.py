"""What an alert reports about its target, as its label `reports` declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

LABEL = "reports"


class AlertReport(StrEnum):
    """The valid values of the label `reports`. An alert without the label reports a condition.

    `condition`: the alert is active while the condition lasts. `loss`: a condition in which the target does
    not work at all. The other values are events: the alert is active for a while after the event, and does
    not show the current state. `memory_error`: the driver counted an uncorrectable memory error of the GPU.
    `application_error`: an application caused the event, and the hardware is healthy.
    """

    CONDITION = "condition"
    LOSS = "loss"
    EVENT = "event"
    MEMORY_ERROR = "memory_error"
    APPLICATION_ERROR = "application_error"

    @property
    def is_event(self) -> bool:
        """Return whether the alert reports something that happened, and no current state."""
        return self not in (AlertReport.CONDITION, AlertReport.LOSS)


# Rules of versions before the label did not declare what they report. Prometheus may still evaluate such
# rules, and journals contain their alerts. The table is complete: later alerts declare it in their rules.
EARLIER: Mapping[str, AlertReport] = {
    "GpuLost": AlertReport.LOSS,
    "GpuHung": AlertReport.LOSS,
    "NodeDown": AlertReport.LOSS,
    "GpuXidFatalHardware": AlertReport.EVENT,
    "GpuXidStorm": AlertReport.EVENT,
    "GpuEccUncorrectable": AlertReport.MEMORY_ERROR,
    "GpuXidApplicationRepeated": AlertReport.APPLICATION_ERROR,
    "GpuXidContained": AlertReport.APPLICATION_ERROR,
    "NodeOomKill": AlertReport.EVENT,
    "NodeKernelFault": AlertReport.EVENT,
    "NodeRebootUnexpected": AlertReport.EVENT,
}


def declared(alertname: str, label: str) -> AlertReport:
    """Return what an alert reports, given its name and the value of its label `reports`.

    An invalid value counts as a condition: the remediator then confirms that the alert is still active.
    """
    if not label:
        return EARLIER.get(alertname, AlertReport.CONDITION)
    try:
        return AlertReport(label)
    except ValueError:
        return AlertReport.CONDITION
