"""History as arrays: the series of one metric family on one time grid, with NaN for missing values.

Nothing is interpolated, so a detector can distinguish zero from unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = tuple[str, ...]
MAX_LABEL = 256


@dataclass(frozen=True, slots=True)
class Grid:
    """The time grid of a history: `count` instants, `step` seconds apart, from Unix time `start`."""

    start: float
    step: float
    count: int

    @property
    def end(self) -> float:
        """The Unix time of the grid's last instant."""
        return self.start + self.step * (self.count - 1)

    @property
    def days(self) -> float:
        """The time that the grid covers, in days."""
        return self.step * self.count / 86_400.0

    def samples(self, seconds: float) -> int:
        """Return the number of instants of the grid in a duration, at least one."""
        return max(1, round(seconds / self.step))


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The series of one metric family. Row `values[i]` is the series whose labels
    `labels` have the values `keys[i]`."""

    labels: tuple[str, ...]
    keys: tuple[Key, ...]
    grid: Grid
    values: Floats

    @classmethod
    def gather(
        cls,
        labels: tuple[str, ...],
        found: Iterable[tuple[Mapping[str, str], Sequence[tuple[float, float]]]],
        grid: Grid,
    ) -> Series:
        """Create the arrays from pairs (labels, [(time, value), ...]) on the time grid.

        A missing label is "". Series with equal labels share a row. Infinite values, times outside
        the grid and series with a label of more than MAX_LABEL characters are dropped.
        """
        rows: dict[Key, Floats] = {}
        for metric, points in found:
            key = tuple(metric.get(label, "") for label in labels)
            if any(len(part) > MAX_LABEL for part in key):
                continue
            row = rows.setdefault(key, np.full(grid.count, np.nan))
            if not points:
                continue
            pairs = np.asarray(points, dtype=np.float64)
            index = np.rint((pairs[:, 0] - grid.start) / grid.step).astype(np.int64)
            good = (index >= 0) & (index < grid.count) & np.isfinite(pairs[:, 1])
            row[index[good]] = pairs[good, 1]
        keys = tuple(sorted(rows))
        values = np.stack([rows[key] for key in keys]) if keys else np.empty((0, grid.count))
        return cls(labels, keys, grid, values)

    def aligned(self, keys: Sequence[Key]) -> Floats:
        """Return the rows of these keys, in this order. The row of a missing key is NaN."""
        place = {key: row for row, key in enumerate(self.keys)}
        out = np.full((len(keys), self.grid.count), np.nan)
        for row, key in enumerate(keys):
            if key in place:
                out[row] = self.values[place[key]]
        return out


def join(before: Series, after: Series) -> Series:
    """Join two parts of a metric family. `after` starts one step after the end of `before`."""
    keys = tuple(sorted({*before.keys, *after.keys}))
    grid = Grid(before.grid.start, before.grid.step, before.grid.count + after.grid.count)
    values = np.concatenate([before.aligned(keys), after.aligned(keys)], axis=1)
    return Series(before.labels, keys, grid, values)


def rolling_median(values: Floats, width: int) -> Floats:
    """Return, per row, the median of the last `width` instants, like quantile_over_time(0.5, ...).

    The result is NaN if the current instant is missing, or if fewer than half of the range are
    present.
    """
    if width <= 1 or values.size == 0:
        return values.copy()
    padded = np.concatenate([np.full((values.shape[0], width - 1), np.nan), values], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    ordered = np.sort(windows, axis=2)  # NaN is sorted last
    count = np.isfinite(windows).sum(axis=2)
    low = np.maximum((count - 1) // 2, 0)[..., None]
    high = np.minimum(count // 2, width - 1)[..., None]
    middle = (np.take_along_axis(ordered, low, 2) + np.take_along_axis(ordered, high, 2)) / 2
    enough = np.isfinite(values) & (2 * count >= width)
    return np.where(enough, middle[..., 0], np.nan)


def rolling_min(values: Floats, width: int) -> Floats:
    """Return, per row, the minimum of the last `width` instants.

    It exceeds a threshold exactly when an alert with this `for` duration fires. The result is NaN
    if any instant is missing, because a gap resets a pending alert.
    """
    if width <= 1 or values.size == 0:
        return values.copy()
    padded = np.concatenate([np.full((values.shape[0], width - 1), np.nan), values], axis=1)
    least: Floats = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1).min(axis=2)
    return least


def runs(flags: NDArray[np.bool_]) -> int:
    """Return the number of uninterrupted runs of True, over all rows of an array."""
    if flags.size == 0:
        return 0
    before = np.concatenate([np.zeros((flags.shape[0], 1), dtype=bool), flags[:, :-1]], axis=1)
    return int((flags & ~before).sum())
