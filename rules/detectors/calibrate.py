"""From scores to a threshold: the level that healthy history passes no oftener than the budget.

One day holds too few samples to read a rare level off them. So the level is extrapolated from the
tail: above the 99th percentile the peaks of healthy scores fall off about exponentially (the
peaks-over-threshold method with shape zero). The scale is the median excess divided by ln 2, so that
a sick GPU in the history, a handful of huge scores, does not raise the threshold against itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rules.series import Floats, runs

TAIL = 0.99
MIN_PEAKS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, and how many alerts a day healthy GPUs are expected to raise above it."""

    threshold: float
    expected_per_day: float


def calibrate(scores: Floats, days: float, budget_per_day: float, floor: float) -> Calibration:
    """The threshold for (series, time) scores that already hold for as long as the alert waits.

    `floor` is the lowest threshold allowed, whatever the history says.
    """
    finite = scores[np.isfinite(scores)]
    if finite.size == 0 or days <= 0:
        return Calibration(floor, 0.0)
    base = float(np.quantile(finite, TAIL))
    peaks = _peaks(scores, base)
    if peaks.size < MIN_PEAKS:
        rate, scale = peaks.size / days, float(np.std(finite)) or 1e-9
    else:
        rate, scale = peaks.size / days, max(float(np.median(peaks - base)) / math.log(2), 1e-9)
    wanted = base + scale * math.log(max(rate / budget_per_day, 1.0))
    threshold = max(floor, wanted)
    expected = rate * math.exp(-max(0.0, threshold - base) / scale)
    return Calibration(threshold, expected)


def _peaks(scores: Floats, base: float) -> Floats:
    """The highest score of each run above the base, one per run: a run is one alert."""
    out: list[float] = []
    above = scores > base
    for row, flags in zip(scores[above.any(axis=1)], above[above.any(axis=1)], strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
        out += [
            float(row[first:last].max())
            for first, last in zip(edges[::2], edges[1::2], strict=True)
        ]
    return np.asarray(out, dtype=np.float64)


def alerts(scores: Floats, threshold: float) -> int:
    """How many alerts the threshold raises on scores that already hold for the waiting time."""
    return runs(scores > threshold)
