"""A GPU against what GPUs usually read under the same load: a robust multivariate model.

Clock, power and both temperatures of a GPU at work follow its utilization about linearly. What is
left after that line is taken out scatters with a covariance of its own: temperatures go together,
power leads them. The score is the Mahalanobis distance of what is left, so a GPU that is warm for
the watts it draws stands out although each value alone is usual. Line (Huber) and covariance
(minimum covariance determinant) are robust: a sick GPU in the history does not teach. Sensor
resolutions count in the covariance, or rounding to whole degrees would look like precision.

It has no short PromQL form, so the service exports `detector_score` and `detector_threshold`, and
the rule compares the two. Its alert informs and moves nothing: a model alone touches no machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rules.detectors.base import (
    BOARD,
    Alert,
    Facts,
    History,
    Model,
    Query,
    Refusal,
    RuleGroup,
    Score,
    Timing,
    Training,
)
from rules.detectors.calibrate import alerts, calibrate
from rules.links import Links
from rules.series import Floats, Key, rolling_min

BUSY = 0.3
WAIT, INTERVAL = 300.0, 15.0
FLOOR_SCORE = 4.0
MIN_GPU_HOURS = 4.0
MAX_ROWS = 500
SEED = 7
SUPPORT = 0.8
# Twice what one healthy sample of a million reaches, were the scatter normal.
SUSPECT = 12.0
MAX_SICK_SHARE = 0.15

LOAD = Query("utilization", "gpu_utilization_ratio")
# Each with the resolution below which a difference means nothing.
FEATURES = (
    (Query("sm_clock", 'gpu_clock_hertz{domain="sm"}'), 15e6),
    (Query("power", 'gpu_power_watts{scope="gpu"}'), 5.0),
    (Query("temperature", 'gpu_temperature_celsius{sensor="gpu"}'), 1.0),
    (Query("memory_temperature", 'gpu_temperature_celsius{sensor="memory"}'), 1.0),
)
Row: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CovarianceModel:
    """Per feature a line over utilization, and the inverse covariance around the lines.

    Features that the history does not have (some boards report no memory temperature) are left out;
    `features` are the positions of those that stayed.
    """

    features: tuple[int, ...]
    base: Row
    slope: Row
    precision: tuple[Row, ...]
    threshold: float
    facts: Facts

    def distances(self, load: Floats, values: Floats) -> Floats:
        """Mahalanobis distances for loads (n) and feature values (n, all features). NaN stays NaN."""
        left = values[:, self.features] - self._expected(load)
        squared = np.einsum("ij,jk,ik->i", left, np.asarray(self.precision), left)
        distance: Floats = np.sqrt(np.maximum(squared, 0.0))
        return distance

    def _expected(self, load: Floats) -> Floats:
        line: Floats = np.asarray(self.base) + load[:, None] * np.asarray(self.slope)
        return line


class LearnedModel:
    """The detector that knows how the readings of a GPU at work belong together."""

    name = "gpu_covariance"
    queries = (LOAD, *(query for query, _ in FEATURES))

    def fit(self, history: History, training: Training) -> CovarianceModel | Refusal:
        """Learn lines, covariance and threshold. Refuses when too few GPUs were at work."""
        keys, load, cube = _inputs(history)
        grid = history[LOAD.name].grid
        present = tuple(
            place for place in range(len(FEATURES)) if np.isfinite(cube[:, :, place]).any()
        )
        usable = (load > BUSY) & np.isfinite(cube[:, :, present]).all(axis=2)
        hours = float(usable.sum()) * grid.step / 3600
        if hours < MIN_GPU_HOURS or len(present) < 2:
            return Refusal(
                f"only {hours:.1f} GPU-hours at work with clock, power or temperatures lie in the "
                f"history, and {MIN_GPU_HOURS:g} are needed: wait, or widen `window`."
            )
        base, slope, precision = _learn(load[usable], cube[usable][:, present], present)
        draft = CovarianceModel(
            present, base, slope, precision, 0.0, Facts(self.name, {}, 0, 0, 0, 0, 0)
        )
        score = np.full(load.shape, np.nan)
        score[usable] = draft.distances(load[usable], cube[usable])
        held = rolling_min(score, grid.samples(training.timing.wait(WAIT)))
        found = calibrate(_teaching(held), grid.days, training.budget_per_day, FLOOR_SCORE)
        threshold = round(found.threshold, 1)
        facts = Facts(
            detector=self.name,
            parameters={
                "features": float(len(present)), "threshold": threshold,
                **_slopes(present, slope),
            },
            trained_from=grid.start,
            trained_to=grid.end,
            expected_per_day=found.expected_per_day,
            backtest_alerts=alerts(held, threshold),
            series=len(keys),
        )  # fmt: skip
        return CovarianceModel(present, base, slope, precision, threshold, facts)

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        """One alert that compares exported scores with the exported threshold: a new model changes
        two metrics and not the rule. `node` and `cluster` of the sick machine come from labels of
        their own, because those of the series name the machine that computed the score."""
        expr = (
            "max by (cluster, node, gpu, uuid) (\n  label_replace(\n    label_replace(\n"
            f'      detector_score{{detector="{self.name}"}} > on (detector) group_left ()\n'
            f'        max by (detector) (detector_threshold{{detector="{self.name}"}}),\n'
            '      "node", "$1", "target_node", "(.+)"\n    ),\n'
            '    "cluster", "$1", "target_cluster", "(.+)"\n  )\n)'
        )
        alert = Alert(
            "GpuAnomalyScoreHigh",
            expr,
            timing.wait(WAIT),
            {"severity": "info", "category": "gpu", "source": "detector"},
            {
                "summary": "GPU {{ $labels.gpu }} on {{ $labels.node }} has anomalous sensor readings.",
                "description": "Clock, power and temperatures of GPU {{ $labels.gpu }} "
                "({{ $labels.uuid }}) on {{ $labels.node }} are "
                '{{ printf "%.1f" $value }} deviations (Mahalanobis distance) from the usual values '
                "under the same load. This alert is informational: no action follows from it alone.",
                **links.annotations("GpuAnomalyScoreHigh", *BOARD),
                "playbook": "notify-only",
            },
        )
        return RuleGroup("detector-gpu-covariance", timing.wait(INTERVAL), (alert,))

    def score(self, model: Model, latest: History) -> list[Score]:
        """Distances at the last instant, for GPUs at work whose every input was read."""
        assert isinstance(model, CovarianceModel)  # noqa: S101 - the service hands back our model
        keys, load, cube = _inputs(latest)
        if not keys:
            return []
        now, values = load[:, -1], cube[:, -1, :]
        distance = model.distances(now, values)
        good = (now > BUSY) & np.isfinite(distance)
        return [Score(key, float(distance[row])) for row, key in enumerate(keys) if bool(good[row])]

    def threshold(self, model: Model) -> float:
        """The distance that the alert compares with."""
        assert isinstance(model, CovarianceModel)  # noqa: S101 - the service hands back our model
        return model.threshold


def _inputs(history: History) -> tuple[tuple[Key, ...], Floats, Floats]:
    """Keys, loads (gpu, time) and features (gpu, time, feature), all on one grid."""
    load = history[LOAD.name]
    stacked = [history[query.name].aligned(load.keys) for query, _ in FEATURES]
    return load.keys, load.values, np.stack(stacked, axis=2)


def _teaching(held: Floats) -> Floats:
    """The scores without those of GPUs far outside, as long as these are few: a sick GPU must not
    raise the threshold above itself. Where many are far outside, far outside is usual."""
    far = (held > SUSPECT).any(axis=1)
    return held[~far] if far.sum() <= max(1.0, MAX_SICK_SHARE * len(held)) else held


def _slopes(present: tuple[int, ...], slope: Row) -> dict[str, float]:
    """In units of each sensor's resolution, without the digits that are noise."""
    return {
        f"{FEATURES[place][0].name}_slope": round(value / FEATURES[place][1], 1) + 0.0
        for place, value in zip(present, slope, strict=True)
    }


def _learn(
    load: Floats, values: Floats, present: tuple[int, ...]
) -> tuple[Row, Row, tuple[Row, ...]]:
    # Imported here: scikit-learn takes a second and 100 MB, and only a fit needs it.
    from sklearn.covariance import MinCovDet
    from sklearn.linear_model import HuberRegressor

    chosen = np.random.default_rng(SEED).permutation(len(load))[:MAX_ROWS]
    load, values = load[chosen], values[chosen]
    resolution = np.asarray([FEATURES[place][1] for place in present])
    middle = np.median(values, axis=0)
    scale = np.maximum(np.median(np.abs(values - middle), axis=0) * 1.4826, resolution)
    lines = [
        HuberRegressor().fit(load[:, None], (values[:, place] - middle[place]) / scale[place])
        for place in range(len(present))
    ]
    base = np.asarray([line.intercept_ for line in lines]) * scale + middle
    slope = np.asarray([line.coef_[0] for line in lines]) * scale
    # Noise as large as each sensor's resolution: rounded readings would have subsets without any
    # scatter, which the determinant would take for the healthy ones.
    values = values + np.random.default_rng(SEED).normal(size=values.shape) * resolution
    left = (values - base - load[:, None] * slope) / scale
    covariance = MinCovDet(random_state=SEED, support_fraction=SUPPORT).fit(left).covariance_
    precision = np.linalg.inv(covariance) / np.outer(scale, scale)
    return (
        tuple(base.tolist()), tuple(slope.tolist()),
        tuple(tuple(row) for row in precision.tolist()),
    )  # fmt: skip
