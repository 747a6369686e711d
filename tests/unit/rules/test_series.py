from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rules.series import Grid, Series, join, rolling_median, rolling_min, runs

GRID = Grid(1000.0, 10.0, 5)
NAN = np.nan


def test_a_gap_stays_a_gap_and_times_outside_are_dropped() -> None:
    found = Series.gather(
        ("node", "gpu"),
        [({"node": "a", "gpu": "0"}, [(1000, 1.0), (1020, 3.0), (1200, 9.0), (990, 8.0)])],
        GRID,
    )
    assert found.keys == (("a", "0"),)
    np.testing.assert_array_equal(found.values, [[1, NAN, 3, NAN, NAN]])


def test_a_missing_label_is_empty_and_equal_labels_share_a_row() -> None:
    pieces = [({"node": "a"}, [(1000, 1.0)]), ({"node": "a", "x": "y"}, [(1010, 2.0)])]
    found = Series.gather(("node", "gpu"), pieces, GRID)
    assert found.keys == (("a", ""),)
    assert found.values[0, :2].tolist() == [1.0, 2.0]


def test_infinite_values_and_absurd_labels_are_no_data() -> None:
    pieces = [
        ({"node": "a"}, [(1000, float("inf")), (1010, float("nan"))]),
        ({"node": "x" * 1000}, [(1000, 1.0)]),
    ]
    found = Series.gather(("node",), pieces, GRID)
    assert found.keys == (("a",),)
    assert np.isnan(found.values).all()


def test_nothing_found_is_an_empty_series() -> None:
    found = Series.gather(("node",), [], GRID)
    assert found.keys == ()
    assert found.aligned([("a",)]).shape == (1, 5)
    assert np.isnan(found.aligned([("a",)])).all()


def test_pieces_are_joined_by_their_labels() -> None:
    first = Series.gather(("node",), [({"node": "a"}, [(1000, 1.0)])], Grid(1000, 10, 2))
    second = Series.gather(("node",), [({"node": "b"}, [(1030, 4.0)])], Grid(1020, 10, 2))
    whole = join(first, second)
    assert whole.keys == (("a",), ("b",))
    np.testing.assert_array_equal(whole.values, [[1, NAN, NAN, NAN], [NAN, NAN, NAN, 4]])


def test_a_rolling_median_needs_the_present_and_half_of_the_range() -> None:
    row = np.array([[1.0, 5.0, 3.0, NAN, NAN, 7.0, 9.0]])
    found = rolling_median(row, 3)
    np.testing.assert_array_equal(found, [[NAN, 3.0, 3.0, NAN, NAN, NAN, 8.0]])


def test_a_rolling_minimum_is_broken_by_a_gap() -> None:
    row = np.array([[4.0, 2.0, 3.0, NAN, 5.0, 6.0]])
    np.testing.assert_array_equal(rolling_min(row, 2), [[NAN, 2, 2, NAN, NAN, 5]])


def test_runs_are_counted_over_all_rows() -> None:
    flags = np.array([[True, True, False, True], [False, False, True, True]])
    assert runs(flags) == 3
    assert runs(np.empty((0, 4), dtype=bool)) == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 6))
def test_rolling_medians_are_numpys_where_all_was_read(values: list[float], width: int) -> None:
    row = np.array([values])
    found = rolling_median(row, width)
    for n in range(width - 1, len(values)):
        assert found[0, n] == np.median(row[0, n - width + 1 : n + 1])
