"""Rules from SLOs: windows and factors, and that the shipped rule file is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.kernel.errors import UserError
from rules import burn_rate
from rules.cli import rules as command
from rules.lint import lint_file
from rules.render import HERE
from rules.rulefile import Rule

GOOD = """
slos:
- name: ChatErrorBudget
  record: service:chat_errors
  by: [cluster, service]
  category: service
  objective: 0.99
  bad: sum by (cluster, service) (rate(inference_requests_total{code=~"5.."}[$window]))
  all: sum by (cluster, service) (rate(inference_requests_total[$window]))
  fast: {severity: critical, playbook: notify-only, summary: It burns., description: d}
  slow: {severity: warning, playbook: notify-only, summary: It leaks., description: d}
"""


def _rules(tmp_path: Path, text: str = GOOD) -> dict[str, Rule]:
    path = tmp_path / "chat.yml"
    path.write_text(text)
    return {rule.name: rule for rule in burn_rate.rules(path).rules()}


@pytest.mark.parametrize("path", burn_rate.sources(), ids=lambda path: path.stem)
def test_the_shipped_rules_are_what_the_promises_give(path: Path) -> None:
    written = HERE / "static" / f"slo-{path.stem}.yml"
    assert written.read_text() == burn_rate.text(path), (
        f"run: fleetmedic rules slo rules/slo/{path.name} --out rules/static"
    )


def test_each_window_is_recorded_once(tmp_path: Path) -> None:
    records = [name for name, rule in _rules(tmp_path).items() if not rule.is_alert]
    windows = ["5m", "30m", "1h", "6h", "3d"]
    assert records == [f"service:chat_errors:ratio_rate{window}" for window in windows]


def test_a_page_needs_a_long_window_and_a_short_one_to_agree(tmp_path: Path) -> None:
    rules = _rules(tmp_path)
    fast = " ".join(rules["ChatErrorBudgetBurnFast"].expr.split())
    assert fast == (
        "(service:chat_errors:ratio_rate1h > 14.4 * 0.01 and service:chat_errors:ratio_rate5m > 14.4 * 0.01) "
        "or (service:chat_errors:ratio_rate6h > 6 * 0.01 and service:chat_errors:ratio_rate30m > 6 * 0.01)"
    )
    slow = rules["ChatErrorBudgetBurnSlow"]
    assert "ratio_rate3d > 1 * 0.01" in slow.expr
    assert (slow.wait, slow.labels["severity"]) == ("1h", "warning")


def test_its_alerts_name_their_instrument(tmp_path: Path) -> None:
    assert _instruments(_rules(tmp_path)) == {"service"}
    job = GOOD.replace("category: service", "category: service\n  instrument: job")
    assert _instruments(_rules(tmp_path, job)) == {"job"}


def _instruments(rules: dict[str, Rule]) -> set[str | None]:
    return {rule.labels.get("instrument") for rule in rules.values() if rule.is_alert}


def test_below_the_least_rate_nothing_is_recorded(tmp_path: Path) -> None:
    rules = _rules(tmp_path, GOOD + "  least_rate: 0.2\n")
    assert rules["service:chat_errors:ratio_rate5m"].expr.rstrip().endswith(">= 0.2)")


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ("objective: 0.99", "objective: 99", "slos[0].objective"),
        ("objective: 0.99", "objective: 1", "slos[0].objective"),
        ("name: ChatErrorBudget", "name: chat errors", "slos[0].name"),
        ("record: service:chat_errors", "record: errors", "slos[0].record"),
        ("[$window]))\n  all", "[5m]))\n  all", "$.slos[0].bad: expected a range [$window]"),
        ("all: sum by", "all: sum by by", "$.slos[0].all: invalid PromQL"),
        ("severity: critical", "severity: page", "$.slos[0].fast.severity: expected one of"),
        ("category: service", "categorie: service", "categorie"),
        (
            "objective: 0.99",
            "objective: 0.99\n  instrument: guess",
            "$.slos[0].instrument: expected one of driver, kernel_log",
        ),
        ("slos:", "slo:", "slo"),
    ],
)
def test_a_promise_that_cannot_be_is_one_sentence_with_its_place(
    tmp_path: Path, good: str, bad: str, text: str
) -> None:
    assert good in GOOD
    with pytest.raises(UserError) as error:
        _rules(tmp_path, GOOD.replace(good, bad, 1))
    assert "chat.yml" in str(error.value)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_prints_or_writes_rules_that_lint_takes(tmp_path: Path) -> None:
    said = CliRunner().invoke(command, ["slo", "--out", str(tmp_path)])
    assert said.exit_code == 0
    (path,) = (Path(line) for line in said.stdout.split())
    assert lint_file(path) == []
    text = path.read_text()
    assert CliRunner().invoke(command, ["slo"]).stdout == text
    kept = path.rename(tmp_path / "kept")
    path.symlink_to(kept)
    kept.write_text("")
    CliRunner().invoke(command, ["slo", "--out", str(tmp_path)])
    assert (path.is_symlink(), kept.read_text()) == (True, text)
