"""The detector service: one thread that fits models, checks the loaded rules, and computes scores."""

from __future__ import annotations

import threading
import time
from typing import SupportsFloat

import structlog

from fleetmedic.kernel.durations import parse_duration
from rules.detector_results import DetectorResults
from rules.detectors.base import Detector, Model, Score, Scorer
from rules.history import Prometheus, PrometheusError
from rules.pipeline import DetectorPipeline, DetectorRun
from rules.settings import RulesSettings

log = structlog.get_logger("rules")
KEY_LABELS = 4  # cluster, node, gpu and uuid, as in the metric detector_score
RETRY_SECONDS = 3.0
FRESH_SCORINGS = 3


class DetectorService:
    """Runs each fit, rule check and scoring of the detectors when it is due."""

    def __init__(self, settings: RulesSettings, detectors: tuple[Detector, ...]) -> None:
        self._prometheus = Prometheus(settings.prometheus_url)
        self._pipeline = DetectorPipeline(settings, detectors, self._prometheus)
        self._detectors = detectors
        self._interval = parse_duration(settings.interval)
        self._refit = parse_duration(settings.refit)
        self._scoring = settings.scoring_seconds
        self._models: dict[str, Model] = {}
        self._ran_well: dict[str, bool] = {}
        self._scored_well: dict[str, bool] = {}
        self._fit_due = self._check_due = self._score_due = 0.0
        self.results = DetectorResults(self._interval, FRESH_SCORINGS * self._scoring)

    def run(self, stopped: threading.Event) -> None:
        """Run the detectors until `stopped` is set."""
        while not stopped.is_set():
            try:
                self.step(time.time())
            except (
                Exception
            ):  # the service must not end while its HTTP server reports it as healthy
                log.exception("detectors_failed")
                self._fail_all(time.time())
            due = min(self._fit_due, self._check_due, self._score_due)
            stopped.wait(max(0.05, due - time.time()))

    def step(self, now: float) -> None:
        """Run each fit, rule check and scoring that is due at Unix time `now`."""
        if now >= self._fit_due:
            self._fit(now)
        elif now >= self._check_due:
            self._note(self._pipeline.check(), now)
            self._check_due = now + self._interval
        if now >= self._score_due:
            self._score()
            self._score_due = now + self._scoring

    def _fail_all(self, now: float) -> None:
        """Report all detectors as failed, and continue after the interval."""
        self._ran_well |= dict.fromkeys((one.name for one in self._detectors), False)
        self._publish_success()
        self._fit_due = self._check_due = now + self._interval
        self._score_due = now + self._scoring

    def _fit(self, now: float) -> None:
        outcomes = self._pipeline.run(now)
        self._models |= {item.detector: item.model for item in outcomes if item.model}
        self._note(outcomes, now)
        done = time.time()
        if all(item.ok and item.model for item in outcomes):
            self._fit_due = done + self._refit
        elif self._models or all(item.ok for item in outcomes):
            self._fit_due = done + self._interval
        else:  # no model yet, for example because Prometheus is still starting
            self._fit_due = done + min(RETRY_SECONDS, self._interval)
        self._check_due = done + self._interval
        self.results.ready = True

    def _note(self, outcomes: list[DetectorRun], now: float) -> None:
        for item in outcomes:
            if item.broken:
                self.results.count_exception(item.detector, "fit")
        good = {item.detector: now for item in outcomes if item.ok}
        self.results.last_run = {**self.results.last_run, **good}
        self._ran_well |= {item.detector: item.ok for item in outcomes}
        self._publish_success()

    def _publish_success(self) -> None:
        """A detector succeeds if both its latest run and its latest scoring succeeded."""
        self.results.success = {
            name: self._ran_well.get(name, True) and self._scored_well.get(name, True)
            for name in (*self._ran_well, *self._scored_well)
        }

    def _score(self) -> None:
        for detector in self._detectors:
            model = self._models.get(detector.name)
            if model is None or not isinstance(detector, Scorer):
                continue
            now = time.time()
            self._scored_well[detector.name] = False
            try:
                latest = self._prometheus.latest(detector.queries, now)
                found = tuple(checked_score(one) for one in detector.score(model, latest))
                level = {detector.name: checked_number(detector.threshold(model))}
            except PrometheusError as error:
                log.warning("scoring failed", detector=detector.name, error=str(error))
                continue
            except Exception:  # whatever a detector raises, the others score
                log.exception("detector_failed", detector=detector.name, step="score")
                self.results.count_exception(detector.name, "score")
                continue
            self.results.scores = {**self.results.scores, detector.name: (now, found)}
            self.results.thresholds = {**self.results.thresholds, **level}
            self._scored_well[detector.name] = True
        self._publish_success()


def checked_score(score: Score) -> Score:
    """Return the score of a detector if the metrics page can contain it. Raises TypeError or ValueError."""
    key = tuple(score.key)
    if len(key) != KEY_LABELS or not all(isinstance(label, str) for label in key):
        raise ValueError(f"expected {KEY_LABELS} strings as the key of a score, got {key!r}")
    return Score(score.key, checked_number(score.value))


def checked_number(value: object) -> float:
    """Return a detector's number as a float. Raises TypeError for other values, such as None or a string."""
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)
