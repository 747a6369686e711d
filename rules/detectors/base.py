"""What a detector is: it reads some families, fits a model, and compiles it to a group of rules.

Everything here is pure. `fit` gets arrays and returns a model or a refusal with its reason; `compile`
turns the model into rules; a detector whose model has no PromQL form also has `score`, and its rules
compare the exported score with the exported threshold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from fleetmedic.kernel.durations import format_duration
from rules.links import Links
from rules.series import Key, Series

GPU_LABELS = ("cluster", "node", "gpu", "uuid")
MIN_RANGE_SCRAPES = 4
# The dashboard of what detectors find, and its variables.
BOARD = ("anomalies", ("cluster", "node", "gpu"))


@dataclass(frozen=True, slots=True)
class Query:
    """A family to read: a PromQL selector, and the labels that name one of its series."""

    name: str
    selector: str
    labels: tuple[str, ...] = GPU_LABELS


History: TypeAlias = Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class Timing:
    """How time is written into rules: every duration divided by `factor`, ranges never so short
    that they hold fewer than four scrapes."""

    factor: float = 1.0
    scrape_interval: float = 5.0

    def wait(self, seconds: float) -> float:
        """A `for` or an interval, in seconds, at least one."""
        return max(1.0, round(seconds / self.factor, 3))

    def window(self, seconds: float) -> float:
        """A range, in seconds."""
        return max(MIN_RANGE_SCRAPES * self.scrape_interval, round(seconds / self.factor, 3))


@dataclass(frozen=True, slots=True)
class Training:
    """What `fit` may use besides the data: the timing of the rules and the budget of false alerts,
    per day, over the whole history's GPUs."""

    timing: Timing
    budget_per_day: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model says of itself in an alert's annotations and in the report."""

    detector: str
    parameters: Mapping[str, float]
    trained_from: float
    trained_to: float
    expected_per_day: float
    backtest_alerts: int
    series: int

    @property
    def digest(self) -> str:
        """A short hash of the parameters: the same parameters have the same hash."""
        text = json.dumps({"detector": self.detector, **self.parameters}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Model(Protocol):
    """A fitted model: plain data, described by its facts."""

    @property
    def facts(self) -> Facts: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """No model, and why. Too little history is no failure: the rule that stands is kept."""

    reason: str
    failure: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule; `wait` is its `for`, in seconds."""

    alert: str
    expr: str
    wait: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """A group of rules, evaluated in order every `interval` seconds."""

    name: str
    interval: float
    rules: tuple[Recording | Alert, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Score:
    """How unusual one GPU is at one moment; 0 is as usual as can be."""

    key: Key
    value: float


class Detector(Protocol):
    """One way of finding sick GPUs."""

    @property
    def name(self) -> str: ...

    @property
    def queries(self) -> tuple[Query, ...]: ...

    def fit(self, history: History, training: Training) -> Model | Refusal:
        """The model of this history, or why there is none."""
        ...

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        """The rules that stand for the model."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A detector that must score outside Prometheus."""

    def score(self, model: Model, latest: History) -> list[Score]:
        """The scores of the last instant. A GPU with a missing input gets none."""
        ...

    def threshold(self, model: Model) -> float:
        """The score above which the alert is meant to fire."""
        ...


def text(seconds: float) -> str:
    """A duration for a rule."""
    return format_duration(seconds)
