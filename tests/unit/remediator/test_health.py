"""Fresh metrics judge a target's health; unknown is neither healthy nor sick."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.health import WHERE_KNOWN, Health, judge_health
from remediator.prometheus import QuerySample

NOW = 1_700_000_000.0
GPU = Target.parse("node1/3")
NODE = Target.parse("node1")


def _samples(lost: float = 0, up: float = 1, at: float = NOW - 1) -> dict[str, list[QuerySample]]:
    return {"gpu_lost": [QuerySample({}, lost, at)], "gpu_up": [QuerySample({}, up, at)]}


@pytest.mark.parametrize(
    ("samples", "since", "expected"),
    [
        (_samples(), NOW - 5, Health.HEALTHY),
        (_samples(), NOW, Health.UNKNOWN),                      # sampled before the repair
        (_samples(at=NOW - 16), NOW - 60, Health.UNKNOWN),      # older than three scrapes
        (_samples(lost=1), NOW - 5, Health.UNKNOWN),            # may have been on its way
        (_samples(lost=1), NOW - 60, Health.SICK),
        (_samples(up=0), NOW - 60, Health.SICK),
        ({"gpu_lost": [], "gpu_up": []}, NOW - 60, Health.UNKNOWN),
        (_samples() | {"gpu_up": []}, NOW - 60, Health.UNKNOWN),
        (_samples(lost=float("nan")), NOW - 60, Health.SICK),
    ],
)  # fmt: skip
def test_health_is_fresh_and_newer_than_the_repair_or_it_is_unknown(
    samples, since, expected
) -> None:
    assert expected is judge_health(samples, GPU, since, NOW, oldest=15.0).state


@pytest.mark.parametrize(
    ("remap", "expected"),
    [({}, Health.HEALTHY), ({"gpu_row_remap_pending": 0.0}, Health.HEALTHY),
     ({"gpu_row_remap_pending": 1.0}, Health.SICK), ({"gpu_row_remap_failure": 1.0}, Health.SICK),
     ({"gpu_retired_pages_pending": 1.0}, Health.SICK),
     ({"gpu_sram_ecc_threshold_exceeded": 1.0}, Health.SICK)],
)  # fmt: skip
def test_memory_that_waits_for_a_reset_is_sick_and_one_that_cannot_say_is_not_asked(
    remap: dict[str, float], expected: Health
) -> None:
    one = _samples()["gpu_up"][0]
    said = {name: [replace(one, value=value)] for name, value in remap.items()}
    absent = {name: [] for name in WHERE_KNOWN}
    assert (
        judge_health(_samples() | absent | said, GPU, NOW - 60, NOW, oldest=15.0).state is expected
    )


def test_without_a_repair_a_fresh_sick_sample_is_believed_at_once() -> None:
    report = judge_health(_samples(lost=1), GPU, NOW - 5, NOW, oldest=15.0, settle=0.0)
    assert report.state is Health.SICK


def test_a_sample_at_the_moment_of_the_repair_is_not_newer_than_it() -> None:
    at = NOW - 5
    assert judge_health(_samples(at=at), GPU, at, NOW, oldest=15.0).state is Health.UNKNOWN
    assert judge_health(_samples(at=at), GPU, at - 0.1, NOW, oldest=15.0).state is Health.HEALTHY


@pytest.mark.parametrize(("age", "expected"), [(15.0, Health.HEALTHY), (15.1, Health.UNKNOWN)])
def test_a_sample_is_fresh_for_exactly_as_long_as_is_said(age: float, expected: Health) -> None:
    assert judge_health(_samples(at=NOW - age), GPU, NOW - 60, NOW, oldest=15.0).state is expected


@pytest.mark.parametrize(("since", "expected"), [(16.0, Health.SICK), (15.9, Health.UNKNOWN)])
def test_a_sick_sample_counts_fifteen_seconds_after_the_repair(
    since: float, expected: Health
) -> None:
    at = NOW - 1
    report = judge_health(_samples(lost=1, at=at), GPU, NOW - since, NOW, oldest=30.0)
    assert report.state is expected
    assert report.text == "Metric gpu_lost of gpu/node1/3 is 1."


def test_the_latest_sick_sample_decides_whether_the_repair_has_settled() -> None:
    found = {"gpu_lost": [QuerySample({}, 1, NOW - 20), QuerySample({}, 1, NOW - 1)]}
    assert judge_health(found, GPU, NOW - 25, NOW, oldest=60.0).state is Health.SICK


def test_one_sick_sample_among_healthy_ones_is_sick() -> None:
    found = {"up": [QuerySample({}, 1, NOW - 1), QuerySample({}, 0, NOW - 1)]}
    assert judge_health(found, NODE, NOW - 60, NOW, oldest=15.0).state is Health.SICK


def test_a_node_whose_exporter_is_down_is_not_healthy() -> None:
    up = {"up": [QuerySample({}, 1, NOW - 1)]}
    assert judge_health(up, NODE, NOW - 60, NOW, oldest=15.0).state is Health.HEALTHY
    assert judge_health({"up": []}, NODE, NOW - 60, NOW, oldest=15.0).state is Health.UNKNOWN
