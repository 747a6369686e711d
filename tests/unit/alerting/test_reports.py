"""What an alert reports, by the label of its rule and, for rules before the label, by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.reports import EARLIER, AlertReport, declared
from tests.unit.remediator.shipped_alerts import declarations


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("Mine", "", AlertReport.CONDITION),
        ("Mine", "event", AlertReport.EVENT),
        ("Mine", "loss", AlertReport.LOSS),
        ("Mine", "Loss", AlertReport.CONDITION),
        ("GpuLost", "", AlertReport.LOSS),
        ("GpuLost", "condition", AlertReport.CONDITION),
        ("GpuLost", "tea leaves", AlertReport.CONDITION),
    ],
)
def test_the_label_decides_and_the_name_only_without_a_label(name, label, expected) -> None:
    assert declared(name, label) is expected


@given(st.text(), st.text(min_size=1))
def test_no_name_changes_what_a_label_declares(name: str, label: str) -> None:
    assert declared(name, label) is declared("Mine", label)


def test_a_loss_and_a_condition_are_states_and_all_else_are_events() -> None:
    assert {one for one in AlertReport if not one.is_event} == {
        AlertReport.CONDITION,
        AlertReport.LOSS,
    }


def test_rules_without_the_label_mean_what_their_successors_declare() -> None:
    """While an upgrade is half done, old rules and new rules must mean the same."""
    shipped = {name: labels.get("reports", "condition") for name, labels in declarations().items()}
    assert {name: shipped[name] for name in EARLIER} == EARLIER


def test_the_documentation_lists_each_value() -> None:
    page = (Path(__file__).parents[3] / "docs" / "remediator.md").read_text()
    section = page.partition("### Reports")[2].partition("\n### ")[0]
    named = set(re.findall(r"^\| .*?`(\w+)` \|", section, re.MULTILINE))
    assert named == {"reports", *AlertReport}
