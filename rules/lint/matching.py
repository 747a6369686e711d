"""Checks of labels in selectors, vector matching and annotation templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser as pp

from exporter.catalogue import catalogue
from rules import promql
from rules.lint.check import CheckInput, Problem
from rules.lint.query import readable
from rules.promql import SET_OPERATORS
from rules.series_labels import (
    ADDED,
    SeriesLabels,
    binaries,
    labels_of_family,
    labels_of_query,
    metric_name,
)

_SHOWN = re.compile(r"\$labels\.(\w+)")
_ASKED_FIRST = re.compile(r"\{\{-?\s*(?:else\s+)?(?:if|with)\s+\$labels\.(\w+)")
_NEGATIVE = (pp.MatchOp.NotEqual, pp.MatchOp.NotRe)


def selecting(subject: CheckInput) -> Iterator[Problem]:
    """Check a query for label matchers that select no series, or all series."""
    if not readable(subject):
        return
    for node in promql.walk(promql.parse(subject.rule.expr)):
        metric = catalogue().of_series(metric_name(node)) if _is_selector(node) else None
        if metric is None:
            continue
        has = labels_of_family(metric).maybe
        for matcher in node.matchers.matchers:
            if matcher.name == "__name__":
                continue
            if matcher.name not in has:
                what = "everything" if matcher.op in _NEGATIVE else "nothing"
                yield (
                    "error",
                    f"{metric.name} has no label {matcher.name}: the matcher selects {what}.",
                )
            elif impossible := _impossible_value(matcher, metric.values.get(matcher.name, ())):
                known = ", ".join(metric.values[matcher.name])
                yield (
                    "error",
                    f"label {matcher.name} of {metric.name} is never {impossible!r}; expected one of {known}.",
                )


def _is_selector(node: Any) -> bool:
    return isinstance(node, pp.VectorSelector)


def _impossible_value(matcher: Any, values: tuple[str, ...]) -> str:
    """Return a value in the matcher that no series can have; "" if all are possible or unknown."""
    if not values:
        return ""
    if matcher.op in (pp.MatchOp.Equal, pp.MatchOp.NotEqual):
        return matcher.value if matcher.value and matcher.value not in values else ""
    for alternative in matcher.value.split("|"):
        if not any(re.fullmatch(_balanced(alternative), value) for value in values):
            return str(alternative)
    return ""


def _balanced(alternative: str) -> str:
    """Return one alternative of a regular expression, or `.*` if splitting at | made it invalid."""
    try:
        re.compile(alternative)
    except re.error:
        return ".*"
    return alternative


def grouping(subject: CheckInput) -> Iterator[Problem]:
    """Check that the series in each aggregation can have the labels that it groups by."""
    if not readable(subject):
        return
    for node in promql.walk(promql.parse(subject.rule.expr)):
        if not isinstance(node, pp.AggregateExpr) or node.modifier is None:
            continue
        inner = labels_of_query(node.expr, subject.records)
        for label in node.modifier.labels:
            if not inner.may_have(label):
                word = "by" if node.modifier.type == pp.AggModifierType.By else "without"
                yield "error", f"{node.op} {word} ({label}): no input series has this label."


def matching(subject: CheckInput) -> Iterator[Problem]:
    """Check binary operators whose sides never match, or match many-to-many."""
    if not readable(subject):
        return
    for node in binaries(promql.parse(subject.rule.expr)):
        left, right = (
            labels_of_query(node.lhs, subject.records),
            labels_of_query(node.rhs, subject.records),
        )
        if left.scalar or right.scalar or str(node.op) == "or":
            continue
        if node.modifier is None or node.modifier.matching is None:
            yield from _plain(node, left, right)
        elif node.modifier.matching.type == pp.LabelModifierType.Include:
            yield from _on(node, left, right)


def _plain(node: Any, left: SeriesLabels, right: SeriesLabels) -> Iterator[Problem]:
    if not (_settled(left) and _settled(right)) or left.sure == right.sure:
        return
    odd = ", ".join(sorted(left.sure ^ right.sure))
    yield "error", f"`{node.op}` never matches: only one side has {odd}; add on (...) or aggregate."


def _on(node: Any, left: SeriesLabels, right: SeriesLabels) -> Iterator[Problem]:
    named = frozenset(node.modifier.matching.labels)
    for side, name in ((left, "left"), (right, "right")):
        for label in sorted(named):
            if not side.may_have(label):
                yield "error", f"`{node.op} on ({label})`: the {name} side never has this label."
    if str(node.op) in SET_OPERATORS:
        return
    card = node.modifier.card
    for side, name in _sides_with_one_series(card, (left, "left"), (right, "right")):
        more = side.maybe - named - ADDED if side.known else frozenset()
        if more and not _has_one_series(node.lhs if name == "left" else node.rhs, named):
            odd = ", ".join(sorted(more))
            yield (
                "error",
                f"`{node.op}`: several series of the {name} side can match (they differ in {odd}); "
                "aggregate that side first.",
            )
    one = left if card == pp.VectorMatchCardinality.OneToMany else right
    for label in node.modifier.group_labels or ():
        if not one.may_have(label):
            yield "error", f"group label {label}: the side it is copied from never has this label."


def _sides_with_one_series(
    card: Any, left: tuple[SeriesLabels, str], right: tuple[SeriesLabels, str]
) -> list[tuple[SeriesLabels, str]]:
    """Return the sides of a binary operator that may have only one series per match group."""
    if card == pp.VectorMatchCardinality.ManyToOne:
        return [right]
    return [left] if card == pp.VectorMatchCardinality.OneToMany else [left, right]


def _has_one_series(node: Any, named: frozenset[str]) -> bool:
    """Return whether an expression `X and on (L) count by (L) (X) == 1` keeps at most one series for
    each combination of the labels `named`, which are L."""
    while isinstance(node, pp.ParenExpr):
        node = node.expr
    if not (_is_binary(node, "and") and _is_binary(node.rhs, "==") and node.modifier):
        return False
    counted, one = node.rhs.lhs, node.rhs.rhs
    return bool(
        isinstance(counted, pp.AggregateExpr)
        and str(counted.op) == "count"
        and counted.modifier is not None
        and counted.modifier.type == pp.AggModifierType.By
        and frozenset(counted.modifier.labels) == named
        and node.modifier.matching is not None
        and node.modifier.matching.type == pp.LabelModifierType.Include
        and frozenset(node.modifier.matching.labels) == named
        and isinstance(one, pp.NumberLiteral)
        and one.val == 1
        and str(counted.expr) == str(node.lhs)
    )


def _is_binary(node: Any, op: str) -> bool:
    return isinstance(node, pp.BinaryExpr) and str(node.op) == op


def _settled(side: SeriesLabels) -> bool:
    return side.known and side.sure == side.maybe


def texts(subject: CheckInput) -> Iterator[Problem]:
    """Check that an alert has all labels that its annotation templates use."""
    rule = subject.rule
    if not readable(subject) or not rule.is_alert:
        return
    given = labels_of_query(promql.parse(rule.expr), subject.records)
    if not given.known or given.scalar:
        return
    text = " ".join((*rule.annotations.values(), *rule.labels.values()))
    # A template that tests a label with `if` or `with` handles a missing label.
    sure = given.sure | (given.maybe & set(_ASKED_FIRST.findall(text)))
    for label in sorted(set(_SHOWN.findall(text)) - {"alertname"}):
        if label not in sure and label not in rule.labels:
            kind = "may not have" if label in given.maybe else "never has"
            yield "error", f"a template uses $labels.{label}, which the alert {kind}."
