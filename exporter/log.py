"""The exporter's log: one event a line on stderr, JSON for machines, text for a terminal.

The other programs log through structlog. Here it would be a tenth of the memory that every node of a
fleet pays for, and all that is said are events with a few fields.
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
    """Events below this level (one of LEVELS) are left out."""
    global _threshold
    _threshold = LEVELS.index(level)


def say(event: str, *, level: str = "warning", **fields: object) -> None:
    """Write an event. A log that cannot be written costs the line and nothing else."""
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
    """What the parts are given to say what happens: an event and its fields."""
    return say
