"""Maintenances that may match one alert: every such set is found, and separate ones stay separate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.overlaps import MAX_SETS, overlapping_sets
from fleetmedic.kernel.errors import UserError


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("gpu-12-.*", "gpu-13-.*", False),
        ("gpu-12-.*", "gpu-1.*", True),
        ("gpu-1", "gpu-12", False),
        ("gpu-1", "gpu-1", True),
        ("gpu-1.*", "gpu-1", True),
        ("gpu-12?", "gpu-1", True),
        ("gpu-(12|13)-.*", "gpu-14-.*", False),
        ("gpu-(12|13)-.*", "gpu-13-4", True),
        ("gpu-(?:12|13)-.*", "rack|gpu-13-4", True),
        ("(gpu-12-.*|gpu-13-.*)", "gpu-14-.*", True),
        ("a|b", "c|d", False),
        ("a|b", "c|b", True),
        (r"a\.b", r"a\.c", False),
        (r"a\.b", "a.b", True),
        ("(?i)a", "A", True),
        ("(?i:a)", "A", True),
        ("a[|]b", "b", False),
        ("|a", "b", False),
        (".*", "x", True),
    ],
)
def test_expressions_of_one_label_are_separate_where_that_is_certain(
    one: str, other: str, meet: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        found = overlapping_sets([{"node": first}, {"node": second}], "f.yml")
        assert ((0, 1) in found) == meet


def test_expressions_of_different_labels_may_match_one_alert() -> None:
    assert overlapping_sets([{"node": "a"}, {"job": "b"}], "f.yml") == [(0, 1), (0,), (1,)]


def test_larger_sets_come_first() -> None:
    matches = [{"node": "a"}, {"node": "b"}, {"job": "x"}, {"cluster": ".*"}]
    found = overlapping_sets(matches, "f.yml")
    assert [len(each) for each in found] == [3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    assert set(found) > {(0, 2, 3), (1, 2, 3)}


def test_many_separate_maintenances_are_fine_and_many_that_overlap_are_refused() -> None:
    assert len(overlapping_sets([{"node": f"rack-{n}-.*"} for n in range(300)], "f.yml")) == 300
    assert len(overlapping_sets([{f"label{n}": "a"} for n in range(8)], "f.yml")) == 255
    with pytest.raises(UserError, match=f"f.yml: more than {MAX_SETS} combinations"):
        overlapping_sets([{f"label{n}": "a"} for n in range(40)], "f.yml")


TEXTS = st.text(alphabet="ab-", max_size=3)
PARTS = st.one_of(
    TEXTS, st.sampled_from([".*", "a?", "b+", "[ab]", "(a|b)", "(?:-|a)", "|", "(?i)", "\\-", "a*"])
)


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4), TEXTS)
def test_two_expressions_that_match_one_text_are_never_taken_as_separate(
    one: list[str], other: list[str], text: str
) -> None:
    first, second = "".join(one), "".join(other)
    try:
        both = expression(first).fullmatch(text) and expression(second).fullmatch(text)
    except ValueError:
        return
    if both:
        assert (0, 1) in overlapping_sets([{"node": first}, {"node": second}], "f.yml")
