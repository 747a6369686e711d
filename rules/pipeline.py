"""Produces live rules from history: read, fit, compile, add annotations, publish, per detector.

The failure of one detector does not stop the others. The result of each detector contains a reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.files import write_atomic
from rules.detectors.base import (
    Detector,
    FitParameters,
    History,
    Model,
    ModelFacts,
    Refusal,
)
from rules.history import Prometheus, PrometheusError, PrometheusUnreachableError
from rules.links import Links
from rules.publish import PublishError, PublishPaths, publish
from rules.rule_model import RuleGroup
from rules.rulefile import RuleFile
from rules.settings import RulesSettings
from rules.timing import Timing

log = structlog.get_logger("rules")


@dataclass(frozen=True, slots=True)
class DetectorRun:
    """The result of a detector's run. Without a `model`, there was too little history, or a
    failure.

    `broken`: the detector itself raised an exception.
    """

    detector: str
    ok: bool
    changed: bool
    text: str
    model: Model | None = None
    broken: bool = False


@dataclass(frozen=True, slots=True)
class _Live:
    """The rules that the pipeline published for a detector."""

    group: str
    text: str
    digest: str


class DetectorPipeline:
    """Runs the detectors of one Prometheus."""

    def __init__(
        self, settings: RulesSettings, detectors: Iterable[Detector], prometheus: Prometheus
    ) -> None:
        self._settings = settings
        self._detectors = tuple(detectors)
        self._prometheus = prometheus
        self._paths = PublishPaths(
            Path(settings.work_dir), Path(settings.rules_dir), settings.promtool_path()
        )
        self._timing = Timing(settings.factor, parse_duration(settings.scrape_interval))
        self._links = Links(settings.runbook_base, settings.dashboard_base)
        self._live_rules: dict[str, _Live] = {}

    def run(self, now: float) -> list[DetectorRun]:
        """Read the history, fit every detector and publish its rules.

        The history is read once for all detectors. If that fails, perhaps because of a query of one
        detector, it is read for each detector on its own.
        """
        try:
            history = self._read(self._detectors, now)
        except PrometheusUnreachableError as error:
            return [
                self._log_run(DetectorRun(one.name, False, False, str(error)))
                for one in self._detectors
            ]
        except Exception as error:  # noqa: BLE001 - whatever a detector raises, the others run
            if not isinstance(error, PrometheusError):
                log.warning("cannot read the history at once", error=repr(error))
            return [self._log_run(self._run_alone(one, now)) for one in self._detectors]
        return [self._log_run(self._run_detector(one, history)) for one in self._detectors]

    def _read(self, detectors: Iterable[Detector], now: float) -> History:
        queries = {query.name: query for one in detectors for query in one.queries}
        window, step = (parse_duration(self._settings.window), parse_duration(self._settings.step))
        return self._prometheus.read(queries.values(), now, window, step)

    def _run_alone(self, detector: Detector, now: float) -> DetectorRun:
        try:
            history = self._read([detector], now)
        except PrometheusError as error:
            return DetectorRun(detector.name, False, False, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a detector raises, the others run
            return _broken(detector.name, "the history could not be read", error)
        return self._run_detector(detector, history)

    def check(self) -> list[DetectorRun]:
        """Check that Prometheus still has the published rules loaded, and publish missing rules again."""
        outcomes = [
            self._publish(detector.name, self._live_rules[detector.name])
            for detector in self._detectors
            if detector.name in self._live_rules
        ]
        return [self._log_run(item) if item.changed or not item.ok else item for item in outcomes]

    def _run_detector(self, detector: Detector, history: History) -> DetectorRun:
        budgets = self._settings.false_alerts_per_day
        try:
            budget = budgets.get(detector.name, detector.budget_per_day)
            model = detector.fit(history, FitParameters(self._timing, budget))
            if isinstance(model, Refusal):
                return DetectorRun(detector.name, not model.failure, False, model.reason)
        except Exception as error:  # noqa: BLE001 - whatever a detector raises, the others run
            return _broken(detector.name, "the model could not be fitted", error)
        try:
            live = self._compile(detector, model)
        except Exception as error:  # noqa: BLE001 - a malformed model or rule group must not stop the others
            return _broken(detector.name, "the model could not be compiled to rules", error)
        return self._publish(detector.name, live, model)

    def _compile(self, detector: Detector, model: Model) -> _Live:
        """Return the rules of a model. Rules that are live keep their annotations if the model is the same."""
        group, facts = detector.compile(model, self._timing, self._links), model.facts
        live = self._live_rules.get(detector.name)
        if live is None or live.digest != facts.digest:
            text = render(described(group, facts), facts, self._settings.factor)
            live = _Live(group.name, text, facts.digest)
        return live

    def _publish(self, name: str, live: _Live, model: Model | None = None) -> DetectorRun:
        try:
            changed = publish(name, live.text, live.group, self._paths, self._prometheus)
        except (PublishError, PrometheusError, OSError) as error:
            return DetectorRun(name, False, False, str(error), model)
        except Exception as error:  # noqa: BLE001 - for example rules that cannot be parsed
            return _broken(name, "the rules could not be published", error)
        self._live_rules[name] = live
        if model:
            self._write_report(name, model)
        return DetectorRun(
            name,
            True,
            changed,
            f"rule group {live.group} {'loaded' if changed else 'unchanged'}.",
            model,
        )

    def _write_report(self, name: str, model: Model) -> None:
        """Write the report of a model. Its rules are already loaded, so a failure is only logged."""
        try:
            facts = model.facts
            content = json.dumps({**asdict(facts), "model": facts.digest}, indent=1)
            write_atomic(self._paths.work_dir / f"{name}.json", content, sync=False)
        except (OSError, TypeError, ValueError, AttributeError) as error:
            log.warning("cannot write the report", detector=name, error=str(error))

    @staticmethod
    def _log_run(outcome: DetectorRun) -> DetectorRun:
        say = log.info if outcome.ok else log.error
        say(outcome.text, detector=outcome.detector, ok=outcome.ok, changed=outcome.changed)
        return outcome


def _broken(name: str, step: str, error: Exception) -> DetectorRun:
    """Log the exception of a detector, and return the failed run. Called in an exception handler."""
    log.exception("detector_failed", detector=name, step="fit")
    text = f"{step}: {type(error).__name__}: {error}."
    return DetectorRun(name, False, False, text, broken=True)


def described(group: RuleGroup, facts: ModelFacts) -> RuleGroup:
    """Return the rule group with information about the model in the annotations of each alert."""
    said = {
        "model": f"{facts.detector} {facts.digest}",
        "trained_on": f"{_when(facts.trained_from)} to {_when(facts.trained_to)}, "
        f"{facts.series} GPUs",
        "expected_false_alerts_per_day": f"{facts.expected_per_day:.2g}",
        "backtest_alerts": str(facts.backtest_alerts),
    }
    rules = tuple(
        replace(rule, annotations={**rule.annotations, **said}) if rule.is_alert else rule
        for rule in group.rules
    )
    return replace(group, rules=rules)


def render(group: RuleGroup, facts: ModelFacts, factor: float) -> str:
    """Return the rule file for a rule group as a string."""
    return RuleFile(Path(f"{facts.detector}.yml"), (group,)).text(
        f"Generated by the detector {facts.detector} from history; all durations are divided by "
        f"{factor:g}.\n`fleetmedic rules` overwrites this file: do not edit it."
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
