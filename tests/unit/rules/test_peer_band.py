"""The peer band on small synthetic histories. Integration tests cover its rules."""

from __future__ import annotations

import numpy as np
import pytest

from rules.detectors.base import FitParameters, Refusal
from rules.detectors.peer_band import (
    ALLOCATION,
    CLOCK,
    FLOOR_Z,
    MAX_SPREAD,
    MIN_GAP,
    MIN_SPREAD,
    UTILIZATION,
    PeerBand,
    PeerModel,
    deviations,
)
from rules.detectors.products import PRODUCT
from rules.links import Links
from rules.series import Floats, Grid, Key, Series
from rules.timing import Timing

STEP, COUNT = 60.0, 1440
GRID = Grid(0.0, STEP, COUNT)
TRAINING = FitParameters(Timing(), 0.1)


def history(
    clocks: Floats,
    load: float = 0.9,
    owners: list[str] | None = None,
    products: list[str] | None = None,
) -> dict[str, Series]:
    gpus: tuple[Key, ...] = tuple(("c", "n", str(i), f"GPU-{i}") for i in range(len(clocks)))
    jobs = tuple((*gpu, (owners or ["job"] * len(gpus))[i]) for i, gpu in enumerate(gpus))
    names = tuple((*gpu, (products or ["H100"] * len(gpus))[i]) for i, gpu in enumerate(gpus))
    grid = Grid(0.0, STEP, clocks.shape[1])
    loads, held = np.full(clocks.shape, load), np.ones(clocks.shape)
    return {
        CLOCK.name: Series(CLOCK.labels, gpus, grid, clocks),
        UTILIZATION.name: Series(UTILIZATION.labels, gpus, grid, loads),
        ALLOCATION.name: Series(ALLOCATION.labels, jobs, grid, held),
        PRODUCT.name: Series(PRODUCT.labels, names, grid, held),
    }


def noisy(gpus: int, sigma: float = 0.004) -> Floats:
    clocks: Floats = 1950e6 * (1 + np.random.default_rng(2).normal(0, sigma, (gpus, COUNT)))
    return clocks


def test_the_spread_is_learned_within_its_bounds() -> None:
    levels = []
    for sigma in (0.0001, 0.01, 0.1):
        model = PeerBand().fit(history(noisy(8, sigma)), TRAINING)
        assert isinstance(model, PeerModel)
        levels.append(model.spread)
    assert levels[0] == MIN_SPREAD
    assert MIN_SPREAD < levels[1] < MAX_SPREAD
    assert levels[2] == MAX_SPREAD


def test_the_threshold_never_falls_below_five() -> None:
    model = PeerBand().fit(history(noisy(8, 0.0005)), TRAINING)
    assert isinstance(model, PeerModel)
    assert model.threshold == FLOOR_Z


def test_a_slow_gpu_in_the_history_teaches_nothing_and_is_told() -> None:
    healthy = PeerBand().fit(history(noisy(32)), TRAINING)
    clocks = noisy(32)
    clocks[5, 300:600] *= 0.75
    model = PeerBand().fit(history(clocks), TRAINING)
    assert isinstance(healthy, PeerModel)
    assert isinstance(model, PeerModel)
    assert model.threshold == pytest.approx(healthy.threshold, abs=0.5)
    assert healthy.facts.backtest_alerts == 0
    assert model.facts.backtest_alerts == 1


def test_three_gpus_are_no_peer_group() -> None:
    found = PeerBand().fit(history(noisy(3)), TRAINING)
    assert isinstance(found, Refusal)
    assert not found.failure
    assert "GPU-hours" in found.reason


def test_idle_gpus_and_missing_series_teach_nothing() -> None:
    idle = PeerBand().fit(history(noisy(8), load=0.1), TRAINING)
    empty = history(noisy(8))
    empty[CLOCK.name] = Series(CLOCK.labels, (), GRID, np.empty((0, COUNT)))
    missing = PeerBand().fit(empty, TRAINING)
    assert isinstance(idle, Refusal)
    assert isinstance(missing, Refusal)


def test_jobs_of_mixed_roles_are_refused_rather_than_compiled() -> None:
    clocks = noisy(32)
    clocks[::8] *= 0.8
    owners = [f"job{i // 8}" for i in range(32)]
    found = PeerBand().fit(history(clocks, owners=owners), TRAINING)
    assert isinstance(found, Refusal)
    assert found.failure
    assert "4 of 32" in found.reason


def outliers(found: dict[str, Series]) -> set[str]:
    """The indices of the GPUs that are ever slower than the detector allows."""
    return {
        gpu[2]
        for band in deviations(found, 1, MIN_SPREAD)
        for gpu, gap, z in zip(band.gpus, band.gap, band.z, strict=True)
        if ((gap >= MIN_GAP) & (z <= -FLOOR_Z)).any()
    }


def test_gpus_of_another_product_are_not_peers() -> None:
    """In a job of H100 and A100, no A100 is slow, and the slow A100 is found among its own."""
    clocks, products = noisy(16), ["H100"] * 12 + ["A100"] * 4
    clocks[12:] *= 0.72
    mixed = history(clocks, products=products)
    assert outliers(mixed) == set()
    assert isinstance(PeerBand().fit(mixed, TRAINING), PeerModel)
    clocks[15, 300:600] *= 0.75
    assert outliers(history(clocks, products=products)) == {"15"}


def test_a_gpu_of_unknown_product_has_no_peers() -> None:
    clocks = noisy(9)
    clocks[8] *= 0.72
    assert outliers(history(clocks, products=["H100"] * 8 + [""])) == set()
    assert outliers(history(clocks)) == {"8"}
    assert list(deviations(history(clocks, products=[""] * 9), 1, MIN_SPREAD)) == []


def test_a_gpu_with_two_product_names_has_no_peers() -> None:
    clocks = noisy(9)
    clocks[8] *= 0.72
    found = history(clocks)
    info = found[PRODUCT.name]
    both = (*info.keys, (*info.keys[8][:4], "A100"))
    again = Series(info.labels, both, GRID, np.ones((10, COUNT)))
    assert outliers({**found, PRODUCT.name: again}) == set()


def test_a_common_cause_names_nobody() -> None:
    clocks = noisy(4)
    clocks[:2] *= 0.75
    (band,) = deviations(history(clocks), 1, MIN_SPREAD)
    assert (band.gap < 0.10).all() or (band.z > -FLOOR_Z).all()


def test_a_gpu_of_two_jobs_belongs_to_no_peer_group() -> None:
    shared = history(noisy(4))
    gpu = shared[CLOCK.name].keys[0]
    held = shared[ALLOCATION.name]
    both = Series(
        held.labels, (*held.keys, (*gpu, "other")), GRID, np.ones((5, COUNT))
    )  # fmt: skip
    assert list(deviations({**shared, ALLOCATION.name: both}, 1, MIN_SPREAD)) == []


def test_gpus_of_holders_without_a_job_are_no_peer_group() -> None:
    """Pods without a job_id are not known to run the same job."""
    found = PeerBand().fit(history(noisy(8), owners=[""] * 8), TRAINING)
    assert isinstance(found, Refusal)
    assert "GPU-hours" in found.reason


def test_learning_the_same_again_compiles_to_the_same_rules() -> None:
    first = PeerBand().fit(history(noisy(8)), TRAINING)
    again = PeerBand().fit(history(noisy(8)), TRAINING)
    assert isinstance(first, PeerModel)
    assert isinstance(again, PeerModel)
    assert PeerBand().compile(first, Timing(), Links()) == PeerBand().compile(
        again, Timing(), Links()
    )


def test_many_faults_of_hours_are_no_reason_to_refuse() -> None:
    clocks = noisy(32)
    for number, gpu in enumerate(range(0, 32, 6)):
        clocks[gpu, 200 * number : 200 * number + 150] *= 0.75
    model = PeerBand().fit(history(clocks), TRAINING)
    assert isinstance(model, PeerModel)
    assert model.facts.backtest_alerts == 6
