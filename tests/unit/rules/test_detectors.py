"""Properties of every detector, and a small version of the benchmark."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rules.detectors.base import ModelFacts
from rules.detectors.calibrate import alerts, calibrate
from rules.detectors.registry import DETECTORS
from rules.links import Links
from rules.lint import lint_file
from rules.pipeline import render
from rules.reference import unit_test
from rules.timing import Timing

BENCH = Path(__file__).resolve().parents[3] / "bench" / "detectors.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_detectors", BENCH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_detectors_name_the_slow_gpu_and_no_healthy_one(bench: ModuleType, seed: int) -> None:
    row = bench.judge(seed, hours=8, nodes=1)
    for column in ("peers_slow", "peers_healthy", "model_slow", "model_healthy"):
        assert row[column] == "ok", (column, row)


def test_every_detector_reads_families_with_labels_and_has_a_name() -> None:
    for detector in DETECTORS:
        assert detector.queries
        assert all("node" in query.labels for query in detector.queries)


def test_every_detector_declares_its_alert_once() -> None:
    """The linter checks the values when a detector compiles its rules."""
    names = [detector.alert.name for detector in DETECTORS]
    assert len(set(names)) == len(names)
    for detector in DETECTORS:
        assert detector.alert.source == "detector", detector.name
        assert detector.budget_per_day > 0, detector.name
        assert detector.finds, detector.name
        assert not detector.finds.endswith("."), detector.name
        assert unit_test(detector).is_file(), f"write {unit_test(detector)}"


def test_durations_are_divided_and_ranges_keep_four_scrapes() -> None:
    timing = Timing(30.0, scrape_interval=5.0)
    assert timing.wait(300) == 10
    assert timing.wait(15) == 1
    assert timing.window(120) == 20
    assert Timing().window(120) == 120


def test_a_model_that_learned_the_same_has_the_same_hash() -> None:
    def facts(threshold: float, until: float) -> ModelFacts:
        return ModelFacts("d", {"threshold": threshold}, 0.0, until, 0.1, 0, 8)

    assert facts(5.0, 1.0).digest == facts(5.0, 2.0).digest
    assert facts(5.0, 1.0).digest != facts(5.1, 1.0).digest


def test_the_threshold_meets_the_budget_on_new_days() -> None:
    chance = np.random.default_rng(5)
    day = (32, 2880)
    found = calibrate(chance.exponential(1.0, day), 1.0, 1.0, 0.0)
    raised = [alerts(chance.exponential(1.0, day), found.threshold) for _ in range(20)]
    assert np.mean(raised) <= 3
    assert found.expected_per_day == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shape", "days", "budget"),
    [((1, 900), 1.0, 1.0), ((1, 900), 2.0, 1.0), ((8, 2880), 1.0, 1.0), ((8, 5760), 2.0, 10.0)],
    ids=["few peaks", "few peaks of two days", "many peaks", "many peaks of two days"],
)
def test_new_days_raise_what_was_promised(
    shape: tuple[int, int], days: float, budget: float
) -> None:
    """Below ten peaks the scale is estimated differently; both estimates meet the budget."""
    chance = np.random.default_rng(5)
    raised, promised = [], []
    for _ in range(60):
        found = calibrate(chance.exponential(1.0, shape), days, budget, 0.0)
        new = chance.exponential(1.0, (10 * shape[0], shape[1]))
        raised.append(alerts(new, found.threshold) / 10 / days)
        promised.append(found.expected_per_day)
    assert np.mean(promised) == pytest.approx(budget)
    assert 0.7 * budget <= np.mean(raised) <= 1.3 * budget


@pytest.mark.parametrize("floor", [6.0, 8.0])
def test_above_the_budget_a_floor_promises_what_it_raises(floor: float) -> None:
    chance = np.random.default_rng(5)
    day = (32, 2880)
    found = calibrate(chance.exponential(1.0, day), 1.0, 1e9, floor)
    raised = np.mean([alerts(chance.exponential(1.0, day), floor) for _ in range(20)])
    assert found.threshold == floor
    assert found.expected_per_day == pytest.approx(raised, rel=0.3)


def test_a_budget_that_history_never_reached_leaves_the_rate_of_the_tail() -> None:
    """The threshold is never below the tail; the expected rate is then the rate in the history."""
    scores = np.random.default_rng(5).exponential(1.0, (8, 2880))
    found = calibrate(scores, 2.0, 1e9, 0.0)
    assert found.threshold == pytest.approx(float(np.quantile(scores, 0.99)))
    assert found.expected_per_day == pytest.approx(alerts(scores, found.threshold) / 2.0)


def test_a_stricter_budget_gives_a_higher_threshold() -> None:
    scores = np.random.default_rng(5).exponential(1.0, (8, 2880))
    levels = [calibrate(scores, 1.0, budget, 0.0).threshold for budget in (10.0, 1.0, 0.1)]
    assert levels == sorted(levels)
    assert levels[0] < levels[2]


def test_a_sick_gpu_in_the_history_does_not_raise_the_threshold_against_itself() -> None:
    scores = np.random.default_rng(5).exponential(1.0, (32, 2880))
    healthy = calibrate(scores, 1.0, 1.0, 0.0).threshold
    scores[3, 100:120] = 60.0
    assert calibrate(scores, 1.0, 1.0, 0.0).threshold < healthy + 1


def test_without_scores_the_floor_is_the_threshold() -> None:
    assert calibrate(np.full((2, 5), np.nan), 1.0, 1.0, 5.0).threshold == 5.0


def test_every_detector_compiles_to_recordings_and_its_declared_alert_without_a_finding(
    bench: ModuleType, tmp_path: Path
) -> None:
    queries = {query.name: query for detector in DETECTORS for query in detector.queries}
    found, grid, _ = bench.one_day(1, 0, False, 8, 1)
    history = bench.as_history(found, tuple(queries.values()), grid)
    for detector in DETECTORS:
        model = bench.fitted(detector, history, 1.0)
        group = detector.compile(model, Timing(), Links("http://x", "http://y"))
        path = tmp_path / f"{detector.name}.yml"
        path.write_text(render(group, model.facts, 1.0))
        assert lint_file(path) == []
        rules = group.rules
        alert = rules[-1]
        assert alert.is_alert
        assert not any(rule.is_alert for rule in rules[:-1])
        assert alert.name == detector.alert.name
        assert alert.labels == detector.alert.labels
        assert alert.annotations["runbook_url"] == f"http://x/{alert.name}"
        assert alert.annotations["dashboard_url"].startswith("http://y/d/fleetmedic-anomalies?var-")
