from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rules.detectors.base import FitParameters, History, Refusal
from rules.detectors.gpu_covariance import (
    FEATURES,
    FLOOR_SCORE,
    LOAD,
    CovarianceModel,
    GpuCovariance,
)
from rules.detectors.products import PRODUCT
from rules.series import Floats, Grid, Key, Series
from rules.timing import Timing

GPUS, COUNT = 8, 600
KEYS: tuple[Key, ...] = tuple(("c", "n", str(i), f"GPU-{i}") for i in range(GPUS))
GRID = Grid(0.0, 60.0, COUNT)
TRAINING = FitParameters(Timing(), 1.0)
NAMES = tuple(query.name for query, _ in FEATURES)


def arrays(seed: int = 1) -> dict[str, Floats]:
    chance = np.random.default_rng(seed)
    load = np.repeat(chance.uniform(0.5, 1.0, (GPUS, COUNT // 60)), 60, axis=1)
    power = 72 + 500 * load + chance.normal(0, 4, load.shape)
    warm = np.round(31 + 0.058 * power + chance.normal(0, 0.5, load.shape))
    return {
        LOAD.name: load,
        "sm_clock": np.round(1950e6 + chance.normal(0, 5e6, load.shape), -6),
        "power": power,
        "temperature": warm,
        "memory_temperature": np.round(warm + 6 * load + 2),
    }


def history(
    values: dict[str, Floats], first: int = 0, products: Sequence[str] = ("H100",) * GPUS
) -> History:
    count = next(iter(values.values())).shape[1] - first
    grid = Grid(0.0, 60.0, count)
    found = {
        name: Series(LOAD.labels, KEYS, grid, rows[:, first:]) for name, rows in values.items()
    }
    named = tuple((*key, name) for key, name in zip(KEYS, products, strict=True))
    found[PRODUCT.name] = Series(PRODUCT.labels, named, grid, np.ones((GPUS, count)))
    return found


@pytest.fixture(scope="module")
def model() -> CovarianceModel:
    found = GpuCovariance().fit(history(arrays()), TRAINING)
    assert isinstance(found, CovarianceModel)
    return found


def scores(
    model: CovarianceModel, values: dict[str, Floats], products: Sequence[str] = ("H100",) * GPUS
) -> dict[str, float]:
    found = GpuCovariance().score(model, history(values, COUNT - 1, products))
    return {score.key[2]: score.value for score in found}


def test_healthy_gpus_score_below_the_threshold_on_another_day(model: CovarianceModel) -> None:
    found = scores(model, arrays(seed=9))
    assert len(found) == GPUS
    assert max(found.values()) < model.threshold
    assert model.threshold >= FLOOR_SCORE


@pytest.mark.parametrize(
    ("name", "change"), [("sm_clock", -250e6), ("temperature", 12.0), ("power", -90.0)]
)
def test_one_reading_that_does_not_fit_the_load_raises_the_score(
    model: CovarianceModel, name: str, change: float
) -> None:
    values = arrays(seed=9)
    values[name][3, -1] += change
    found = scores(model, values)
    assert found["3"] > model.threshold
    assert max(value for gpu, value in found.items() if gpu != "3") < model.threshold


@pytest.mark.parametrize("name", [LOAD.name, *NAMES])
def test_a_missing_input_gives_no_score(model: CovarianceModel, name: str) -> None:
    values = arrays(seed=9)
    values[name][3, -1] = np.nan
    assert "3" not in scores(model, values)


def test_an_idle_gpu_and_an_empty_fleet_have_no_score(model: CovarianceModel) -> None:
    values = arrays(seed=9)
    values[LOAD.name][3, -1] = 0.0
    assert "3" not in scores(model, values)
    empty = {
        name: Series(LOAD.labels, (), Grid(0, 1, 1), np.empty((0, 1)))
        for name in (LOAD.name, *NAMES, PRODUCT.name)
    }
    assert GpuCovariance().score(model, empty) == []


def test_boards_without_a_memory_sensor_are_modelled_without_it() -> None:
    values = arrays()
    values["memory_temperature"][:] = np.nan
    found = GpuCovariance().fit(history(values), TRAINING)
    assert isinstance(found, CovarianceModel)
    assert found.products["H100"].features == (0, 1, 2)
    assert len(scores(found, values)) == GPUS


def mixed(seed: int) -> dict[str, Floats]:
    """Seven H100 and one A100, which has another clock and draws less power."""
    values = arrays(seed)
    values["sm_clock"][7] *= 0.72
    values["power"][7] -= 170
    return values


MIXED = ("H100",) * 7 + ("A100",)


def test_a_healthy_gpu_of_a_rare_product_is_not_anomalous() -> None:
    found = GpuCovariance().fit(history(mixed(1), products=MIXED), TRAINING)
    assert isinstance(found, CovarianceModel)
    assert set(found.products) == {"A100", "H100"}
    assert found.facts.backtest_alerts == 0
    well = scores(found, mixed(9), MIXED)
    assert len(well) == GPUS
    assert max(well.values()) < found.threshold
    values = mixed(9)
    values["sm_clock"][7, -1] *= 0.75
    assert scores(found, values, MIXED)["7"] > found.threshold


@pytest.mark.parametrize("product", ["", "A100"])
def test_a_gpu_of_unknown_product_or_without_a_model_has_no_score(
    model: CovarianceModel, product: str
) -> None:
    assert set(model.products) == {"H100"}
    assert set(scores(model, mixed(9), (*MIXED[:7], product))) == {str(gpu) for gpu in range(7)}


def test_a_fleet_of_unknown_products_is_refused() -> None:
    found = GpuCovariance().fit(history(arrays(), products=("",) * GPUS), TRAINING)
    assert isinstance(found, Refusal)
    assert not found.failure
    assert "0.0 busy GPU-hours" in found.reason


def test_a_sick_gpu_in_the_history_does_not_teach(model: CovarianceModel) -> None:
    values = arrays()
    values["sm_clock"][2, 200:] *= 0.75
    found = GpuCovariance().fit(history(values), TRAINING)
    assert isinstance(found, CovarianceModel)
    again = arrays(seed=9)
    again["sm_clock"][3, -1] *= 0.75
    assert scores(found, again)["3"] > found.threshold


def test_too_little_work_is_a_refusal_and_no_failure() -> None:
    values = arrays()
    values[LOAD.name][:] = 0.0
    found = GpuCovariance().fit(history(values), TRAINING)
    assert isinstance(found, Refusal)
    assert not found.failure
