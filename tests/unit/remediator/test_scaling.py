"""What the next size of a workload is, and what no sequence of sizes may do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.scaling.target import Desired, ScalingReason, desired


def size(
    now: int,
    waiting: float | None,
    *,
    per: float = 4,
    low: int = 1,
    high: int = 8,
    step: int = 2,
) -> Desired:
    return desired(now, waiting, per_replica=per, minimum=low, maximum=high, step=step)


@pytest.mark.parametrize(
    ("now", "waiting", "replicas", "why"),
    [
        (2, 9, 3, ScalingReason.QUEUE_TOO_LONG),
        (2, 100, 4, ScalingReason.QUEUE_TOO_LONG),
        (7, 100, 8, ScalingReason.QUEUE_TOO_LONG),
        (8, 100, 8, ScalingReason.AT_MAXIMUM),
        (2, 8, 2, ScalingReason.FITS),
        (4, 8, 4, ScalingReason.FITS),
        (5, 8, 4, ScalingReason.QUEUE_SHORT),
        (6, 0, 4, ScalingReason.QUEUE_SHORT),
        (2, 0, 1, ScalingReason.QUEUE_SHORT),
        (1, 0, 1, ScalingReason.AT_MINIMUM),
        (0, 0, 1, ScalingReason.OUT_OF_BOUNDS),
        (12, 0, 8, ScalingReason.OUT_OF_BOUNDS),
    ],
)
def test_the_next_size(now: int, waiting: float, replicas: int, why: ScalingReason) -> None:
    found = size(now, waiting)
    assert (found.replicas, found.why) == (replicas, why)


@pytest.mark.parametrize("waiting", [None, math.nan, math.inf, -math.inf, -1.0])
def test_an_unknown_queue_changes_nothing(waiting: float | None) -> None:
    assert size(5, waiting) == Desired(
        5, ScalingReason.UNKNOWN_DEMAND, "The queue length is unknown, so the size stays."
    )


def test_nothing_waiting_and_a_minimum_of_zero_goes_to_zero() -> None:
    assert size(1, 0, low=0).replicas == 0


def test_one_waiting_wakes_a_workload_of_zero() -> None:
    assert size(0, 1, low=0).replicas == 1


@pytest.mark.parametrize(
    "wrong",
    [{"low": -1}, {"low": 5, "high": 4}, {"step": 0}, {"per": 0.0}, {"per": math.nan}],
)
def test_senseless_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="minimum <= maximum"):
        size(2, 1, **wrong)  # type: ignore[arg-type]


CASES = st.fixed_dictionaries(
    {
        "waiting": st.floats(0, 1e6),
        "per": st.floats(0.01, 1e4),
        "low": st.integers(0, 20),
        "span": st.integers(0, 200),
        "now": st.integers(0, 220),
        "step": st.integers(1, 50),
    }
)


def walk(case: dict[str, float], steps: int) -> list[int]:
    """The sizes that follow one another while the queue stays as it is."""
    low, high = int(case["low"]), int(case["low"] + case["span"])
    sizes = [min(max(int(case["now"]), low), high)]
    for _ in range(steps):
        found = size(
            sizes[-1], case["waiting"], per=case["per"], low=low, high=high, step=int(case["step"])
        )
        sizes.append(found.replicas)
    return sizes


@settings(deadline=None)
@given(CASES)
def test_the_size_stays_within_bounds_and_steps(case: dict[str, float]) -> None:
    sizes = walk(case, 5)
    for before, after in pairwise(sizes):
        assert case["low"] <= after <= case["low"] + case["span"]
        assert abs(after - before) <= case["step"]


@settings(deadline=None)
@given(CASES)
def test_a_steady_queue_never_turns_the_size_round(case: dict[str, float]) -> None:
    sizes = walk(case, 10)
    assert sizes in (sorted(sizes), sorted(sizes, reverse=True))


@settings(deadline=None)
@given(CASES)
def test_a_steady_queue_comes_to_rest(case: dict[str, float]) -> None:
    sizes = walk(case, int(case["span"]) + 1)
    assert sizes[-1] == sizes[-2]


@settings(deadline=None)
@given(CASES, st.floats(0, 1e6))
def test_more_waiting_never_means_fewer_replicas(case: dict[str, float], more: float) -> None:
    longer = {**case, "waiting": case["waiting"] + more}
    assert walk(longer, 1)[1] >= walk(case, 1)[1]


@pytest.mark.parametrize(
    ("now", "waiting", "text"),
    [
        (1, 0.0, "The workload has 1 replica, the minimum."),
        (1, 1.0, "1 waiting request fits 1 replica."), (1, 3.0, "3 waiting requests fit 1 replica."),
        (1, 9.0, "9 waiting requests are too many for 1 replica."),
        (4, 1.0, "1 waiting request fits 3 replicas with spare capacity."),
        (5, 1.0, "The size of 5 replicas is outside the bounds 1 to 4."),
    ],
)  # fmt: skip
def test_one_replica_and_one_request_are_singular(now, waiting, text) -> None:
    bounds = {"per_replica": 4.0, "minimum": 1, "maximum": 4, "step": 1}
    assert desired(now, waiting, **bounds).text == text
