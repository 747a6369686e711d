"""The loop of the detectors goes on whatever one of them raises, and counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from rules.declaration import Declaration
from rules.detector_results import DetectorResults, DetectorResultsCollector
from rules.detectors.base import (
    FitParameters,
    History,
    Model,
    ModelFacts,
    Query,
    Refusal,
    Score,
)
from rules.links import Links
from rules.pipeline import DetectorRun
from rules.rule_model import RuleGroup
from rules.service import DetectorService
from rules.settings import read_settings
from rules.timing import Timing

NOBODY = "http://127.0.0.1:1"
KEY = ("a", "node1", "0", "GPU-a")


@dataclass(frozen=True)
class Fitted:
    """A model of nothing."""

    facts: ModelFacts


class Scoring:
    """A detector that scores one GPU, or raises."""

    queries: tuple[Query, ...] = ()
    finds = "nothing"
    alert = Declaration("SomeAlert", "info", "gpu", "driver", "detector")
    budget_per_day = 1.0

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self._error = error

    def fit(self, history: History, training: FitParameters) -> Model | Refusal:
        if self._error:
            raise self._error
        return Fitted(ModelFacts(self.name, {}, 0.0, 1.0, 0.1, 0, 1))

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        return RuleGroup("g", "15s", ())

    def score(self, model: Model, history: History) -> Iterable[Score]:
        if self._error:
            raise self._error
        return [Score(KEY, 1.5)]

    def threshold(self, model: Model) -> float:
        return 3.0


@pytest.fixture
def service(tmp_path: Path) -> DetectorService:
    path = tmp_path / "rules.yml"
    path.write_text(
        f"prometheus_url: {NOBODY}\nrules_dir: {tmp_path}/out\nwork_dir: {tmp_path}/work\npromtool: /bin/true\n"
    )
    detectors = (Scoring("broken", KeyError("x")), Scoring("well"))
    return DetectorService(read_settings(path), detectors)


def exceptions(board: DetectorResults) -> dict[tuple[str, str], float]:
    families = {one.name: one for one in DetectorResultsCollector(board).collect()}
    samples = families["detector_exceptions"].samples
    return {(one.labels["detector"], one.labels["step"]): one.value for one in samples}


def test_a_detector_that_cannot_score_takes_no_scores_from_the_others(
    service: DetectorService,
) -> None:
    model = Fitted(ModelFacts("any", {}, 0.0, 1.0, 0.1, 0, 1))
    service._models = {"broken": model, "well": model}
    service._score()
    service._score()
    assert [one.value for one in service.results.scores["well"][1]] == [1.5]
    assert "broken" not in service.results.scores
    assert service.results.success["broken"] is False
    assert exceptions(service.results) == {("broken", "score"): 2.0}


def test_a_detector_that_cannot_score_fails_until_it_scores_again(
    service: DetectorService,
) -> None:
    """The check of the loaded rules succeeds in between, and must not report a success."""
    service._models = {"broken": Fitted(ModelFacts("any", {}, 0.0, 1.0, 0.1, 0, 1))}
    service._score()
    service._note([DetectorRun("broken", True, False, "rules are loaded")], 1000.0)
    assert service.results.success == {"broken": False}
    (broken, _) = service._detectors
    assert isinstance(broken, Scoring)
    broken._error = None
    service._score()
    assert service.results.success == {"broken": True}
    service._note([DetectorRun("broken", False, False, "rules are not loaded")], 1000.0)
    service._score()
    assert service.results.success == {"broken": False}


def test_a_detector_that_cannot_be_fitted_is_counted(service: DetectorService) -> None:
    service._fit(1000.0)
    assert exceptions(service.results) == {("broken", "fit"): 1.0}
    assert service.results.ready


@pytest.mark.parametrize(
    "score",
    [Score(KEY, "high"), Score(KEY, None), Score(("a",), 1.0), Score((1, 2, 3, 4), 1.0), "high", None],  # type: ignore[arg-type]
)  # fmt: skip
def test_a_malformed_score_fails_its_detector_and_the_metrics_have_the_others(
    service: DetectorService, monkeypatch: pytest.MonkeyPatch, score: Any
) -> None:
    model = Fitted(ModelFacts("any", {}, 0.0, 1.0, 0.1, 0, 1))
    service._models = {"broken": model, "well": model}
    monkeypatch.setattr(service._detectors[0], "score", lambda *_: [score])
    service._score()
    registry = CollectorRegistry()
    registry.register(DetectorResultsCollector(service.results))
    page = generate_latest(registry).decode()
    assert 'detector_score{detector="well",gpu="0"' in page
    assert 'detector_score{detector="broken"' not in page
    assert service.results.success == {"broken": False, "well": True}
    assert exceptions(service.results) == {("broken", "score"): 1.0}


@pytest.mark.parametrize("threshold", ["3", None, [3.0]])
def test_a_threshold_that_is_no_number_fails_its_detector(
    service: DetectorService, monkeypatch: pytest.MonkeyPatch, threshold: Any
) -> None:
    service._models = {"well": Fitted(ModelFacts("any", {}, 0.0, 1.0, 0.1, 0, 1))}
    monkeypatch.setattr(service._detectors[1], "threshold", lambda _: threshold)
    service._score()
    assert service.results.success == {"well": False}
    assert service.results.thresholds == {}


def test_the_loop_continues_after_an_exception_and_reports_every_detector_as_failed(
    service: DetectorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    steps: list[float] = []

    def step(now: float) -> None:
        steps.append(now)
        if len(steps) > 1:
            stopped.set()
            return
        service._interval = service._scoring = 0.0
        raise RuntimeError("unexpected")

    monkeypatch.setattr(service, "step", step)
    service.run(stopped)
    assert len(steps) == 2
    assert service.results.success == {"broken": False, "well": False}
