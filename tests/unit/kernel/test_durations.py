"""Durations are read as Prometheus reads them, and written so that Prometheus reads them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.durations import format_duration, parse_duration
from fleetmedic.kernel.errors import UserError


@given(st.integers(min_value=0, max_value=10 * 365 * 86_400_000))
def test_what_is_formatted_parses_to_the_same_milliseconds(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000, abs=1e-6
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("250ms", 0.25),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("1w2d", 777600.0),
        ("1y", 31536000.0),
        ("1m500ms", 60.5),
    ],
)
def test_reads_what_prometheus_writes(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 m", "-5m", "1.5h", "5M", "5m ", "5m\n", "inf", "nan", "1h_2m", "٣s"],
)
def test_refuses_anything_else_with_a_sentence_that_shows_how(text: str) -> None:
    with pytest.raises(UserError, match="expected a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["30s5m", "1m1m", "1s1h"])
def test_refuses_units_out_of_order_or_twice_as_prometheus_does(text: str) -> None:
    with pytest.raises(UserError):
        parse_duration(text)


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_number_without_bound_is_refused_and_not_quoted_whole(digits: int) -> None:
    with pytest.raises(UserError) as caught:
        parse_duration("9" * digits + "y")
    assert len(str(caught.value)) < 150


@given(st.text(max_size=30))
def test_any_text_is_seconds_or_a_user_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except UserError:
        pass


def test_formats_the_shortest_exact_form() -> None:
    assert format_duration(5400) == "1h30m"
    assert format_duration(0.05) == "50ms"
    assert format_duration(-3) == "0s"
