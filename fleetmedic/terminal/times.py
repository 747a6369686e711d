"""Format times for console output, in UTC like all texts and pages of the project."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float, timespec: str = "seconds") -> str:
    """Return a Unix time as date, time and time zone, or "-" if it is missing or invalid."""
    if not 0 < at < 1e11:
        return "-"
    time = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    return f"{time.isoformat(' ', timespec)} UTC"


def instant(at: float) -> str:
    """Return the time of an event to the millisecond, because several events can be in one second."""
    return moment(at, "milliseconds")
