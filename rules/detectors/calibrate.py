"""Sets the threshold so that healthy history exceeds the threshold at most as often as the budget
of false alerts allows.

One day contains too few samples to measure such a rare level, so the threshold is extrapolated from
the tail. Above the 99th percentile, the peaks of healthy scores decrease about exponentially (peaks
over threshold with shape zero). The scale is the median excess divided by ln 2. The median is
robust: a few very high scores of a faulty GPU in the history do not raise the threshold.
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
    """A threshold, and the expected number of false alerts per day at this threshold."""

    threshold: float
    expected_per_day: float


def calibrate(scores: Floats, days: float, budget_per_day: float, floor: float) -> Calibration:
    """Return the threshold for these scores, an array of (series, time).

    Each score is already the minimum over the alert's `for` duration. `floor` is the minimum
    threshold.
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
    """Return the maximum of each uninterrupted run of scores above `base`. One run is one alert."""
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
    """Return how many alerts fire for these scores at a threshold.

    Each score is already the minimum over the alert's `for` duration.
    """
    return runs(scores > threshold)
