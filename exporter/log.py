"""The exporter's log: one event per line on stderr, as JSON, or as text on a terminal.

The other programs log with structlog. In the exporter, which runs on every node, structlog would take a
tenth of the memory, and the exporter only logs events with a few fields.
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
    """Suppress events below this level (one of LEVELS)."""
    global _threshold
    _threshold = LEVELS.index(level)


def write_event(event: str, *, level: str = "warning", **fields: object) -> None:
    """Write an event. If stderr cannot be written, only this line is lost."""
    if LEVELS.index(level) < _threshold:
        return
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if sys.stderr.isatty():
        told = " ".join(f"{key}={value!s}" for key, value in fields.items())
        line = f"{at} {level:<7} {event} {told}".rstrip()
    else:
        line = json.dumps({**fields, "event": event, "level": level, "timestamp": at}, default=str)
    stream = Lossy(sys.stderr)
    stream.write(line.replace("\n", "\\n") + "\n")
    stream.flush()


def logger() -> Callable[..., None]:
    """Return the function with which the parts log: it takes an event and its fields."""
    return write_event
