"""Lint: what it finds, where, and that the shipped rules have none of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rules import rulefile
from rules.cli import rules as command
from rules.lint import Finding, lint_file, lint_paths
from rules.render import render

GOOD = """
groups:
- name: g
  rules:
  - alert: GpuLost
    expr: max by (node, gpu) (gpu_lost) == 1
    for: 1m
    labels: {severity: critical, category: gpu, source: static}
    annotations: {summary: "It is lost.", description: d, playbook: gpu-lost, runbook_url: "http://x/GpuLost"}
"""


def _findings(tmp_path: Path, text: str) -> list[Finding]:
    path = tmp_path / "rules.yml"
    path.write_text(text)
    return lint_file(path)


def test_a_good_rule_has_no_finding(tmp_path: Path) -> None:
    assert _findings(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("good", "bad", "severity", "text"),
    [
        ("alert: GpuLost", "alert: gpu_lost", "error", "CamelCase"),
        ("alert: GpuLost", "alert: GpuGone", "error", "there is no page docs/runbooks/GpuGone.md"),
        ("alert: GpuLost", "alert: GpuHung", "error", "ends in /GpuHung"),
        ("severity: critical", "severity: page", "error", "must be one of critical, warning"),
        ("category: gpu, ", "", "error", "label category is None"),
        ("source: static", "source: me", "error", "static, detector"),
        ("source: static", 'source: static, v: "{{ $value }}"', "error", "changes with the value"),
        ("description: d, ", "", "error", "annotation description is missing"),
        ("description: d", 'description: "{{ $labels.alertname }}"', "error", "is empty"),
        ("It is lost.", "It is lost", "warning", "full stop"),
        ("playbook: gpu-lost", "playbook: hope", "error", "'hope' is unknown"),
        ("for: 1m", "for: soon", "error", "is no duration"),
        ("for: 1m", "for: 2d", "error", "longer than a day"),
        ("for: 1m", "for: 1h", "warning", "long for a critical alert"),
        ("gpu_lost)", "gpu_lots)", "error", "gpu_lots is not in exporter/catalogue.yml"),
        ("(gpu_lost)", "(rate(gpu_lost[5m]))", "error", "no counter"),
        ("(gpu_lost) == 1", "(gpu_lost", "error", "the query is not PromQL"),
        ("max by (node, gpu) (gpu_lost) == 1", "vector(2)", "error", "reads no series"),
        ("max by (node, gpu) (gpu_lost)", 'count({gpu="1"})', "error", "without a metric name"),
    ],
)
def test_each_fault_is_found_at_its_line(
    tmp_path: Path, good: str, bad: str, severity: str, text: str
) -> None:
    assert good in GOOD
    found = _findings(tmp_path, GOOD.replace(good, bad))
    assert any(f.severity == severity and text in f.text and f.line == 5 for f in found), found


@pytest.mark.parametrize(
    "query",
    [
        "vector(1)",
        "rate(inference_request_duration_seconds_bucket[5m]) > 0",
        "increase(node_vmstat_oom_kill[5m]) > 0",
        "increase(gpu_xid_errors_total[5m]) > 0",
    ],
)
def test_these_queries_are_fine(tmp_path: Path, query: str) -> None:
    text = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", query)
    assert _findings(tmp_path, text) == []


def test_a_recording_rule_is_known_within_its_file_and_named_by_levels(tmp_path: Path) -> None:
    record = "  - {record: 'node:gpu_lost:sum', expr: sum by (node) (gpu_lost)}\n"
    text = GOOD.replace("(gpu_lost)", "(node:gpu_lost:sum)").rstrip() + "\n" + record
    assert _findings(tmp_path, text) == []
    (finding,) = _findings(tmp_path, text.replace("node:gpu_lost:sum', e", "Sum', e"))[-1:]
    assert "level:metric:operation" in finding.text


def test_a_broken_file_is_one_finding_with_its_line(tmp_path: Path) -> None:
    (finding,) = _findings(tmp_path, "groups:\n- name: [\n")
    assert finding.severity == "error"
    assert finding.line > 1
    (missing,) = lint_file(tmp_path / "none.yml")
    assert "no such file" in missing.text


def test_a_name_may_stand_once_over_all_files(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(GOOD)
    (finding,) = lint_paths([tmp_path])
    assert finding.file.name == "b.yml"
    assert "a.yml:5" in finding.text


def test_the_shipped_rules_have_no_finding() -> None:
    assert lint_paths() == []


@pytest.mark.parametrize("factor", [1, 30])
def test_rendered_rules_have_no_finding(tmp_path: Path, factor: float) -> None:
    render(tmp_path, factor=factor, runbook_base="http://127.0.0.1:1/runbooks")
    assert lint_paths([tmp_path]) == []


def test_the_command_prints_text_or_json_and_fails_on_errors(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(GOOD.replace("for: 1m", "for: soon"))
    said = CliRunner().invoke(command, ["lint", str(path)])
    assert said.exit_code == 1
    assert said.stdout.startswith(f"{path}:5: error: GpuLost: for:")
    as_json = CliRunner().invoke(command, ["lint", "--json", str(path)])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)[0]["line"] == 5
    path.write_text(GOOD.replace("It is lost.", "Lost"))
    assert CliRunner().invoke(command, ["lint", str(path)]).exit_code == 0


def test_a_hostile_file_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    for text in ("a: &x [*x]", "groups: [{name: g, rules: [[[[]]]]}]", "\x00", "- " * 500):
        assert _findings(tmp_path, text), text
    deep = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", "(" * 60 + "up" + ")" * 60)
    assert isinstance(_findings(tmp_path, deep), list)
    assert rulefile.parse("", tmp_path / "empty.yml").groups == ()
