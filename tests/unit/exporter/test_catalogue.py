"""The catalogue holds what the rest relies on."""

from pathlib import Path

import pytest

from exporter.catalogue import catalogue, markdown
from exporter.registry import COLLECTORS

ROOT = Path(__file__).resolve().parents[3]


def test_the_metrics_page_is_generated_from_the_catalogue() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == markdown(catalogue()), "run: python -m exporter.catalogue > docs/metrics.md"


def test_only_counters_end_in_total() -> None:
    for metric in catalogue():
        if metric.ours and metric.type in ("counter", "gauge"):
            assert metric.name.endswith("_total") == (metric.type == "counter"), metric.name


def test_every_family_of_the_exporter_belongs_to_a_collector_or_the_frame() -> None:
    known = {*COLLECTORS.names(), "frame"}
    for metric in catalogue():
        assert (metric.collector in known) == (metric.producer == "exporter"), metric.name


def test_every_gpu_series_is_identified_by_index_and_uuid() -> None:
    without = {"gpu_expected", "gpu_worker_stuck"}
    for metric in catalogue():
        if metric.name.startswith("gpu_") and not metric.name.startswith("gpu_exporter_"):
            expected = () if metric.name in without else ("gpu", "uuid")
            assert metric.labels[:2] == expected, metric.name


def test_a_histogram_is_found_by_the_names_promql_uses() -> None:
    found = catalogue().of_series("remediator_stage_seconds_bucket")
    assert found is not None
    assert found.name == "remediator_stage_seconds"
    assert catalogue().of_series("remediator_stage_seconds") is None


@pytest.mark.parametrize("name", ["gpu_lost", "up", "detector_score", "inference_requests_waiting"])
def test_families_that_rules_read_are_there(name: str) -> None:
    assert name in catalogue()
