"""The time range and the number of points of a panel are limited for every request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from remediator.dashboards.panel_range import LONGEST, MAX_POINTS, panel_range

NOW = 1_795_000_003.7


@given(st.integers(60, LONGEST), st.floats(1, 300))
def test_no_range_has_more_points_than_are_drawn(seconds, scrape) -> None:
    found = panel_range(str(int(NOW * 1000) - seconds * 1000), str(int(NOW * 1000)), NOW, scrape)
    assert (found.end - found.start) / found.step <= MAX_POINTS + 1
    assert found.start % found.step == found.end % found.step == 0
    spans = found.spans(scrape)
    assert spans["__rate_interval"] >= 4 * scrape
    assert spans["__interval"] == found.step


def test_relative_times_are_of_the_servers_clock() -> None:
    found = panel_range("now-1h", "now", NOW, 5)
    assert (found.step, found.end, found.end - found.start) == (15, 1_795_000_003 // 15 * 15, 3600)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("now", "now"), ("now", "now-1h"), ("now-1000d", "now"), ("yesterday", "now"),
        ("now-1h", "1e9"), ("", ""), ("-1", "now"), ("9" * 400, "now"), ("now-1h; x", "now"),
        ("now-59s", "now"), ("٣", "now"),
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_one_sentence(first, last) -> None:
    with pytest.raises(UserError):
        panel_range(first, last, NOW, 5)
