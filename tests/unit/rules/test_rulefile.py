"""Rule files: parsing, line numbers, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from rules import rulefile
from rules.render import sources

WHERE = Path("some.yml")


def test_each_rule_knows_its_line() -> None:
    text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n  - record: a:b\n    expr: up\n"
    assert [(rule.name, rule.line) for rule in rulefile.parse(text, WHERE).rules()] == [
        ("A", 4),
        ("a:b", 6),
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_writing_and_reading_again_gives_the_same_rules(path: Path) -> None:
    file = rulefile.read(path)
    again = rulefile.parse(file.text("a header\nof two lines"), path)
    assert [group.plain() for group in again.groups] == [group.plain() for group in file.groups]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("groups: 5", "some.yml:1: expected a list"),
        ("[]", "some.yml:1: expected a mapping"),
        ("groups:\n- name: g\n  rulez: []", "some.yml:2: unknown key 'rulez'"),
        ("groups: [{name: g, rules: [{expr: up}]}]", "either `alert` or `record`"),
        ("groups: [{name: g, rules: [{alert: A, record: b, expr: up}]}]", "either `alert`"),
        ("groups: [{name: g, rules: [{alert: A, expr: [up]}]}]", "expected a string"),
        ("groups: [{name: g, name: h}]", "duplicate key"),
        ("groups: [*x]", "aliases are not supported"),
        ("groups: [", "Close the bracket"),
    ],
)
def test_what_prometheus_would_not_read_is_refused_with_its_place(
    text: str, complaint: str
) -> None:
    with pytest.raises(UserError) as error:
        rulefile.parse(text, WHERE)
    assert complaint in str(error.value)
    assert str(error.value).startswith("some.yml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        rulefile.read(tmp_path / "none.yml")
