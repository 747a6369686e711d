"""Rendering changes durations by the factor and the base URLs, and nothing else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from rules import promql, rulefile
from rules.adaptation import adapt
from rules.cli import rules as command
from rules.links import DASHBOARD_BASE, DASHBOARD_URL, RUNBOOK_BASE, RUNBOOK_URL, Links
from rules.render import RenderParameters, objects, render, shipped, sources

BASE = Links("https://wiki.example.org/books/", "https://grafana.example.org/ops/")


def _rules(paths: tuple[Path, ...]) -> dict[str, rulefile.Rule]:
    return {rule.name: rule for path in paths for rule in rulefile.read(path).rules()}


def test_with_factor_one_only_the_addresses_change(tmp_path: Path) -> None:
    written = _rules(render(tmp_path, RenderParameters(1, BASE)))
    for name, source in _rules(sources()).items():
        plain, expected = written[name].plain(), source.plain()
        if source.is_alert:
            url = plain["annotations"].pop(RUNBOOK_URL)
            expected["annotations"].pop(RUNBOOK_URL)
            assert url == f"https://wiki.example.org/books/{name}"
            url = plain["annotations"].pop(DASHBOARD_URL)
            here = expected["annotations"].pop(DASHBOARD_URL)
            assert url == here.replace(DASHBOARD_BASE, "https://grafana.example.org/ops")
            assert url.startswith("https://grafana.example.org/ops/d/fleetmedic-")
        assert plain == expected


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = render(tmp_path / "a", RenderParameters(30, BASE))
    second = render(tmp_path / "b", RenderParameters(30, BASE))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.relative_to(tmp_path / "a") for p in first] == [
        p.relative_to(tmp_path / "b") for p in second
    ]


def test_the_header_says_from_what_and_with_which_factor(tmp_path: Path) -> None:
    path = next(p for p in render(tmp_path, RenderParameters(30, BASE)) if p.name == "gpu.yml")
    head = path.read_text().splitlines()[0]
    assert head.startswith("# Generated")
    assert "rules/static/gpu.yml" in head
    assert "30" in head


def test_waits_are_divided_and_keep_one_scrape(tmp_path: Path) -> None:
    written = _rules(render(tmp_path, RenderParameters(30, BASE, 5)))
    for name, source in _rules(sources()).items():
        rule = written[name]
        assert (bool(rule.wait), bool(rule.keep)) == (bool(source.wait), bool(source.keep))
        if source.wait:
            wanted = max(parse_duration(source.wait) / 30, 5)
            assert parse_duration(rule.wait) == pytest.approx(wanted, abs=1e-3)
        if source.keep:
            assert parse_duration(rule.keep) == pytest.approx(parse_duration(source.keep) / 30)


def test_ranges_keep_four_scrapes(tmp_path: Path) -> None:
    for rule in _rules(render(tmp_path, RenderParameters(30, BASE, 5))).values():
        run = promql.tokens(rule.expr)
        ranges = [after.text for before, after in pairwise(run) if before.text == "["]
        assert all(parse_duration(text) >= 20 for text in ranges)


def test_group_intervals_do_not_fall_below_a_second(tmp_path: Path) -> None:
    for path in render(tmp_path, RenderParameters(10_000, BASE)):
        for group in rulefile.read(path).groups:
            assert parse_duration(group.interval) >= 1


def test_a_shorter_interval_than_a_second_is_left_alone() -> None:
    file = rulefile.parse(
        "groups: [{name: g, interval: 500ms, rules: [{record: 'a:b', expr: up}]}]", Path("x.yml")
    )
    assert adapt(RenderParameters(30, BASE), [file])[0].groups[0].interval == "500ms"


@pytest.mark.parametrize("factor", [0, 0.5, -1, float("nan"), float("inf"), 1e9])
def test_a_factor_that_makes_no_sense_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(UserError, match="--factor"):
        render(tmp_path, RenderParameters(factor, BASE))


def test_a_base_that_is_no_url_is_refused() -> None:
    with pytest.raises(UserError, match=r"^the base URL of runbooks: expected a URL such as"):
        Links("wiki")
    with pytest.raises(UserError, match=r"^the base URL of dashboards: expected a URL such as"):
        Links(dashboards="grafana:3000")


@pytest.mark.parametrize("option", ["--runbook-base", "--dashboard-base"])
@pytest.mark.parametrize(
    "url", ["wiki", "http://", "http://h:99999", "http://h?a=b", "http://h/#a", "http://u:secret@h"]
)
def test_a_base_url_that_breaks_links_is_refused_with_its_option(
    tmp_path: Path, option: str, url: str
) -> None:
    said = CliRunner().invoke(command, ["render", "--out", str(tmp_path), option, url]).exception
    assert isinstance(said, UserError)
    assert str(said).startswith(f"{option}: expected a URL")
    assert "secret" not in str(said)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "static").write_text("a file in the way")
    with pytest.raises(UserError, match="static"):
        render(tmp_path, RenderParameters(1, BASE))


def test_the_default_base_is_what_the_sources_say() -> None:
    urls = {rule.annotations[RUNBOOK_URL] for rule in _rules(sources()).values() if rule.is_alert}
    assert all(url.startswith(f"{RUNBOOK_BASE}/") for url in urls)


def test_of_the_chosen_categories_alerts_stay_and_what_they_read(tmp_path: Path) -> None:
    kept = _rules(render(tmp_path, RenderParameters(categories=frozenset({"job"}))))
    assert "TrainingStalled" in kept
    assert "node_job_id:training_running:newest" in kept
    assert {r.labels["category"] for r in kept.values() if r.is_alert} == {"job"}
    assert "GpuLost" not in kept
    assert not (tmp_path / "static" / "node.yml").exists()


def test_a_recording_rule_that_nobody_chosen_reads_is_left_out(tmp_path: Path) -> None:
    kept = _rules(render(tmp_path, RenderParameters(categories=frozenset({"meta"}))))
    assert "node_job_id:training_running:newest" not in kept


def test_scrape_jobs_are_called_what_they_are_called_there(tmp_path: Path) -> None:
    here = _rules(sources())
    there = _rules(render(tmp_path, RenderParameters(jobs={"node": "gpu-exporter"})))
    assert 'up{job="node"}' in here["NodeDown"].expr
    assert there["NodeDown"].expr == here["NodeDown"].expr.replace('"node"', '"gpu-exporter"')
    assert 'up{job!="gpu-exporter"}' in there["TargetDown"].expr
    assert there["RemediatorWebhookFailing"].expr == here["RemediatorWebhookFailing"].expr


def test_an_object_of_the_operator_holds_the_file(tmp_path: Path) -> None:
    paths = objects(
        tmp_path, RenderParameters(), namespace="monitoring", labels={"release": "prometheus"}
    )
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"{p.parent.name}/{p.name}" for p in sources()
    ]
    for path, file in zip(paths, shipped(), strict=True):
        read = yaml.safe_load(path.read_text())
        assert (read["apiVersion"], read["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
        assert read["metadata"]["namespace"] == "monitoring"
        assert read["metadata"]["labels"] == {"release": "prometheus"}
        assert read["spec"] == {"groups": [group.plain() for group in file.groups]}
    assert len({yaml.safe_load(p.read_text())["metadata"]["name"] for p in paths}) == len(paths)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (("--category", "gpus"), "--category: unknown category 'gpus'; expected one of gpu, node"),
        (("--job", "dcgm=x"), "--job: unknown scrape job 'dcgm'; expected one of node"),
        (("--job", "node"), "--job: expected SHIPPED=YOURS, got 'node'"),
        (("--job", "node="), "invalid scrape job name"),
        (("--job", 'node=a"b'), "invalid scrape job name"),
        (("--format", "prometheusrule", "--label", "x"), "--label: expected KEY=VALUE, got 'x'"),
        (("--factor", "0.1"), "--factor: expected a number from 1 to 10000, got 0.1"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence_and_writes_nothing(
    tmp_path: Path, option: tuple[str, ...], text: str
) -> None:
    said = CliRunner().invoke(command, ["render", "--out", str(tmp_path / "out"), *option])
    assert isinstance(said.exception, UserError)
    assert text in str(said.exception)
    assert not (tmp_path / "out").exists()
