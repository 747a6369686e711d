"""The shipped alerts, checked against playbooks, catalogues, tests and docs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from exporter.catalogue import catalogue
from fleetmedic.alerting.instruments import Instrument
from fleetmedic.kernel.durations import parse_duration
from rules import promql, rulefile
from rules.declaration import STATIC, Declaration
from rules.detectors.registry import DETECTORS
from rules.lint import records
from rules.lint.playbooks import playbook_of, playbooks
from rules.reference import counts, markdown
from rules.render import shipped, sources
from rules.rule_model import Rule, RuleGroup
from rules.series_labels import labels_of_query

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "promtool"
ALERTS = {
    rule.name: (rule, group)
    for path in sources()
    for group in rulefile.read(path).groups
    for rule in group.rules
    if rule.is_alert
}

# Alerts about several nodes of one cluster.
OF_A_CLUSTER = {"NodeMassOutage", "NfsServerStalled"}


def test_a_declaration_is_all_that_the_rule_of_a_static_alert_declares() -> None:
    for rule, _ in ALERTS.values():
        declared = Declaration.of(rule)
        assert declared.labels == rule.labels, rule.name
        assert declared.source == STATIC, rule.name


def test_critical_alerts_that_are_acted_upon_soon_are_evaluated_often() -> None:
    holds_back = "NodeMassOutage"  # no action, but it suppresses NodeDown
    for rule, group in _of(severity="critical"):
        soon = parse_duration(rule.wait or "0") <= 180
        acted_upon = rule.annotations["playbook"] != "notify-only" or rule.name == holds_back
        if rule.labels["category"] in ("gpu", "node") and soon and acted_upon:
            assert parse_duration(group.interval) <= 30, rule.name
    for name in ("GpuLost", "GpuXidFatalHardware"):
        assert ALERTS[name][1].interval == "1s"


def test_fatal_xids_are_those_that_the_catalogue_of_xids_calls_critical() -> None:
    raw = yaml.safe_load((ROOT / "exporter" / "xids" / "xid_catalogue.yml").read_text())["xids"]
    critical = {str(xid["code"]) for xid in raw if xid["severity"] == "critical"}
    always, by_line, _ = promql.matchers(ALERTS["GpuXidFatalHardware"][0].expr)
    decided = {str(xid["code"]) for xid in raw if xid.get("by_line")} & critical
    assert set(always.value.split("|")) == critical - decided
    assert set(by_line.value.split("|")) == decided


def test_the_playbook_of_an_alert_is_the_one_that_takes_it() -> None:
    for name, (rule, _) in ALERTS.items():
        default = "none" if rule.labels["category"] == "meta" else "notify-only"
        wanted = default if name == "Watchdog" else playbook_of(name) or default
        assert rule.annotations["playbook"] == wanted, name


def test_each_playbook_matches_alerts_that_exist() -> None:
    learned = {one.alert.name for one in DETECTORS}
    for playbook in playbooks().values():
        assert playbook.alertnames <= set(ALERTS) | learned, playbook.name


def test_alerts_about_one_gpu_carry_all_that_names_it_and_no_scrape_job() -> None:
    """An alert about several GPUs of a node has none of the labels of a GPU."""
    known = records(shipped())
    for rule, _ in _of(category="gpu"):
        given = labels_of_query(promql.parse(rule.expr), known)
        of_one = playbook_of(rule.name) is not None or bool(given.maybe & {"gpu", "uuid"})
        assert given.sure >= {"cluster", "node"} | ({"gpu", "uuid"} if of_one else set()), rule.name
        assert not given.maybe & {"job", "instance"}, rule.name


def test_alerts_about_hardware_and_jobs_are_not_of_the_monitoring_itself() -> None:
    for rule, _ in ALERTS.values():
        own = rule.labels["instrument"] == Instrument.MONITORING
        exporter = rule.labels["instrument"] in (
            Instrument.LIVENESS,
            Instrument.STALENESS,
            Instrument.EXPORTER,
        )
        if rule.labels["category"] == "meta":
            assert own or exporter, rule.name
        elif rule.labels["category"] != "security":
            assert not own, rule.name


def test_summaries_name_what_the_alert_is_about() -> None:
    needed = {"gpu": ["gpu", "node"], "node": ["node"], "job": ["job_id"], "service": ["service"]}
    known = records(shipped())
    for rule, _ in ALERTS.values():
        labels = labels_of_query(promql.parse(rule.expr), known).maybe
        named = [one for one in needed.get(rule.labels["category"], []) if one in labels]
        assert named or rule.labels["category"] not in needed or rule.name in OF_A_CLUSTER, (
            rule.name
        )
        for label in named:
            assert f"$labels.{label}" in rule.annotations["summary"], rule.name


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_firing_and_a_silent_case_between_the_samples(name: str) -> None:
    firing, silent = counts(TESTS / f"{name}.yml")
    assert firing >= 1
    assert silent >= 1 or name == "Watchdog"
    raw = yaml.safe_load((TESTS / f"{name}.yml").read_text())
    step = round(parse_duration(raw["evaluation_interval"]) * 1000)
    for case in raw["tests"]:
        sample = round(parse_duration(case["interval"]) * 1000)
        for check in case["alert_rule_test"]:
            at = round(parse_duration(check["eval_time"]) * 1000)
            assert check["alertname"] == name
            assert at % sample, (case["name"], check["eval_time"])
            assert (at // step * step) % sample, (case["name"], check["eval_time"])


def test_there_is_no_test_file_without_an_alert() -> None:
    assert {path.stem for path in TESTS.glob("*.yml")} == set(ALERTS)


def test_the_table_of_alerts_is_generated_anew_without_a_difference() -> None:
    assert (ROOT / "docs" / "alerts.md").read_text() == markdown()


def test_job_alerts_read_only_metrics_of_the_catalogue() -> None:
    for rule, _ in ALERTS.values():
        for selector in promql.selectors(rule.expr):
            known = catalogue().of_series(selector.metric) is not None
            assert known or ":" in selector.metric, selector.metric


def _of(**labels: str) -> list[tuple[Rule, RuleGroup]]:
    return [
        (rule, group)
        for rule, group in ALERTS.values()
        if all(rule.labels[key] == value for key, value in labels.items())
    ]
