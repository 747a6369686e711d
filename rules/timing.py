"""Shortens the durations of rules by a time factor. Pure.

A demonstration runs the production rules with all durations divided by a factor.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetmedic.kernel.durations import format_duration, parse_duration

# Rates over fewer samples, and ages of fewer scrapes, are meaningless.
SAMPLES_IN_A_RANGE = 4
SHORTEST_INTERVAL = 1.0


def shorten(seconds: float, factor: float, shortest: float) -> float:
    """Divide a duration (seconds) by `factor`, at least to `shortest`. Shorter durations are unchanged."""
    return max(seconds / factor, min(seconds, shortest))


@dataclass(frozen=True, slots=True)
class Timing:
    """The time factor and the scrape interval (seconds) of one Prometheus."""

    factor: float = 1.0
    scrape_interval: float = 5.0

    @property
    def shortest_range(self) -> float:
        """The minimum duration of a range in a shortened rule, in seconds."""
        return SAMPLES_IN_A_RANGE * self.scrape_interval

    def shortened(self, duration: str, shortest: float) -> str:
        """Shorten a duration string; an empty string stays empty."""
        if not duration or self.factor == 1:
            return duration
        return format_duration(shorten(parse_duration(duration), self.factor, shortest))

    def wait(self, seconds: float) -> float:
        """Shorten a detector's `for` duration or interval, in seconds. The minimum is 1 s."""
        return max(SHORTEST_INTERVAL, round(seconds / self.factor, 3))

    def window(self, seconds: float) -> float:
        """Shorten a range in a detector's query, in seconds."""
        return max(self.shortest_range, round(seconds / self.factor, 3))
