from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from rules import rulefile
from rules.declaration import Declaration
from rules.detectors.base import (
    Detector,
    FitParameters,
    History,
    Model,
    ModelFacts,
    Query,
    Refusal,
)
from rules.detectors.registry import DETECTORS
from rules.history import Prometheus, PrometheusError
from rules.links import Links
from rules.pipeline import DetectorPipeline, described, render
from rules.rule_model import Rule, RuleGroup
from rules.series import Series
from rules.settings import RulesSettings, read_settings, require_folders
from rules.timing import Timing

FACTS = ModelFacts("d", {"threshold": 5.0}, 0.0, 86_400.0, 0.05, 2, 32)
ALERT = Rule(
    "SomeAlert", "up == 0", True, "10s", "", {"severity": "info"}, {"summary": "It is so."}
)
GROUP = RuleGroup("detector-d", "15s", (Rule("a:b:c", "sum(up)\n+ 1", False), ALERT))
NOBODY = "http://127.0.0.1:1"


def settings(folder: Path, **other: object) -> Path:
    path = folder / "rules.yml"
    values = {
        "prometheus_url": NOBODY, "rules_dir": folder / "generated", "work_dir": folder / "work",
        "promtool": "/bin/true", **other,
    }  # fmt: skip
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


def test_an_alert_says_which_model_made_it_and_what_is_expected_of_it() -> None:
    recording, alert = described(GROUP, FACTS).rules
    assert recording == GROUP.rules[0]
    assert alert.is_alert
    assert alert.annotations["model"] == f"d {FACTS.digest}"
    assert (
        alert.annotations["trained_on"] == "1970-01-01 00:00 UTC to 1970-01-02 00:00 UTC, 32 GPUs"
    )
    assert alert.annotations["expected_false_alerts_per_day"] == "0.05"
    assert alert.annotations["backtest_alerts"] == "2"
    assert "model" not in alert.labels, "a changed label creates a new alert"


def test_a_rendered_file_reads_back_as_it_was(tmp_path: Path) -> None:
    text = render(GROUP, FACTS, 30.0)
    (group,) = rulefile.parse(text, tmp_path / "d.yml").groups
    assert (group.name, group.interval) == ("detector-d", "15s")
    assert [rule.name for rule in group.rules] == ["a:b:c", "SomeAlert"]
    assert group.rules[1].wait == "10s"
    assert text == render(GROUP, FACTS, 30.0)
    assert "divided by 30" in text


def test_without_prometheus_every_detector_fails_with_a_sentence_and_nothing_is_touched(
    tmp_path: Path,
) -> None:
    live = tmp_path / "generated" / "peer_band.yml"
    live.parent.mkdir()
    live.write_text("groups: []\n")
    pipeline = DetectorPipeline(
        read_settings(settings(tmp_path)), tuple(DETECTORS), Prometheus(NOBODY, timeout=1)
    )
    outcomes = pipeline.run(1000.0)
    assert [outcome.detector for outcome in outcomes] == list(DETECTORS.names())
    assert not any(outcome.ok for outcome in outcomes)
    assert all("cannot connect to" in outcome.text for outcome in outcomes)
    assert live.read_text() == "groups: []\n"


class Stubborn:
    """A fake detector that returns a refusal or raises."""

    queries: tuple[Query, ...] = ()
    finds = "nothing"
    alert = Declaration("SomeAlert", "info", "gpu", "driver", "detector")
    budget_per_day = 1.0

    def __init__(self, name: str, answer: Refusal | Exception) -> None:
        self.name = name
        self._answer = answer

    def fit(self, history: History, training: FitParameters) -> Model | Refusal:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        return GROUP


@pytest.mark.parametrize(
    "error", [ValueError("singular matrix"), RuntimeError("singular matrix"), MemoryError("singular matrix")]
)  # fmt: skip
def test_one_detectors_failure_does_not_stop_the_next(tmp_path: Path, error: Exception) -> None:
    detectors: tuple[Detector, ...] = (
        Stubborn("broken", error),
        Stubborn("waiting", Refusal("too little history")),
        Stubborn("refusing", Refusal("mixed jobs", failure=True)),
    )
    found = read_settings(settings(tmp_path))
    broken, waiting, refusing = DetectorPipeline(found, detectors, Prometheus(NOBODY)).run(1000.0)
    assert (broken.ok, broken.broken, "singular matrix" in broken.text) == (False, True, True)
    assert (waiting.broken, refusing.broken) == (False, False)
    assert (waiting.ok, waiting.text) == (True, "too little history")
    assert (refusing.ok, refusing.text) == (False, "mixed jobs")


class Malformed:
    """A detector of which one part is malformed: `queries`, `model`, `group` or `report`."""

    finds = "nothing"
    alert = Declaration("SomeAlert", "info", "gpu", "driver", "detector")
    budget_per_day = 1.0

    def __init__(self, wrong: str) -> None:
        self.name = "malformed"
        self._wrong = wrong

    @property
    def queries(self) -> tuple[Query, ...]:
        if self._wrong == "queries":
            raise RuntimeError("no queries")
        return (None,) if self._wrong == "query" else ()  # type: ignore[return-value]

    def fit(self, history: History, training: FitParameters) -> Model | Refusal:
        facts = {"model": None, "report": replace(FACTS, expected_per_day=1, series=b"x")}  # type: ignore[arg-type]
        return Fitted(facts.get(self._wrong, FACTS))  # type: ignore[arg-type]

    def compile(self, model: Model, timing: Timing, links: Links) -> RuleGroup:
        return None if self._wrong == "group" else GROUP  # type: ignore[return-value]


@dataclass(frozen=True)
class Fitted:
    facts: ModelFacts


@pytest.mark.parametrize("wrong", ["queries", "query", "model", "group"])
def test_a_malformed_part_of_one_detector_does_not_stop_the_next(
    tmp_path: Path, wrong: str
) -> None:
    detectors: tuple[Detector, ...] = (
        Malformed(wrong),
        Stubborn("waiting", Refusal("too little history")),
    )
    found = read_settings(settings(tmp_path))
    broken, waiting = DetectorPipeline(found, detectors, Prometheus(NOBODY)).run(1000.0)
    assert (broken.detector, broken.ok, broken.broken) == ("malformed", False, True)
    assert (waiting.ok, waiting.text) == (True, "too little history")


def test_a_query_that_prometheus_refuses_does_not_stop_the_next_detector(tmp_path: Path) -> None:
    class Refusing(Prometheus):
        def read(
            self, queries: Iterable[Query], end: float, window: float, step: float
        ) -> dict[str, Series]:
            if any(query.name == "bad" for query in queries):
                raise PrometheusError("parse error.")
            return {}

    bad = Stubborn("bad", Refusal("unused"))
    bad.queries = (Query("bad", "up{"),)
    detectors: tuple[Detector, ...] = (bad, Stubborn("waiting", Refusal("too little history")))
    found = read_settings(settings(tmp_path))
    refused, waiting = DetectorPipeline(found, detectors, Refusing(NOBODY)).run(1000.0)
    assert (refused.ok, refused.text) == (False, "parse error.")
    assert (waiting.ok, waiting.text) == (True, "too little history")


@pytest.mark.parametrize("wrong", ["report", "publish"])
def test_a_failure_after_the_compilation_does_not_stop_the_next_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def publish(*_: object) -> bool:
        if wrong == "publish":
            raise UserError("the rule file cannot be parsed")
        return True

    monkeypatch.setattr("rules.pipeline.publish", publish)
    detectors: tuple[Detector, ...] = (
        Malformed(wrong),
        Stubborn("waiting", Refusal("too little history")),
    )
    found = read_settings(settings(tmp_path))
    first, waiting = DetectorPipeline(found, detectors, Prometheus(NOBODY)).run(1000.0)
    assert first.ok is (wrong == "report"), "the rules are loaded, only their report is missing"
    assert (waiting.ok, waiting.text) == (True, "too little history")


class Spending(Stubborn):
    """A fake detector that says which budget it got."""

    def fit(self, history: History, training: FitParameters) -> Model | Refusal:
        return Refusal(f"{training.budget_per_day:g} per day")


def test_a_detector_gets_the_budget_that_it_declares_unless_a_setting_replaces_it(
    tmp_path: Path,
) -> None:
    detectors = (Spending("peer_band", Refusal("")), Spending("other", Refusal("")))
    found = read_settings(settings(tmp_path, false_alerts_per_day="{peer_band: 0.5}"))
    outcomes = DetectorPipeline(found, detectors, Prometheus(NOBODY)).run(1000.0)
    assert [outcome.text for outcome in outcomes] == ["0.5 per day", "1 per day"]


def test_settings_have_defaults(tmp_path: Path) -> None:
    found = read_settings(settings(tmp_path, factor=30))
    assert isinstance(found, RulesSettings)
    assert found.false_alerts_per_day == {}
    assert found.scoring_seconds == 5.0


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("factor", "0.5", r"\$\.factor"),
        ("window", "5 days", r"\$\.window"),
        ("step", "1s", r"\$\.step.*5 s to 3600 s"),
        ("prometheus_url", "localhost:9090", r"\$\.prometheus_url"),
        ("prometheus_url", "http://h:99999", r"\$\.prometheus_url"),
        ("prometheus_url", "http://h:x", r"\$\.prometheus_url"),
        ("prometheus_url", "http://h/?a=b", r"\$\.prometheus_url"),
        ("runbook_base", "http://h/?a=b", r"\$\.runbook_base"),
        ("dashboard_base", "http://u:p@h", r"\$\.dashboard_base"),
        ("colour", "red", "colour"),
        ("false_alerts_per_day", "{peer_bond: 1}", r"unknown detector 'peer_bond'.*peer_band, gpu"),
        (
            "false_alerts_per_day",
            "{peer_band: 0}",
            r"\$\.false_alerts_per_day\.peer_band: expected",
        ),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, key: str, value: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read_settings(settings(tmp_path, **{key: value}))


def test_no_rule_goes_live_unchecked(tmp_path: Path) -> None:
    found = read_settings(settings(tmp_path, promtool="/nowhere/promtool"))
    with pytest.raises(UserError, match="promtool"):
        DetectorPipeline(found, (), Prometheus(NOBODY))


def test_a_rules_dir_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = settings(tmp_path, rules_dir=str(tmp_path / "file" / "rules"))
    with pytest.raises(UserError, match=r"at \$\.rules_dir: cannot create "):
        require_folders(read_settings(path), path)
