"""Analysing queries, and editing them without changes to their layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from rules import promql, rulefile
from rules.promql import NumberRole
from rules.render import sources
from rules.timing import Timing

SHIPPED = [rule.expr for path in sources() for rule in rulefile.read(path).rules()]


@pytest.mark.parametrize(
    ("query", "scaled"),
    [
        ("time() - t < 600", "time() - t < 20"),
        ("600 > time() - t", "20 > time() - t"),
        ("time() - t < 6000", "time() - t < 200"),
        ("time() - max by (a) (t) > 3 * i", "time() - max by (a) (t) > 3 * i"),
        ("time() - t > i * 3 + 900", "time() - t > i * 3 + 30"),
        ("time() - t > clamp_min(3 * i, 900)", "time() - t > clamp_min(3 * i, 30)"),
        ("time() - t > 3 * 900", "time() - t > 0.1 * 900"),
        ("(time() - t - 900) / 2 > 3600", "(time() - t - 30) / 2 > 120"),
        ("count(time() - t > 900) > 3", "count(time() - t > 30) > 3"),
        ("(time() - t > bool 900) > 0.5", "(time() - t > bool 30) > 0.5"),
        ("max(time() - t and up == 1) > 900", "max(time() - t and up == 1) > 30"),
        ("m > 600", "m > 600"),
        ("rate(x_total[5m]) > 300", "rate(x_total[20s]) > 300"),
        ("rate(x_total[1h] offset 1h) > 1", "rate(x_total[2m] offset 2m) > 1"),
        ("max_over_time(m[1h:5m]) > 1", "max_over_time(m[2m:10s]) > 1"),
        ("max_over_time(m[1h:1m]) > 1", "max_over_time(m[2m:5s]) > 1"),
        ("rate(x_total[10s]) > 1", "rate(x_total[10s]) > 1"),
        ("predict_linear(m[6h], 24*3600) < 0", "predict_linear(m[12m], 0.8*3600) < 0"),
    ],
)
def test_durations_are_divided_and_everything_else_stays_as_written(
    query: str, scaled: str
) -> None:
    assert promql.scale(query, Timing(30, 5)) == scaled


@pytest.mark.parametrize("query", SHIPPED)
def test_a_factor_of_one_changes_nothing(query: str) -> None:
    assert promql.scale(query, Timing(1, 5)) == query


@given(st.floats(min_value=1, max_value=1000), st.sampled_from(SHIPPED))
def test_any_factor_leaves_a_query_that_reads_the_same_series(factor: float, query: str) -> None:
    scaled = promql.scale(query, Timing(factor, 5))
    assert promql.selectors(scaled) == promql.selectors(query)
    assert [m.value for m in promql.matchers(scaled)] == [m.value for m in promql.matchers(query)]
    assert [n.role for n in promql.numbers(scaled)] == [n.role for n in promql.numbers(query)]


def test_comments_strings_and_durations_hold_no_numbers() -> None:
    query = 'rate(a_total{b="5", c=~`6|7`}[8m] offset 9m) # > 10\n> 11 and a @ 12 > 1e3'
    assert [number.value for number in promql.numbers(query)] == [11, 1000]


def test_a_number_knows_whether_it_is_an_age() -> None:
    roles = [
        n.role
        for n in promql.numbers("time() - t < 600 and m > 5 and predict_linear(m[1h], 60) > 0")
    ]
    assert roles == [NumberRole.AGE, NumberRole.PLAIN, NumberRole.AHEAD, NumberRole.PLAIN]


def test_matchers_are_found_with_their_places() -> None:
    query = 'a{b="c", d!~"e|f"} / on (g) h{}'
    found = promql.matchers(query)
    assert [(m.name, m.op, m.value) for m in found] == [("b", "=", "c"), ("d", "!~", "e|f")]
    assert [query[m.start : m.end] for m in found] == ['b="c"', 'd!~"e|f"']


def test_selectors_tell_which_series_stand_in_a_counter_function() -> None:
    read = promql.selectors('sum(rate(a_total[5m])) / max_over_time(b[5m]) > {__name__="c"}')
    assert [(s.metric, s.function) for s in read] == [("a_total", "rate"), ("b", None), ("c", None)]


@pytest.mark.parametrize("text", ["sum(", "a[5m] > 1", "a{b=~'('}", "", "1 +"])
def test_what_is_no_query_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match="invalid PromQL") as error:
        promql.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a[1e30]", "a offset 1e30", "a OFFSET -1e30", "a[1h] offset + 1e30", "a[5m:1e30]",
        "sum(rate(a[0xffffffffffffffffff]))", "a[9223372037]",
    ],
)  # fmt: skip
def test_a_duration_beyond_every_clock_is_refused_and_not_tried(text: str, capfd) -> None:
    with pytest.raises(UserError, match=r"invalid PromQL: duration .+ is out of range"):
        promql.parse(text)
    assert capfd.readouterr().err == "", "the parser would print a stack trace"


def test_large_numbers_that_are_no_durations_are_left_alone() -> None:
    for text in ("a > 1e30", "a - 1e30", "1e30", "a[9223372036]", "a[5m] offset 1e9", "a @ 1e9"):
        promql.parse(text)


def test_a_panic_of_the_parser_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def parse(error: BaseException) -> None:
        def fail(text: str) -> None:
            raise error

        monkeypatch.setattr(promql.pp, "parse", fail)
        promql.parse("a")

    with pytest.raises(UserError, match="invalid PromQL: it broke"):
        parse(PanicException("it\nbroke"))
    with pytest.raises(KeyboardInterrupt):
        parse(KeyboardInterrupt())


READERS = (promql.parse, promql.selectors, promql.matchers, promql.numbers)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "text",
    ["+".join("a" * 202), "-" * 201 + "a", "(" * 201 + "a" + ")" * 201, "+".join("a" * 2001)],
    ids=["additions", "signs", "parentheses", "2,000 additions"],
)
def test_a_query_too_deep_to_be_read_is_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(UserError, match=r"invalid PromQL: the query has more than"):
        read(text)


@pytest.mark.parametrize("read", READERS)
def test_a_query_as_deep_as_allowed_is_read_by_all(read: Callable[[str], Any]) -> None:
    for text in (
        "+".join("a" * 200),
        "abs(" * 198 + "vector(1)" + ")" * 198 + " > 5",
        "+".join("1" * 200),
    ):
        read(text)


def test_a_quoted_metric_name_is_no_matcher_and_a_quoted_label_is_one() -> None:
    query = '{"a.b", c="d"} / {e=~"f","g"} > {"h i"!="j", "k"}'
    found = promql.matchers(query)
    assert [(m.name, m.op, m.value) for m in found] == [
        ("c", "=", "d"), ("e", "=~", "f"), ("h i", "!=", "j"),
    ]  # fmt: skip
    assert [query[m.start : m.end] for m in found] == ['c="d"', 'e=~"f"', '"h i"!="j"']


def test_an_edit_by_matchers_keeps_a_quoted_metric_name() -> None:
    query = '{"a.b", job="c"}'
    (found,) = promql.matchers(query)
    assert promql.edit(query, [(found.start, found.end, 'job="x"')]) == '{"a.b", job="x"}'


def test_an_edit_that_breaks_the_query_is_refused() -> None:
    with pytest.raises(UserError):
        promql.edit("a > 5", [(2, 3, ">>")])
