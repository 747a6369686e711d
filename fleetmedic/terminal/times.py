"""Format times for console output, in the time zone of this machine."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float, timespec: str = "seconds") -> str:
    """Return a Unix time as date, time and time zone, or "-" if it is missing or invalid."""
    if not 0 < at < 1e11:
        return "-"
    local = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{local.replace(tzinfo=None).isoformat(' ', timespec)} {local:%Z}"


def instant(at: float) -> str:
    """Return the time of an event to the millisecond, because several events can be in one second."""
    return moment(at, "milliseconds")
