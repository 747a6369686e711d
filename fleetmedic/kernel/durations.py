"""Convert Prometheus durations ("90s", "1h30m") to seconds and back."""

from __future__ import annotations

import re

from fleetmedic.kernel.errors import UserError

_UNITS = {
    "y": 31536000.0,
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
# Each unit at most once, from the largest to the smallest, as in Prometheus.
_DURATION = re.compile("".join(f"(?:([0-9]{{1,10}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Convert a Prometheus duration to seconds. Raises UserError for an invalid duration."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise UserError(f"expected a duration such as 30s, 5m or 1h30m, got {text[:40]!r}.")
    numbers = zip(match.groups(), _UNITS.values(), strict=True)
    return sum(int(number) * size for number, size in numbers if number)


def format_duration(seconds: float) -> str:
    """Convert seconds to a Prometheus duration, rounded to a millisecond."""
    left = round(seconds * 1000)
    if left <= 0:
        return "0s"
    out = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        out += f"{count}{unit}" if count else ""
    return out
