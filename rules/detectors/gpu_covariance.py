"""Finds GPUs whose readings are inconsistent, compared with healthy GPUs under the same load.

Clock, power and both temperatures of a busy GPU depend about linearly on its utilization. The
residuals are correlated: the temperatures rise together, after power. The score is the Mahalanobis
distance of the residuals. So a GPU that is too warm for its power is anomalous although each value
alone is normal. The regression (Huber) and the covariance (minimum covariance determinant) are
robust against faulty GPUs in the history. Noise of the size of the sensor resolution is added,
because rounding to whole degrees would otherwise look like precision. Each product, such as H100, has
its own lines and covariance: healthy GPUs of a rare product must not look like faulty GPUs of another.

The score cannot be written as a short PromQL query. So the service exports `detector_score` and
`detector_threshold`, and the rule compares them. The alert is informational: a model alone causes
no action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleetmedic.alerting.instruments import Instrument
from fleetmedic.kernel.durations import format_duration
from rules.declaration import DETECTOR, Declaration
from rules.detectors.base import (
    DASHBOARD,
    FitParameters,
    History,
    Model,
    ModelFacts,
    Query,
    Refusal,
    Score,
)
from rules.detectors.calibrate import alerts, calibrate
from rules.detectors.products import PRODUCT, product_names
from rules.links import Links
from rules.rule_model import RuleGroup
from rules.series import Floats, Key, rolling_min
from rules.timing import Timing

BUSY = 0.3
WAIT, INTERVAL = 300.0, 15.0
FLOOR_SCORE = 4.0
MIN_GPU_HOURS = 4.0
MAX_ROWS = 500
SEED = 7
SUPPORT = 0.8
# Twice the score that one healthy sample in a million reaches with normally distributed residuals.
SUSPECT = 12.0
MAX_SICK_SHARE = 0.15

ALERT = Declaration(
    name="GpuAnomalyScoreHigh",
    severity="info",
    category="gpu",
    instrument=Instrument.PEERS,
    source=DETECTOR,
)

LOAD = Query("utilization", "gpu_utilization_ratio")
# Each feature with the resolution of its sensor.
FEATURES = (
    (Query("sm_clock", 'gpu_clock_hertz{domain="sm"}'), 15e6),
    (Query("power", 'gpu_power_watts{scope="gpu"}'), 5.0),
    (Query("temperature", 'gpu_temperature_celsius{sensor="gpu"}'), 1.0),
    (Query("memory_temperature", 'gpu_temperature_celsius{sensor="memory"}'), 1.0),
)
Row: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ProductModel:
    """The model of one product: for each feature a line over utilization, and the inverse covariance of
    the residuals.

    `features` are the indexes of the features in the history. Others are omitted: some boards
    report no memory temperature.
    """

    features: tuple[int, ...]
    base: Row
    slope: Row
    precision: tuple[Row, ...]

    def distances(self, load: Floats, values: Floats) -> Floats:
        """Return the Mahalanobis distances for loads, shape (n,), and values, shape (n, number of features).

        NaN stays NaN.
        """
        left = values[:, self.features] - self._expected(load)
        squared = np.einsum("ij,jk,ik->i", left, np.asarray(self.precision), left)
        distance: Floats = np.sqrt(np.maximum(squared, 0.0))
        return distance

    def _expected(self, load: Floats) -> Floats:
        line: Floats = np.asarray(self.base) + load[:, None] * np.asarray(self.slope)
        return line


@dataclass(frozen=True, slots=True)
class CovarianceModel:
    """The model of each GPU product, and the common threshold for their distances."""

    products: Mapping[str, ProductModel]
    threshold: float
    facts: ModelFacts

    def distances(self, sensors: SensorData) -> Floats:
        """Return the Mahalanobis distances (GPU, time) of busy GPUs. The distance is NaN if the GPU is
        idle, its product has no model, or an input is missing."""
        out = np.full(sensors.load.shape, np.nan)
        busy = sensors.load > BUSY
        for name, model in self.products.items():
            chosen = busy & sensors.of_product(name)
            out[chosen] = model.distances(sensors.load[chosen], sensors.values[chosen])
        return out


@dataclass(frozen=True, slots=True, eq=False)
class SensorData:
    """The inputs on one time grid: `load` (GPU, time) and `values` (GPU, time, feature).

    `products` has the product of each GPU; it is empty if unknown.
    """

    gpus: tuple[Key, ...]
    products: tuple[str, ...]
    load: Floats
    values: Floats

    @classmethod
    def of(cls, history: History) -> SensorData:
        """Collect the inputs from a history."""
        load, names = history[LOAD.name], product_names(history[PRODUCT.name])
        stacked = [history[query.name].aligned(load.keys) for query, _ in FEATURES]
        products = tuple(names.get(gpu, "") for gpu in load.keys)
        return cls(load.keys, products, load.values, np.stack(stacked, axis=2))

    def of_product(self, name: str) -> NDArray[np.bool_]:
        """Return which rows are GPUs of this product, as an array (GPU, 1)."""
        return np.asarray([product == name for product in self.products], dtype=bool)[:, None]


class GpuCovariance:
    """The detector for GPUs whose readings are inconsistent with each other."""

    name = "gpu_covariance"
    finds = "GPUs with anomalous clocks, power or temperatures for their utilisation"
    alert = ALERT
    budget_per_day = 1.0
    queries = (LOAD, *(query for query, _ in FEATURES), PRODUCT)

    def fit(self, history: History, training: FitParameters) -> CovarianceModel | Refusal:
        """Fit the lines and covariances by product, and the threshold.

        Returns a refusal if the GPUs of no product were busy long enough.
        """
        sensors, grid = SensorData.of(history), history[LOAD.name].grid
        products: dict[str, ProductModel] = {}
        longest = 0.0
        for name in sorted(set(sensors.products) - {""}):
            found, hours = _fit_product(sensors, name, grid.step)
            longest = max(longest, hours)
            if found is not None:
                products[name] = found
        if not products:
            return Refusal(
                f"too little history: {longest:.1f} busy GPU-hours of one GPU model with clock, power or "
                f"temperatures, but {MIN_GPU_HOURS:g} are required: wait, or increase `window`."
            )
        draft = CovarianceModel(products, 0.0, ModelFacts(self.name, {}, 0, 0, 0, 0, 0))
        held = rolling_min(draft.distances(sensors), grid.samples(training.timing.wait(WAIT)))
        calibrated = calibrate(
            _without_extremes(held), grid.days, training.budget_per_day, FLOOR_SCORE
        )
        threshold = round(calibrated.threshold, 1)
        facts = ModelFacts(
            detector=self.name,
            parameters={"threshold": threshold, **_parameters(products)},
            trained_from=grid.start,
            trained_to=grid.end,
            expected_per_day=calibrated.expected_per_day,
            backtest_alerts=alerts(held, threshold),
            series=sum(product in products for product in sensors.products),
        )
        return CovarianceModel(products, threshold, facts)

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        """Return one alert that compares the exported scores with the exported threshold.

        A new model changes these metrics and not the rule. The target is in `target_node` and
        `target_cluster`, because `node` and `cluster` of the series name the machine that computed
        the score.
        """
        expr = (
            "max by (cluster, node, gpu, uuid) (\n  label_replace(\n    label_replace(\n"
            f'      detector_score{{detector="{self.name}"}} > on (detector) group_left ()\n'
            f'        max by (detector) (detector_threshold{{detector="{self.name}"}}),\n'
            '      "node", "$1", "target_node", "(.+)"\n    ),\n'
            '    "cluster", "$1", "target_cluster", "(.+)"\n  )\n)'
        )
        texts = {
            "summary": "GPU {{ $labels.gpu }} on {{ $labels.node }} has anomalous sensor readings.",
            "description": "Clock, power and temperatures of GPU {{ $labels.gpu }} "
            "({{ $labels.uuid }}) on {{ $labels.node }} are "
            '{{ printf "%.1f" $value }} deviations (Mahalanobis distance) from the usual values '
            "under the same load. This alert is informational: no action follows from it alone.",
        }
        alert = ALERT.rule(expr, format_duration(timing.wait(WAIT)), texts, links, DASHBOARD)
        return RuleGroup(
            "detector-gpu-covariance", format_duration(timing.wait(INTERVAL)), (alert,)
        )

    def score(self, model: Model, latest: History) -> list[Score]:
        """Return the latest distances of busy GPUs.

        GPUs with a missing input, or of a product without a model, are omitted.
        """
        assert isinstance(model, CovarianceModel)  # noqa: S101 - the service passes our own model
        sensors = SensorData.of(latest)
        if not sensors.gpus:
            return []
        distance = model.distances(sensors)[:, -1]
        return [
            Score(gpu, float(distance[row]))
            for row, gpu in enumerate(sensors.gpus)
            if np.isfinite(distance[row])
        ]

    def threshold(self, model: Model) -> float:
        """Return the Mahalanobis distance above which the detector's alert fires."""
        assert isinstance(model, CovarianceModel)  # noqa: S101 - the service passes our own model
        return model.threshold


def _fit_product(sensors: SensorData, name: str, step: float) -> tuple[ProductModel | None, float]:
    """Return the model of one product, and the usable GPU-hours. The model is None if these are too few."""
    chosen = sensors.of_product(name)
    seen = np.isfinite(sensors.values) & chosen[:, :, None]
    present = tuple(place for place in range(len(FEATURES)) if seen[:, :, place].any())
    usable = chosen & (sensors.load > BUSY) & seen[:, :, present].all(axis=2)
    hours = float(usable.sum()) * step / 3600
    if hours < MIN_GPU_HOURS or len(present) < 2:
        return None, hours
    base, slope, precision = _learn(
        sensors.load[usable], sensors.values[usable][:, present], present
    )
    return ProductModel(present, base, slope, precision), hours


def _without_extremes(held: Floats) -> Floats:
    """Return the scores from which the threshold is computed.

    If few GPUs have extreme scores, these GPUs are excluded: a faulty GPU must not raise the
    threshold above its own score. If many GPUs have extreme scores, these are normal.
    """
    far = (held > SUSPECT).any(axis=1)
    return held[~far] if far.sum() <= max(1.0, MAX_SICK_SHARE * len(held)) else held


def _parameters(products: Mapping[str, ProductModel]) -> dict[str, float]:
    """Return the number of features of each product, and the slopes in units of the sensor resolutions,
    rounded. With several products, the product is part of the name."""
    out = {}
    for product, model in products.items():
        prefix = f"{product} " if len(products) > 1 else ""
        out[f"{prefix}features"] = float(len(model.features))
        for place, value in zip(model.features, model.slope, strict=True):
            feature, resolution = FEATURES[place]
            out[f"{prefix}{feature.name}_slope"] = round(value / resolution, 1) + 0.0
    return out


def _learn(
    load: Floats, values: Floats, present: tuple[int, ...]
) -> tuple[Row, Row, tuple[Row, ...]]:
    # Imported here: scikit-learn takes 1 s and 100 MB to import, and only a fit needs it.
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
    # Noise of the size of the sensor resolution: otherwise rounded readings contain subsets without
    # variance, which the minimum covariance determinant would select.
    values = values + np.random.default_rng(SEED).normal(size=values.shape) * resolution
    left = (values - base - load[:, None] * slope) / scale
    covariance = MinCovDet(random_state=SEED, support_fraction=SUPPORT).fit(left).covariance_
    precision = np.linalg.inv(covariance) / np.outer(scale, scale)
    return (
        tuple(base.tolist()),
        tuple(slope.tolist()),
        tuple(tuple(row) for row in precision.tolist()),
    )
