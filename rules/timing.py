"""How a time factor shortens the durations of rules. Pure.

A demonstration runs the production rules with all durations divided by a factor.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.durations import format_duration, parse_duration

# Rates over fewer samples, and ages of fewer scrapes, are meaningless.
SAMPLES_IN_A_RANGE = 4
SHORTEST_INTERVAL = 1.0


def shorten(seconds: float, factor: float, shortest: float) -> float:
    """Divide a duration by `factor`, but not below `shortest`; a shorter one is unchanged. In seconds."""
    return max(seconds / factor, min(seconds, shortest))


@dataclass(frozen=True, slots=True)
class Timing:
    """The time factor and the scrape interval (seconds) of one Prometheus."""

    factor: float = 1.0
    scrape_interval: float = 5.0

    @property
    def shortest_range(self) -> float:
        """The minimum of a range, in seconds."""
        return SAMPLES_IN_A_RANGE * self.scrape_interval

    def shortened(self, duration: str, shortest: float) -> str:
        """Shorten a duration string; an empty string stays empty."""
        if not duration or self.factor == 1:
            return duration
        return format_duration(shorten(parse_duration(duration), self.factor, shortest))

    def wait(self, seconds: float) -> float:
        """Convert a `for` duration or an interval of a detector, in seconds. The minimum is 1."""
        return max(SHORTEST_INTERVAL, round(seconds / self.factor, 3))

    def window(self, seconds: float) -> float:
        """Convert a range of a detector, in seconds."""
        return max(self.shortest_range, round(seconds / self.factor, 3))
