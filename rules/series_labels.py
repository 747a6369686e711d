"""Derives the labels of a query's series from the metric catalogue, without a Prometheus.

A label is on all series (`sure`) or on some of them (`maybe`), for example if only one side of an
`or` has it. If the labels cannot be derived, the result is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as pp

from exporter.catalogue import Metric, Producer, catalogue
from fleetmedic.kernel.labels import CLUSTER, NODE
from rules.promql import COMPARISONS, SET_OPERATORS, walk

# Labels that the scrape configuration adds to every series. They do not distinguish series: two
# targets with the same node and job are a configuration error.
ADDED = frozenset({CLUSTER, "job", "instance"})
SCALARS = frozenset({"time", "pi", "scalar"})
# Regular expressions of label_replace that copy the whole value.
WHOLE = frozenset({"(.*)", "(.+)"})
KEPT = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


@dataclass(frozen=True, slots=True)
class SeriesLabels:
    """The labels of a query's series: `sure` are on all series, `maybe` on at least some.

    If the labels cannot be derived, `known` is False and both sets are empty. A number has no labels and
    is `scalar`.
    """

    sure: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    known: bool = True
    scalar: bool = False

    def may_have(self, label: str) -> bool:
        """Return whether any of the series can have the label."""
        return not self.known or label in self.maybe


UNKNOWN = SeriesLabels(known=False)
NUMBER = SeriesLabels(scalar=True)


def exactly(labels: frozenset[str]) -> SeriesLabels:
    """Return the SeriesLabels of series that all have these labels and no others."""
    return SeriesLabels(labels, labels)


def labels_of_family(metric: Metric) -> SeriesLabels:
    """Return the labels of a metric family in Prometheus, after the scrape."""
    found = _produced(metric, metric.producer, metric.labels)
    for producer, labels in metric.shared.items():
        other = _produced(metric, producer, labels)
        found = SeriesLabels(found.sure & other.sure, found.maybe | other.maybe)
    return found


def _produced(metric: Metric, producer: Producer, labels: Iterable[str]) -> SeriesLabels:
    own = frozenset(labels) | ADDED | ({"le"} if metric.type == "histogram" else frozenset())
    if producer == "exporter":
        return exactly(own | {NODE})
    if producer in ("external", "later"):
        return SeriesLabels(own, own | {NODE})  # external scrape jobs may also set the node
    return exactly(own)


def labels_of_query(node: Any, records: Mapping[str, SeriesLabels]) -> SeriesLabels:
    """Return the labels of an expression's series. `records` contains the labels of recording
    rules, by name."""
    if isinstance(node, pp.NumberLiteral | pp.StringLiteral):
        return NUMBER
    if isinstance(node, pp.VectorSelector):
        return _selector(node, records)
    if isinstance(node, pp.MatrixSelector):
        return _selector(node.vector_selector, records)
    if isinstance(node, pp.SubqueryExpr | pp.ParenExpr | pp.UnaryExpr):
        return labels_of_query(node.expr, records)
    if isinstance(node, pp.Call):
        return _call(node, records)
    if isinstance(node, pp.AggregateExpr):
        return _aggregate(node, labels_of_query(node.expr, records))
    if isinstance(node, pp.BinaryExpr):
        return _binary(node, labels_of_query(node.lhs, records), labels_of_query(node.rhs, records))
    return UNKNOWN


def _selector(node: Any, records: Mapping[str, SeriesLabels]) -> SeriesLabels:
    name = metric_name(node)
    asked = {m.name: m.value for m in node.matchers.matchers if m.op == pp.MatchOp.Equal}
    if name == "up":
        return (
            exactly(ADDED | {NODE})
            if asked.get("job") == "node"
            else SeriesLabels(ADDED, ADDED | {NODE})
        )
    # All selected series have a label that the selector requires to be non-empty.
    named = {label for label, value in asked.items() if value}
    named |= {m.name for m in node.matchers.matchers if m.op == pp.MatchOp.NotEqual and not m.value}
    if name in records:
        found = records[name]
        return SeriesLabels(found.sure | (named & found.maybe), found.maybe, found.known)
    metric = catalogue().of_series(name)
    if metric is None:
        return UNKNOWN
    found = labels_of_family(metric)
    if metric.type == "histogram" and not name.endswith("_bucket"):
        return exactly(found.sure - {"le"})
    return SeriesLabels(found.sure | (named & found.maybe), found.maybe)


def metric_name(node: Any) -> str:
    """Return the metric name of a selector, or "" if it has none."""
    named = (m.value for m in node.matchers.matchers if m.name == "__name__")
    return node.name or next(named, "")


def _call(node: Any, records: Mapping[str, SeriesLabels]) -> SeriesLabels:
    name = node.func.name
    if name in SCALARS:
        return NUMBER
    if name == "vector":
        return exactly(frozenset())
    if name == "absent" or name == "absent_over_time":
        return exactly(_equalities(node.args[0]))
    given = next(
        (found for arg in node.args if not (found := labels_of_query(arg, records)).scalar), NUMBER
    )
    if name in ("label_replace", "label_join") and given.known:
        added = node.args[1].val
        taken_whole = name == "label_replace" and node.args[4].val in WHOLE
        sure = {added} if taken_whole and node.args[3].val in given.sure else set()
        return SeriesLabels(given.sure | sure, given.maybe | {added})
    if name == "histogram_quantile":
        return SeriesLabels(given.sure - {"le"}, given.maybe - {"le"}, given.known)
    return given


def _equalities(argument: Any) -> frozenset[str]:
    """Return the labels of the result of absent(): those that its selector matches with `=`."""
    for node in walk(argument):
        if isinstance(node, pp.VectorSelector):
            matchers = node.matchers.matchers
            return frozenset(m.name for m in matchers if m.op == pp.MatchOp.Equal) - {"__name__"}
    return frozenset()


def _aggregate(node: Any, inner: SeriesLabels) -> SeriesLabels:
    if str(node.op) in KEPT:
        return inner
    modifier = node.modifier
    named = frozenset(modifier.labels) if modifier is not None else frozenset()
    if modifier is not None and modifier.type == pp.AggModifierType.Without:
        return SeriesLabels(inner.sure - named, inner.maybe - named, inner.known)
    if not inner.known:
        return SeriesLabels(frozenset(), named)
    found = SeriesLabels(inner.sure & named, inner.maybe & named)
    if str(node.op) == "count_values":
        return SeriesLabels(found.sure | {node.param.val}, found.maybe | {node.param.val})
    return found


def _binary(node: Any, left: SeriesLabels, right: SeriesLabels) -> SeriesLabels:
    if left.scalar or right.scalar:
        return right if left.scalar else left
    op = str(node.op)
    if op == "or":
        if not (left.known and right.known):
            return UNKNOWN
        return SeriesLabels(left.sure & right.sure, left.maybe | right.maybe)
    if op in SET_OPERATORS:
        return left
    modifier = node.modifier
    if modifier is not None and modifier.card != pp.VectorMatchCardinality.OneToOne:
        many, one = (left, right)
        if modifier.card == pp.VectorMatchCardinality.OneToMany:
            many, one = right, left
        brought = frozenset(modifier.group_labels or ())
        return SeriesLabels(many.sure | (brought & one.sure), many.maybe | brought, many.known)
    if modifier is None or modifier.matching is None:
        return left if left.known or op in COMPARISONS else right
    named = frozenset(modifier.matching.labels)
    if modifier.matching.type == pp.LabelModifierType.Include:
        return SeriesLabels(left.sure & named, named if not left.known else left.maybe & named)
    return SeriesLabels(left.sure - named, left.maybe - named, left.known)


def binaries(node: Any) -> Iterator[Any]:
    """Yield every binary operation in the syntax tree below `node`."""
    for below in walk(node):
        if isinstance(below, pp.BinaryExpr):
            yield below
