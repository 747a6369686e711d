"""Labels of metric families, derived from the catalogue."""

from exporter.catalogue import catalogue
from rules import promql
from rules.series_labels import SeriesLabels, labels_of_family, labels_of_query


def test_of_a_family_that_two_produce_only_what_both_give_is_sure() -> None:
    found = labels_of_family(catalogue().get("inference_requests_total"))
    assert {"service", "code"} <= found.sure
    assert not {"replica", "node"} & found.sure
    assert found.maybe == found.sure | {"replica", "node"}


def test_of_a_family_of_the_exporter_all_is_sure() -> None:
    found = labels_of_family(catalogue().get("training_step_compute_seconds"))
    assert found.sure == found.maybe
    assert {"job_id", "rank", "node"} <= found.sure


def test_the_candidates_divisions_find_their_other_side() -> None:
    """Both sides of a one-to-one division must have the same labels."""
    for left, right in (
        ("training_data_wait_seconds", "training_step_duration_seconds"),
        ("pipeline_last_success_timestamp_seconds", "pipeline_expected_interval_seconds"),
    ):
        assert labels_of_family(catalogue().get(left)) == labels_of_family(catalogue().get(right))


def test_a_matcher_makes_a_label_of_a_recorded_series_sure() -> None:
    records = {
        "gpu:work:max": SeriesLabels(frozenset({"gpu"}), frozenset({"gpu", "job_id", "pod"}))
    }
    found = labels_of_query(promql.parse('gpu:work:max{job_id!="", node!="", pod=""}'), records)
    assert found.sure == {"gpu", "job_id"}
    assert found.maybe == {"gpu", "job_id", "pod"}
