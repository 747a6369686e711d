"""Say which injected faults raise no alert, and which values would. A test compares them with the rules."""

from __future__ import annotations

FATAL_XIDS = frozenset(
    {46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 155, 158, 167, 169, 173}
)
CONTAINED_XIDS = frozenset({94})
# The text of the log line decides whether these are fatal. `inject` writes a line without that text.
TEXT_XIDS = frozenset({144, 145, 146, 147, 148, 149, 150})
APPLICATION_XIDS = frozenset({13, 31, 43, 45})
APPLICATION_COUNT = 5
STORM_COUNT = 300  # one per second, for five minutes
LEAST_GAP = 0.10  # of the clock to the median of the peers


def xid_note(xid: int, count: int) -> str:
    """Return the sentence for XIDs that raise no alert; empty if they raise one."""
    if xid in FATAL_XIDS | CONTAINED_XIDS or count > STORM_COUNT:
        return ""
    if xid in APPLICATION_XIDS:
        if count > APPLICATION_COUNT:
            return ""
        return (
            f"This raises no alert on its own: GpuXidApplicationRepeated needs more than {APPLICATION_COUNT} "
            f"application XIDs of a GPU in an hour. Use --count {APPLICATION_COUNT + 1}, or a fatal XID such as --xid 79."
        )
    return (
        f"No alert fires for XID {xid}, so it is only counted in gpu_xid_errors_total. "
        "Use a fatal XID such as --xid 79."
    )


def speed_note(speed: float) -> str:
    """Return the sentence for a clock that is too high to raise an alert; empty if it raises one."""
    if speed <= 1 - LEAST_GAP:
        return ""
    return (
        f"This raises no alert: GpuPeerOutlier needs a clock at least {LEAST_GAP:.0%} below the median of "
        f"the peers. Use --speed {1 - LEAST_GAP - 0.05:.2f} or less."
    )
