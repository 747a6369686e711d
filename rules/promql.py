"""Parses PromQL queries, and edits them without changing their layout.

promql-parser returns no positions, and its printer loses parentheses and escapes. So the tree
decides *which* number is a duration or a threshold, and a small tokenizer finds *where* each token
is. The two are paired in source order. Every edited text is parsed again before it is returned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import promql_parser as pp

from fleetmedic.kernel.durations import format_duration, parse_duration
from fleetmedic.kernel.errors import UserError
from rules.timing import SAMPLES_IN_A_RANGE, Timing, shorten

COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
MATCH_OPERATORS = frozenset({"=", "!=", "=~", "!~"})
SET_OPERATORS = frozenset({"and", "or", "unless"})
# Functions that return the unit of their argument.
SAME_UNIT = frozenset(
    {"abs", "ceil", "clamp", "clamp_max", "clamp_min", "floor", "last_over_time", "round", "scalar"}
    | {"max_over_time", "min_over_time", "avg_over_time", "quantile_over_time", "sort", "vector"}
)
OTHER_UNIT_AGGREGATES = frozenset({"count", "count_values", "group", "stdvar"})
MAX_TOKENS = 4_000  # the parser takes quadratic time in the number of operators
MAX_DEPTH = 200  # nested operations; functions over the tree are recursive
MAX_SECONDS = 2**63 / 1e9  # the maximum duration of Prometheus
COUNTER_FUNCTIONS = frozenset({"rate", "irate", "increase", "resets"})

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<duration>(?:\d+(?:ms|[smhdwy]))+(?![\w.]))
    |(?P<number>(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?!\w)
               |(?i:inf|nan)(?![\w:]))
    |(?P<word>:?[A-Za-z_][\w:]*)
    |(?P<mark>=~|!~|==|!=|>=|<=|.)""",
    re.VERBOSE | re.DOTALL,
)


class NumberRole(StrEnum):
    """The role of a number in a query. It decides whether and how the number is divided by the
    factor."""

    PLAIN = "plain"
    AGE = "age"  # compared with an expression of time(), in seconds
    AHEAD = "ahead"  # seconds without a minimum: a prediction horizon, or one factor of an age


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a query, `text[start:end]`."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number literal with its position and role."""

    value: float
    role: NumberRole
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Matcher:
    """A label matcher `name op "value"` and its position, without adjacent commas."""

    name: str
    op: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Selector:
    """A vector selector of a query. `function` is the counter function around it, if any."""

    metric: str
    function: str | None
    labels: tuple[str, ...]


def parse(text: str) -> Any:
    """Return the syntax tree of a query. Raises UserError with the message of the parser.

    Also raises UserError if a duration is out of range, or if the query is too long or too deeply
    nested.
    """
    token_list = tokens(text)
    if len(token_list) > MAX_TOKENS:
        raise UserError(f"invalid PromQL: the query has more than {MAX_TOKENS} tokens.")
    if too_long := next(_out_of_range(token_list), None):
        raise UserError(f"invalid PromQL: duration {too_long[:40]} is out of range.")
    try:
        tree = pp.parse(text)
    except BaseException as error:
        panic = (
            type(error).__name__ == "PanicException"
        )  # raised by the parser; not a subclass of Exception
        if not panic and not isinstance(error, ValueError | RecursionError):
            raise
        raise UserError(f"invalid PromQL: {' '.join(str(error).split())[:200]}.") from None
    if _is_deeper(tree, MAX_DEPTH):
        raise UserError(f"invalid PromQL: the query has more than {MAX_DEPTH} nested operations.")
    return tree


def _out_of_range(token_list: list[Token]) -> Iterator[str]:
    """Yield the out-of-range numbers that are used as durations."""
    for index, token in enumerate(token_list):
        before = token_list[index - 1] if index else None
        if before is not None and before.text in ("+", "-") and index > 1:
            before = token_list[index - 2]
        if token.kind != "number" or before is None:
            continue
        if before.text.lower() in ("[", ":", "offset") and _value(token.text) > MAX_SECONDS:
            yield token.text


def _value(text: str) -> float:
    return float.fromhex(text) if "x" in text.lower() else float(text)


def _is_deeper(tree: Any, most: int) -> bool:
    """Return whether a syntax tree is deeper than `most` levels. Not recursive."""
    level, depth = [tree], 0
    while level and depth <= most:
        level = [child for node in level for child in children(node)]
        depth += 1
    return bool(level)


def tokens(text: str) -> list[Token]:
    """Return all tokens of a query in order, without whitespace and comments."""
    return [
        Token(str(match.lastgroup), match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "skip"
    ]


def edit(text: str, changes: list[tuple[int, int, str]]) -> str:
    """Replace non-overlapping parts `(start, end, new text)` of a query, in any order.

    Raises UserError if the result is invalid.
    """
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    parse(text)
    return text


def children(node: Any) -> Iterator[Any]:
    """Yield the child expressions of a syntax tree node, in source order."""
    if isinstance(node, pp.BinaryExpr):
        yield from (node.lhs, node.rhs)
    elif isinstance(node, pp.AggregateExpr):
        if node.param is not None:
            yield node.param
        yield node.expr
    elif isinstance(node, pp.Call):
        yield from node.args
    elif isinstance(node, pp.ParenExpr | pp.UnaryExpr | pp.SubqueryExpr):
        yield node.expr
    elif isinstance(node, pp.MatrixSelector):
        yield node.vector_selector


def walk(node: Any) -> Iterator[Any]:
    """Yield a syntax tree node and all its descendants."""
    yield node
    for child in children(node):
        yield from walk(child)


def selectors(text: str) -> list[Selector]:
    """Return all vector selectors of a query, in source order."""
    return list(_selectors(parse(text), None))


def _selectors(node: Any, function: str | None) -> Iterator[Selector]:
    if isinstance(node, pp.VectorSelector):
        matchers = node.matchers.matchers
        named = next((m.value for m in matchers if m.name == "__name__"), "")
        yield Selector(node.name or named, function, tuple(m.name for m in matchers))
        return
    if isinstance(node, pp.Call):
        function = node.func.name if node.func.name in COUNTER_FUNCTIONS else None
    for child in children(node):
        yield from _selectors(child, function)


def matchers(text: str) -> list[Matcher]:
    """Return all label matchers of a query in order. A quoted metric name in the braces is not included."""
    parse(text)
    found: list[Matcher] = []
    token_list = tokens(text)
    inside = False
    for index, token in enumerate(token_list):
        if token.text in ("{", "}") and token.kind == "mark":
            inside = token.text == "{"
        elif inside and token.kind == "string" and token_list[index - 1].text in MATCH_OPERATORS:
            name, op = token_list[index - 2], token_list[index - 1]
            label = name.text[1:-1] if name.kind == "string" else name.text
            found.append(Matcher(label, op.text, token.text[1:-1], name.start, token.end))
    return found


def numbers(text: str) -> list[Number]:
    """Return all number literals of a query with their roles, in order.

    Durations in brackets are not included.
    """
    literals = list(_literals(parse(text), NumberRole.PLAIN))
    places = _number_tokens(tokens(text))
    if len(literals) != len(places) or any(
        not _same(value, _value(place.text))
        for (value, _), place in zip(literals, places, strict=True)
    ):
        raise UserError(
            "the query contains a number in an unsupported notation: write it as a decimal number."
        )
    return [
        Number(abs(value), role, place.start, place.end)
        for (value, role), place in zip(literals, places, strict=True)
    ]


def _same(value: float, written: float) -> bool:
    return math.isnan(value) or abs(value) == abs(written)


def _number_tokens(token_list: list[Token]) -> list[Token]:
    return [
        token
        for index, token in enumerate(token_list)
        if token.kind == "number" and not (index and token_list[index - 1].text in ("@", "["))
    ]


def _literals(node: Any, role: NumberRole) -> Iterator[tuple[float, NumberRole]]:
    if isinstance(node, pp.NumberLiteral):
        yield node.val, role
        return
    for child, its_role in zip(children(node), _roles(node, role), strict=True):
        yield from _literals(child, its_role)


def _roles(node: Any, role: NumberRole) -> list[NumberRole]:
    """Return, for each child of a node, the role that a number there would have.

    `role` is the role that a number in place of the node itself would have.
    """
    plain = NumberRole.PLAIN
    if isinstance(node, pp.BinaryExpr):
        return _binary_roles(node, role)
    if isinstance(node, pp.AggregateExpr):
        kept = plain if str(node.op) in OTHER_UNIT_AGGREGATES else role
        return [plain, kept] if node.param is not None else [kept]
    if isinstance(node, pp.Call):
        if node.func.name == "predict_linear":
            return [plain, NumberRole.AHEAD]
        return [role if node.func.name in SAME_UNIT else plain] * len(node.args)
    return [role for _ in children(node)]


def _binary_roles(node: Any, role: NumberRole) -> list[NumberRole]:
    op, plain = str(node.op), NumberRole.PLAIN
    if op in COMPARISONS:
        compared = NumberRole.AGE if _is_time(node.lhs) or _is_time(node.rhs) else role
        return [compared, compared]
    if op in SET_OPERATORS:
        return [role, role]
    if op in ("+", "-"):
        return [role, role]
    if op in ("*", "/") and role is NumberRole.AGE:
        role = NumberRole.AHEAD
    if op == "/":
        return [role, plain]
    if op == "*":
        # Only one factor of a product is a duration: the series if there is one, otherwise the first.
        left_is_series = any(isinstance(below, pp.VectorSelector) for below in walk(node.lhs))
        right_is_series = any(isinstance(below, pp.VectorSelector) for below in walk(node.rhs))
        return [plain, role] if right_is_series and not left_is_series else [role, plain]
    return [plain, plain]


def _is_time(node: Any) -> bool:
    """Return whether the value of this expression is an age or a time, because it depends on
    time()."""
    if isinstance(node, pp.Call):
        name = node.func.name
        return name == "time" or (name in SAME_UNIT and any(_is_time(arg) for arg in node.args))
    if isinstance(node, pp.AggregateExpr):
        return str(node.op) not in OTHER_UNIT_AGGREGATES and _is_time(node.expr)
    if isinstance(node, pp.BinaryExpr):
        op = str(node.op)
        if op in COMPARISONS and node.modifier is not None and node.modifier.return_bool:
            return False
        if op in ("and", "unless") or op in COMPARISONS:
            return _is_time(node.lhs)
    return any(_is_time(child) for child in children(node))


def scale(text: str, timing: Timing) -> str:
    """Return the query with all durations shortened by the time factor.

    Ranges, subquery ranges, offsets, ages (numbers compared with time()) and the horizon of
    predict_linear are divided. Ranges and ages are not reduced below four scrape intervals, because
    they need at least four samples; shorter ones are unchanged. Raises UserError for invalid
    PromQL.
    """
    factor, shortest = timing.factor, timing.shortest_range
    changes = [
        (number.start, number.end, _plain(shorten(number.value, factor, shortest)))
        for number in numbers(text)
        if number.role is NumberRole.AGE
    ]
    changes += [
        (number.start, number.end, _plain(number.value / factor))
        for number in numbers(text)
        if number.role is NumberRole.AHEAD
    ]
    for token, is_offset, is_step in _durations(tokens(text)):
        floor = 0.0 if is_offset else shortest / SAMPLES_IN_A_RANGE if is_step else shortest
        seconds = shorten(parse_duration(token.text), factor, floor)
        changes.append((token.start, token.end, format_duration(seconds)))
    return edit(text, changes)


def _durations(token_list: list[Token]) -> Iterator[tuple[Token, bool, bool]]:
    """Yield each duration in brackets or after `offset` as (token, is an offset, is a subquery step)."""
    for index, token in enumerate(token_list):
        if token.kind == "duration":
            before = token_list[index - 1].text
            yield token, before not in ("[", ":"), before == ":"


def _plain(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
