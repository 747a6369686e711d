"""Compute the time range of a panel and the step of its samples. Pure functions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from fleetmedic.kernel.errors import UserError

MAX_POINTS = 300
LONGEST = 90 * 86400
SHORTEST = 60
_RELATIVE = re.compile(r"now(?:-(\d{1,6})([smhdw]))?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)


@dataclass(frozen=True, slots=True)
class PanelRange:
    """The time range of a panel in Unix seconds. Start and end are multiples of `step` (seconds)."""

    start: int
    end: int
    step: int

    def spans(self, scrape_interval: float) -> dict[str, int]:
        """Return Grafana's interval variables in whole seconds. As in Grafana, a rate covers at
        least four scrapes.
        """
        scrape = math.ceil(scrape_interval)
        rate = max(4 * scrape, self.step + scrape)
        return {"__rate_interval": rate, "__interval": self.step, "__range": self.end - self.start}


def panel_range(first: str, last: str, now: float, scrape_interval: float) -> PanelRange:
    """Parse a range. `first` and `last` are `now`, `now-1h` or Unix milliseconds. Raises UserError."""
    start, end = _moment("from", first, now), _moment("to", last, now)
    if not SHORTEST <= end - start <= LONGEST:
        raise UserError("from, to: expected a range of 1 minute to 90 days, with from before to.")
    least = max((end - start) / MAX_POINTS, scrape_interval)
    step = next((one for one in _STEPS if one >= least), math.ceil(least))
    return PanelRange(int(start // step) * step, int(end // step) * step, step)


def _moment(name: str, text: str, now: float) -> float:
    if found := _RELATIVE.fullmatch(text):
        return now - int(found[1] or 0) * _UNITS[found[2] or "s"]
    if text.isascii() and text.isdigit() and len(text) <= 14:
        return int(text) / 1000
    raise UserError(f"{name}: expected now, now-1h or Unix milliseconds, got {text[:20]!r}.")
