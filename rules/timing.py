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
        """Divide a duration, such as `5m`, by the time factor, to `shortest` seconds at least; "" stays ""."""
        if not duration or self.factor == 1:
            return duration
        return format_duration(shorten(parse_duration(duration), self.factor, shortest))

    def wait(self, seconds: float) -> float:
        """Divide a detector's `for` duration or interval (seconds) by the time factor. The minimum is 1 s."""
        return max(SHORTEST_INTERVAL, round(seconds / self.factor, 3))

    def window(self, seconds: float) -> float:
        """Divide a range in a detector's query (seconds) by the time factor, to `shortest_range` at least."""
        return max(self.shortest_range, round(seconds / self.factor, 3))
