"""Checks of the metrics, functions and numbers in a query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser as pp

from exporter.catalogue import Metric, catalogue
from fleetmedic.kernel.errors import UserError
from rules import promql
from rules.lint.check import CheckInput, Problem
from rules.series_labels import metric_name

ALWAYS = "vector(1)"
_COUNTS = ("_total", "_bucket", "_count", "_sum")
_OLDEST = 1e9  # Unix seconds; a smaller number is an age and not a timestamp
# Aggregations that keep the unit of their input.
_SAME_VALUE = frozenset({"max", "min", "avg", "quantile", "topk", "bottomk"})
_SHARES = frozenset({"avg", "quantile"})  # applied to 0 and 1, these return a ratio


def readable(subject: CheckInput) -> bool:
    """Return whether the query can be parsed, as the other checks of queries require."""
    try:
        promql.selectors(subject.rule.expr)
        promql.numbers(subject.rule.expr)
    except UserError:
        return False
    return True


def syntax(subject: CheckInput) -> Iterator[Problem]:
    try:
        read = promql.selectors(subject.rule.expr)
        promql.numbers(subject.rule.expr)
    except UserError as error:
        yield "error", f"query: {error}"
        return
    if not read and subject.rule.expr != ALWAYS:
        yield "error", "the query selects no series: the result never changes."


def families(subject: CheckInput) -> Iterator[Problem]:
    if not readable(subject):
        return
    metrics = catalogue()
    for selector in promql.selectors(subject.rule.expr):
        family = metrics.of_series(selector.metric)
        if family is None and selector.metric not in subject.records:
            name = selector.metric or "a selector without a metric name"
            yield "error", f"{name} is not in exporter/catalogue.yml."
        counts = selector.metric.endswith(_COUNTS) or (
            family is not None and family.type in ("counter", "untyped")
        )
        if selector.function and not counts:
            yield (
                "error",
                f"{selector.function}() of {selector.metric}, which is not a counter; use delta() or deriv().",
            )


def absence(subject: CheckInput) -> Iterator[Problem]:
    if not readable(subject) or not subject.rule.is_alert or subject.rule.wait:
        return
    for node in promql.walk(promql.parse(subject.rule.expr)):
        if isinstance(node, pp.Call) and node.func.name in ("absent", "absent_over_time"):
            yield (
                "error",
                f"{node.func.name}() without `for` fires at every restart: set `for` to two scrape intervals.",
            )


def units(subject: CheckInput) -> Iterator[Problem]:
    """Check that numbers compared with a metric fit the metric's unit."""
    if not readable(subject):
        return
    for node in promql.walk(promql.parse(subject.rule.expr)):
        if not isinstance(node, pp.BinaryExpr) or str(node.op) not in promql.COMPARISONS:
            continue
        for side, other in ((node.lhs, node.rhs), (node.rhs, node.lhs)):
            value, family = _number(other), _family(side)
            if value is not None and family is not None:
                yield from _unit(family, value)


def _unit(family: Metric, value: float) -> Iterator[Problem]:
    if family.unit == "ratio" and not 0 <= value <= 1:
        yield "error", f"{family.name} is a ratio from 0 to 1, but is compared with {value:g}."
    elif family.unit == "bool" and value not in (0, 1):
        yield "error", f"{family.name} is 0 or 1, but is compared with {value:g}."
    elif family.unit == "timestamp" and 0 < value < _OLDEST:
        yield (
            "error",
            f"{family.name} is a Unix timestamp, but is compared with {value:g}: subtract it from time().",
        )
    elif family.type == "counter" and value > 0:
        yield (
            "warning",
            f"{family.name} is a counter, but its raw value is compared: use rate() or increase().",
        )


def _number(node: Any) -> float | None:
    if isinstance(node, pp.ParenExpr):
        return _number(node.expr)
    if isinstance(node, pp.UnaryExpr):
        inner = _number(node.expr)
        return None if inner is None else -inner
    return node.val if isinstance(node, pp.NumberLiteral) else None


def _family(node: Any) -> Metric | None:
    """Return the metric family whose values this expression returns unchanged, or None."""
    if isinstance(node, pp.VectorSelector):
        return catalogue().of_series(metric_name(node))
    if isinstance(node, pp.ParenExpr):
        return _family(node.expr)
    if isinstance(node, pp.AggregateExpr) and str(node.op) in _SAME_VALUE:
        found = _family(node.expr)
        shared = found is not None and found.unit == "bool" and str(node.op) in _SHARES
        return None if shared else found
    if isinstance(node, pp.Call) and node.func.name in ("max_over_time", "min_over_time"):
        return _family(node.args[0].vector_selector) if _plain_range(node.args[0]) else None
    if isinstance(node, pp.BinaryExpr) and str(node.op) in ("and", "unless"):
        return _family(node.lhs)
    return None


def _plain_range(node: Any) -> bool:
    return isinstance(node, pp.MatrixSelector)
