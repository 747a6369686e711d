"""The interface of a detector: it reads metric families, fits a model, and compiles the model to
rules.

Everything here is pure. `fit` gets arrays and returns a model, or a refusal with a reason.
`compile` converts the model to Prometheus rules. A detector whose model cannot be written in PromQL
also has `score`. Its rules compare the exported score with the exported threshold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from fleetmedic.kernel.durations import format_duration
from rules.declaration import Declaration
from rules.links import Links
from rules.rule_model import RuleGroup
from rules.series import Key, Series
from rules.timing import Timing

GPU_LABELS = ("cluster", "node", "gpu", "uuid")
# The dashboard for alerts of detectors, and its variables.
DASHBOARD = ("anomalies", ("cluster", "node", "gpu"))


@dataclass(frozen=True, slots=True)
class Query:
    """A metric family to read from Prometheus: its selector, and the labels that identify a series."""

    name: str
    selector: str
    labels: tuple[str, ...] = GPU_LABELS


History: TypeAlias = Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class FitParameters:
    """The parameters with which a detector fits its model.

    They are the timing of the rules, and the allowed false alerts per day for all GPUs of the
    history.
    """

    timing: Timing
    budget_per_day: float


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Information about a fitted model, for alert annotations and the report."""

    detector: str
    parameters: Mapping[str, float]
    trained_from: float
    trained_to: float
    expected_per_day: float
    backtest_alerts: int
    series: int

    @property
    def digest(self) -> str:
        """A short hash of the model's parameters."""
        text = json.dumps({"detector": self.detector, **self.parameters}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Model(Protocol):
    """A fitted model: plain data, and human-readable information about the model."""

    @property
    def facts(self) -> ModelFacts: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of `fit` when it produces no model. It contains the reason.

    Too little history is not a failure: the current rules stay loaded.
    """

    reason: str
    failure: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """The anomaly score of one GPU at one time; 0 is normal."""

    key: Key
    value: float


class Detector(Protocol):
    """The interface of a detector, a method that finds unhealthy GPUs."""

    @property
    def name(self) -> str: ...

    @property
    def finds(self) -> str:
        """What the detector finds, in a few words, such as "GPUs that are slower than their peers"."""
        ...

    @property
    def alert(self) -> Declaration:
        """The detector's only alert."""
        ...

    @property
    def budget_per_day(self) -> float:
        """The default of the false alerts per day that are allowed in the whole fleet."""
        ...

    @property
    def queries(self) -> tuple[Query, ...]: ...

    def fit(self, history: History, training: FitParameters) -> Model | Refusal:
        """Fit a model to the history. Returns a refusal if no model can be fitted."""
        ...

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        """Return the Prometheus rules that implement the model. The last rule is the alert."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A detector whose scores are computed outside Prometheus."""

    def score(self, model: Model, latest: History) -> list[Score]:
        """Return the latest anomaly score of each GPU. GPUs with a missing input are omitted."""
        ...

    def threshold(self, model: Model) -> float:
        """Return the anomaly score above which the detector's alert fires."""
        ...


def text(seconds: float) -> str:
    """Format a duration in seconds as in rule files, such as 90s."""
    return format_duration(seconds)
