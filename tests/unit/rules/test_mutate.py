"""The mutations of a rule. An integration test checks that the promtool tests detect them."""

from __future__ import annotations

import pytest

from fleetmedic.kernel.errors import UserError
from rules.mutate import Mutation, MutationResult, mutation_detected, mutations, run
from rules.rulefile import Rule


def _of(expr: str, **fields: str) -> dict[str, Rule]:
    found: list[Mutation] = mutations(Rule("A", expr, True, **fields))
    assert len({m.what for m in found}) == len(found)
    return {m.what: m.rule for m in found}


def test_a_threshold_moves_a_tenth_both_ways() -> None:
    wrong = _of("up > 50")
    assert {rule.expr for rule in wrong.values()} == {"up > 55", "up > 45"}


def test_a_threshold_of_zero_moves_too() -> None:
    assert {rule.expr for rule in _of("up > 0").values()} == {"up > 0.1", "up > (-0.1)"}


def test_each_matcher_is_dropped_and_altered_and_each_alternative_dropped() -> None:
    wrong = {rule.expr for rule in _of('a{b="c", d=~"e|f"} / g').values()}
    assert wrong == {
        'a{d=~"e|f"} / g', 'a{b="cx", d=~"e|f"} / g',
        'a{b="c"} / g', 'a{b="c", d=~"e|fx"} / g',
        'a{b="c", d=~"f"} / g', 'a{b="c", d=~"e"} / g',
    }  # fmt: skip


def test_a_lone_matcher_leaves_the_bare_series() -> None:
    assert _of('a{b="c"}')["matcher 1: b= dropped"].expr == "a{}"


def test_for_and_keep_firing_for_are_dropped() -> None:
    wrong = _of("up", wait="1m", keep="2m")
    assert wrong["for dropped"].wait == ""
    assert wrong["keep_firing_for dropped"].keep == ""
    assert wrong["for dropped"].keep == "2m"


@pytest.mark.parametrize(
    ("killed", "reason", "fine"),
    [(True, "", True), (False, "", False), (False, "why", True), (True, "why", False)],
)
def test_an_excuse_is_needed_for_survivors_and_for_them_only(
    killed: bool, reason: str, fine: bool
) -> None:
    assert MutationResult("A", "x", killed, reason).passed is fine


def test_an_unknown_alert_is_refused() -> None:
    from pathlib import Path

    with pytest.raises(UserError, match="NoSuchAlert"):
        run(Path("/nonexistent"), alerts=["NoSuchAlert"])


@pytest.mark.parametrize(
    ("said", "is_red"),
    [
        ("FAILED:\n alertname: A, time: 1m, \n exp:[], \n got:[\n 0: ...", True),
        ("FAILED:\nrule: A, time: 0s, err: found duplicate series for the match group", True),
        ("FAILED:\nrule.yml: yaml: line 3: mapping values are not allowed", False),
        ('FAILED:\nrule.yml: 5:9: group "g", rule 1, "A": could not parse expression', False),
    ],
)
def test_a_query_that_cannot_be_answered_is_noticed_and_a_broken_file_is_not(
    said: str, is_red: bool
) -> None:
    assert mutation_detected(said) is is_red
