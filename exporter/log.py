"""The exporter's log: one event per line on stderr, as JSON, or as text on a terminal.

The other programs log with structlog. The exporter runs on every node and logs only events with a few
fields, and structlog would need a tenth of the exporter's memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from fleetmedic.kernel.lossy import Lossy

LEVELS = ("debug", "info", "warning", "error")
_threshold = 1


def configure(level: str) -> None:
    """Set the minimum level of logged events, one of LEVELS."""
    global _threshold
    _threshold = LEVELS.index(level)


def write_event(event: str, *, level: str = "warning", **fields: object) -> None:
    """Write a log event to stderr. If stderr is not writable, only this event is lost."""
    if LEVELS.index(level) < _threshold:
        return
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if sys.stderr.isatty():
        pairs = " ".join(f"{key}={value!s}" for key, value in fields.items())
        line = f"{at} {level:<7} {event} {pairs}".rstrip()
    else:
        line = json.dumps({**fields, "event": event, "level": level, "timestamp": at}, default=str)
    stream = Lossy(sys.stderr)
    stream.write(line.replace("\n", "\\n") + "\n")
    stream.flush()


def logger() -> Callable[..., None]:
    """Return the log function of the exporter. It takes an event name and fields."""
    return write_event
