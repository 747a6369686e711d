"""Findings of `rules lint`, their lines, and that the shipped rules have no findings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.alerting.stages import Stage
from rules import rulefile
from rules.cli import rules as command
from rules.lint import Finding, lint_file, lint_paths
from rules.render import Links, RenderParameters, render

GOOD = """
groups:
- name: g
  rules:
  - alert: GpuLost
    expr: max by (node, gpu) (gpu_lost) == 1
    for: 1m
    labels: {severity: critical, category: gpu, source: static, instrument: driver}
    annotations: {summary: "It is lost.", description: d, playbook: gpu-lost, runbook_url: "http://x/GpuLost"}
"""
# The models of the GPUs that have exactly one.
_NAMED = "max by (cluster, node, gpu, uuid, name) (gpu_info)"
NAMED_ONCE = f"({_NAMED} and on (cluster, node, gpu, uuid) count by (cluster, node, gpu, uuid) ({_NAMED}) == 1)"


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
        ("alert: GpuLost", "alert: GpuGone", "error", "docs/runbooks/GpuGone.md does not exist"),
        ("alert: GpuLost", "alert: GpuHung", "error", "ends in /GpuHung"),
        ("severity: critical", "severity: page", "error", "expected one of critical, warning"),
        ("category: gpu, ", "", "error", "label category is missing: expected one of gpu, node"),
        ("source: static", "source: me", "error", "static, detector"),
        ("source: static", 'source: static, v: "{{ $value }}"', "error", "contains $value"),
        (
            ", instrument: driver",
            "",
            "error",
            "label instrument is missing: expected one of driver, ",
        ),
        ("instrument: driver", 'instrument: ""', "error", "label instrument is missing: expected"),
        ("instrument: driver", "instrument: nvml", "error", "kernel_log, peers, liveness"),
        ("instrument: driver", "instrument: nvml", "error", "monitoring, got 'nvml'."),
        ("source: static", "source: static, stage: shadows", "error", "one of shadow, notify, act"),
        ("source: static", "source: static, reports: events", "error", "one of condition, loss, "),
        ("source: static", "source: static, reports: event", "error", "event is an event, but the"),
        (
            "playbook: gpu-lost",
            "playbook: gpu-hung",
            "error",
            "gpu-lost matches the alert: write gpu-lost",
        ),
        ("description: d, ", "", "error", "annotation description is missing"),
        ("description: d", 'description: "{{ $labels.alertname }}"', "error", "is empty"),
        ("It is lost.", "It is lost", "warning", "full stop"),
        ("playbook: gpu-lost", "playbook: hope", "error", "unknown playbook 'hope'"),
        ("for: 1m", "for: soon", "error", "expected a duration"),
        ("for: 1m", "for: 2d", "error", "longer than the maximum"),
        ("for: 1m", "for: 1h", "warning", "long for a critical alert"),
        ("gpu_lost)", "gpu_lots)", "error", "gpu_lots is not in exporter/catalogue.yml"),
        ("(gpu_lost)", "(rate(gpu_lost[5m]))", "error", "not a counter"),
        ("(gpu_lost) == 1", "(gpu_lost", "error", "query: invalid PromQL"),
        ("max by (node, gpu) (gpu_lost) == 1", "vector(2)", "error", "selects no series"),
        ("max by (node, gpu) (gpu_lost)", 'count({gpu="1"})', "error", "without a metric name"),
    ],
)
def test_each_fault_is_found_at_its_line(
    tmp_path: Path, good: str, bad: str, severity: str, text: str
) -> None:
    assert good in GOOD
    found = _findings(tmp_path, GOOD.replace(good, bad))
    assert any(f.severity == severity and text in f.text and f.line == 5 for f in found), found


@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_is_valid(tmp_path: Path, stage: str) -> None:
    assert _findings(tmp_path, GOOD.replace("static", f"static, stage: {stage}", 1)) == []


LOOKS_BACK = "max by (node, gpu) (increase(gpu_xid_errors_total[5m])) > 0"
STATE = "max by (node, gpu) (gpu_lost == 1)"


@pytest.mark.parametrize(
    ("query", "label", "wait", "severity", "text"),
    [
        (LOOKS_BACK, "", "", "critical", "looks back in time (increase) and there is no `for`"),
        (LOOKS_BACK, "event", "", "critical", ""),
        (LOOKS_BACK, "memory_error", "", "critical", ""),
        (LOOKS_BACK, "condition", "", "critical", ""),
        (LOOKS_BACK, "", "for: 1m", "critical", ""),
        (LOOKS_BACK, "loss", "", "critical", "loss requires the severity critical"),
        (LOOKS_BACK, "application_error", "", "critical", "does not allow playbook gpu-lost"),
        (STATE, "", "", "critical", ""),
        (STATE, "loss", "", "critical", ""),
        (STATE, "loss", "", "warning", "loss requires the severity critical"),
        (STATE, "event", "", "critical", "but the query shows the current state: remove the label"),
        (
            "gpu_xid_errors_total - gpu_xid_errors_total offset 5m > 1",
            "",
            "",
            "critical",
            "(offset)",
        ),
        ("time() - gpu_xid_last_timestamp_seconds < 60", "", "", "critical", "(time)"),
    ],
)
def test_what_an_alert_reports_agrees_with_its_query_and_its_playbook(
    tmp_path: Path, query: str, label: str, wait: str, severity: str, text: str
) -> None:
    declared = f"source: static{', reports: ' + label if label else ''}"
    rule = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", query).replace("for: 1m", wait)
    rule = rule.replace("source: static", declared).replace("critical", severity)
    found = [one.text for one in _findings(tmp_path, rule) if one.severity == "error"]
    assert (len(found), text in "".join(found)) == (1 if text else 0, True), found


def test_a_playbook_that_does_not_match_its_alert_is_a_warning(tmp_path: Path) -> None:
    """A playbook of the site with the same name may match it."""
    text = GOOD.replace("GpuLost", "GpuPowerBrake")
    (found,) = _findings(tmp_path, text)
    assert found.severity == "warning"
    assert "add the alert to match.alertname of the playbook, or write notify-only" in found.text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('gpu_lost{colour="red"}', "has no label colour: the matcher selects nothing"),
        ('gpu_lost{colour!="red"}', "the matcher selects everything"),
        (
            'gpu_temperature_celsius{sensor="gpus"}',
            "sensor of gpu_temperature_celsius is never 'gpus'",
        ),
        ('gpu_ecc_errors_total{error=~"corrected|broken"}', "is never 'broken'"),
        ("sum by (node, job_id) (gpu_lost)", "sum by (job_id): no input series has this label"),
        ("gpu_lost and on (cluster, service) gpu_up", "never has this label"),
        ("gpu_lost * gpu_expected", "never matches: only one side has gpu, uuid"),
        ("gpu_lost * on (cluster, node) gpu_expected", "several series of the left side can match"),
        (
            "gpu_lost * on (cluster, node, gpu, uuid) group_left (name) gpu_temperature_celsius",
            "can match (they differ in sensor)",
        ),
        (
            f"gpu_lost * on (cluster, node) group_left (name) {NAMED_ONCE}",
            "can match (they differ in gpu, name, uuid)",
        ),
        (
            "gpu_lost * on (cluster, node, gpu, uuid) group_left (name) "
            f"{NAMED_ONCE.replace('== 1', '== 2')}",
            "can match (they differ in name)",
        ),
        (
            "gpu_lost * on (cluster, node) group_left (uuid) gpu_expected",
            "group label uuid: the side it is copied from never has this label",
        ),
        ("max by (cluster) (gpu_utilization_ratio) > 95", "is a ratio from 0 to 1"),
        ("(gpu_lost) == 2", "is 0 or 1"),
        ("training_last_step_timestamp_seconds > 600", "subtract it from time()"),
        ("max(gpu_xid_errors_total) > 5", "is a counter, but its raw value is compared"),
    ],
)
def test_each_query_that_cannot_mean_what_it_says_is_found(
    tmp_path: Path, query: str, text: str
) -> None:
    found = _findings(tmp_path, GOOD.replace("max by (node, gpu) (gpu_lost) == 1", _quoted(query)))
    assert any(text in f.text for f in found), found


def test_a_share_of_things_that_are_so_or_not_is_compared_with_a_ratio(tmp_path: Path) -> None:
    query = "avg by (node, gpu) (gpu_lost) > 0.3"
    assert _findings(tmp_path, GOOD.replace("max by (node, gpu) (gpu_lost) == 1", query)) == []


def _quoted(query: str) -> str:
    return "'" + query.replace("'", "''") + "'"


def test_absent_waits(tmp_path: Path) -> None:
    asked = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", "absent(gpu_lost)")
    assert _findings(tmp_path, asked) == []
    (finding,) = _findings(tmp_path, asked.replace("    for: 1m\n", ""))
    assert "fires at every restart" in finding.text


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("max by (node) (gpu_lost)", "$labels.gpu", "never has"),
        ("max by (node, gpu) (gpu_lost)", "$labels.gpu of $labels.node", ""),
        ("max by (node) (gpu_lost) or max by (node, gpu) (gpu_up)", "$labels.gpu", "may not have"),
        (
            "max by (node) (gpu_lost) or max by (node, gpu) (gpu_up)",
            "{{ if $labels.gpu }}GPU {{ $labels.gpu }}{{ end }}",
            "",
        ),
        ("max by (node) (gpu_lost)", "{{ with $labels.gpu }}GPU {{ . }}{{ end }}", "never has"),
        ('absent(gpu_up{node="a"})', "$labels.node", ""),
        (
            "gpu_up * on (cluster, node) group_left () max by (cluster, node) (gpu_expected)",
            "$labels.uuid",
            "",
        ),
        ("gpu_up > on (cluster, node, gpu, uuid) gpu_lost", "$labels.instance", "never has"),
        ("gpu_up", "$labels.severity", ""),
        ('label_replace(gpu_up, "machine", "$1", "node", "(.+)")', "$labels.machine", ""),
        (
            'label_replace(gpu_up, "machine", "$1", "node", "gpu-(.+)")',
            "$labels.machine",
            "may not have",
        ),
        ("node_load1", "$labels.node", ""),
        ("alertmanager_config_last_reload_successful", "$labels.node", "never has"),
    ],
)
def test_a_text_shows_only_labels_that_the_alert_has(
    tmp_path: Path, query: str, text: str, found: str
) -> None:
    rule = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", _quoted(query))
    problems = _findings(
        tmp_path, rule.replace("description: d", f'description: "{{{{ {text} }}}}"')
    )
    assert [f.text for f in problems if "a template uses" in f.text] == [
        f.text for f in problems if found and found in f.text
    ]
    assert bool(found) == any("a template uses" in f.text for f in problems)


def test_a_runbook_url_is_literal(tmp_path: Path) -> None:
    problems = _findings(tmp_path, GOOD.replace("http://x/GpuLost", "http://{{ $x }}/GpuLost"))
    assert any("must not contain a template" in f.text for f in problems)


LINK = "http://x/d/fleetmedic-gpu?var-node={{ $labels.node | urlquery }}"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (LINK, ""),
        ("http://x/d/fleetmedic-meta", ""),
        ("https://grafana.example.org/ops/d/ours?node={{ $labels.node | urlquery }}", ""),
        (LINK.replace(" | urlquery", ""), "could change the target"),
        (LINK.replace("urlquery", "title"), "could change the target"),
        (LINK.replace("fleetmedic-gpu", "fleetmedic-gpus"), "unknown dashboard fleetmedic-gpus; known: fleetmedic-anomalies"),
        (LINK.replace("var-node", "var-rack"), "fleetmedic-gpu has no variable rack"),
        (LINK.replace("http://x", ""), "must be a URL"),
        (LINK.replace("$labels.node", "$labels.rack"), "a template uses"),
    ],
)  # fmt: skip
def test_a_dashboard_url_leads_to_a_dashboard_with_its_variables(
    tmp_path: Path, url: str, text: str
) -> None:
    found = _findings(tmp_path, GOOD.replace("playbook:", f"dashboard_url: '{url}', playbook:"))
    assert (text in " ".join(f.text for f in found)) if text else found == []


@pytest.mark.parametrize(
    "query",
    [
        "vector(1)",
        "rate(inference_request_duration_seconds_bucket[5m]) > 0",
        "increase(node_vmstat_oom_kill[5m]) > 0",
        "increase(gpu_xid_errors_total[5m]) > 0",
        f"gpu_lost * on (cluster, node, gpu, uuid) group_left (name) {NAMED_ONCE}",
        f"{NAMED_ONCE} * on (cluster, node, gpu, uuid) group_right (name) gpu_lost",
    ],
)
def test_these_queries_are_fine(tmp_path: Path, query: str) -> None:
    text = GOOD.replace("max by (node, gpu) (gpu_lost) == 1", query)
    assert _findings(tmp_path, text) == []


def test_a_recording_rule_is_known_within_its_file_and_named_by_levels(tmp_path: Path) -> None:
    record = "  - {record: 'gpu:gpu_lost:max', expr: 'max by (node, gpu) (gpu_lost)'}\n"
    text = GOOD.replace("(gpu_lost)", "(gpu:gpu_lost:max)").rstrip() + "\n" + record
    assert _findings(tmp_path, text) == []
    (finding,) = _findings(tmp_path, text.replace("gpu:gpu_lost:max', e", "Sum', e"))[-1:]
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
    render(tmp_path, RenderParameters(factor, Links("http://127.0.0.1:1/runbooks")))
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
