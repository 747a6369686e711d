"""Values of variables in expressions never change the structure of the expression."""

from __future__ import annotations

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from remediator.dashboards.dashboard_library import dashboards
from remediator.dashboards.expression import VariableValues, check, fill, label_values

SPANS = {"__rate_interval": 20, "__interval": 5, "__range": 3600}
HOSTILE = st.text(
    st.sampled_from("\"\\'`{}()[]|.*+?^$#\n\r,=~!abc019 é") | st.characters(codec="utf-8"),
    max_size=30,
)


def shape(node: object) -> object:
    """The tree of an expression without the values of its matchers."""
    kind = type(node).__name__
    if isinstance(node, promql_parser.VectorSelector):
        matchers = [(one.name, str(one.op)) for one in node.matchers.matchers]
        return (kind, node.name, matchers)
    names = ("expr", "lhs", "rhs", "vs", "args", "param", "vector_selector")
    parts = [getattr(node, name, None) for name in names]
    return (
        kind,
        [[shape(one) for one in p] if isinstance(p, list) else shape(p) for p in parts if p],
    )


@given(st.lists(HOSTILE, min_size=1, max_size=3))
def test_no_value_changes_the_structure_of_any_place_a_variable_stands_in(values) -> None:
    for expr in ('sum(rate(a{n=~"$v",m!~"x$v"}[$__rate_interval]))', "a{n=~'${v:regex}'} or b"):
        plain = promql_parser.parse(fill(expr, {"v": VariableValues(("x",))}, SPANS))
        filled = promql_parser.parse(fill(expr, {"v": VariableValues(tuple(values))}, SPANS))
        assert shape(filled) == shape(plain)
    one = promql_parser.parse(fill('a{n="$v"}', {"v": VariableValues((values[0],))}, SPANS))
    assert one.matchers.matchers[0].value == values[0]  # the value is unchanged


def test_every_committed_expression_takes_every_hostile_value() -> None:
    assert dashboards()
    for board in dashboards().values():
        chosen = {name: VariableValues(('"}) or vector(1) #', ".*|\\")) for name in board.variables}
        plain = {name: VariableValues(("x",)) for name in board.variables}
        for query in (*board.queries.values(), *board.annotations):
            trees = [promql_parser.parse(fill(query.expr, c, SPANS)) for c in (plain, chosen)]
            assert shape(trees[0]) == shape(trees[1])
        for definition in board.variables.values():
            selector, label = label_values(definition)
            assert label.isidentifier()
            promql_parser.parse(fill(selector, chosen, SPANS))


def test_all_is_the_dashboards_own_pattern_and_several_are_alternatives() -> None:
    assert fill('a{n=~"$v"}', {"v": VariableValues(None)}, SPANS) == 'a{n=~".*"}'
    assert fill('a{n=~"$v"}', {"v": VariableValues(("b.c", "d"))}, SPANS) == 'a{n=~"(b\\\\.c|d)"}'


def test_spans_are_whole_seconds() -> None:
    expr = "increase(a[$__range]) + rate(a[${__rate_interval}])"
    assert fill(expr, {}, SPANS) == "increase(a[3600s]) + rate(a[20s])"


@pytest.mark.parametrize("expr", ["sum($v)", "$v", "a{n=~`$v`}", 'a{n="$other"}', "a[$v]"])
def test_a_variable_that_is_unknown_or_outside_of_quotes_is_refused(expr) -> None:
    with pytest.raises(UserError):
        fill(expr, {"v": VariableValues(("x",))}, SPANS)


def test_equality_needs_one_value() -> None:
    for values in (None, ("a", "b")):
        with pytest.raises(UserError, match="one value"):
            fill('a{n="$v"}', {"v": VariableValues(values)}, SPANS)


@pytest.mark.parametrize("values", [["x"] * 101, ["x" * 257], ["a\x00"]])
def test_more_than_anybody_chooses_is_refused(values) -> None:
    with pytest.raises(UserError, match="var-v"):
        check("v", values)


def test_only_label_values_makes_a_variable() -> None:
    assert label_values('label_values(up{job="node",a=~"x,y"}, node)') == (
        'up{job="node",a=~"x,y"}', "node",
    )  # fmt: skip
    with pytest.raises(UserError):
        label_values("query_result(up)")
