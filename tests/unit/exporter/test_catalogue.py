"""The rules that the catalogue must follow."""

import re
from pathlib import Path

import pytest

from exporter.catalogue import catalogue
from exporter.reference import markdown
from exporter.registry import COLLECTORS
from exporter.xids.kernel_events import EVENTS
from exporter.xids.xid_catalogue import ACTIONS
from fleetmedic.localcluster.pool.metrics import GatewayMetrics as PoolMetrics

ROOT = Path(__file__).resolve().parents[3]


def test_the_metrics_page_is_generated_from_the_catalogue() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == markdown(catalogue()), "run: python -m exporter.reference > docs/metrics.md"


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
        ours = metric.producer == "exporter" and not metric.name.startswith("gpu_exporter_")
        switch = metric.name.startswith("gpu_sxid_")  # about an NVSwitch, not a GPU
        if ours and metric.name.startswith("gpu_") and not switch:
            expected = () if metric.name in without else ("gpu", "uuid")
            assert metric.labels[:2] == expected, metric.name


def test_no_two_families_of_the_exporter_have_one_name_in_openmetrics() -> None:
    names: set[str] = set()
    own = [metric for metric in catalogue() if metric.producer == "exporter"]
    for metric in own:
        family = metric.name.removesuffix("_total") if metric.type == "counter" else metric.name
        assert family not in names, metric.name
        names.add(family)
    for metric in own:
        whole, _, part = metric.name.rpartition("_")
        reserved = part in ("bucket", "count", "sum", "created", "info", "total")
        assert not (reserved and whole in names) or metric.type == "counter", metric.name


def test_what_a_label_can_be_is_what_the_page_on_record_shows() -> None:
    text = (Path(__file__).with_name("golden") / "simulated_node.txt").read_text()
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        metric = catalogue().of_series(name)
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            known = metric.values.get(label, (value,)) if metric else (value,)
            assert value in known, f"{name}: {label}"


def test_what_a_label_can_be_is_said_of_the_familys_own_labels() -> None:
    for metric in catalogue():
        assert set(metric.values) <= set(metric.labels), metric.name


def test_kernel_events_and_recommended_actions_are_all_in_the_catalogue() -> None:
    events = catalogue().get("node_kernel_events_total").values["event"]
    assert set(events) == set(EVENTS)
    assert catalogue().get("gpu_recommended_action").values["action"] == ACTIONS


def test_help_is_one_line_that_ends_as_a_sentence() -> None:
    for metric in catalogue():
        assert metric.help.endswith("."), metric.name
        assert "\n" not in metric.help, metric.name
        assert "|" not in metric.help, (
            f"{metric.name}: the character would end a table cell of docs/metrics.md"
        )


def test_every_collector_has_a_chapter_with_its_interval_and_default() -> None:
    page = markdown(catalogue())
    for entry in COLLECTORS:
        assert f"\n### {entry.name}\n" in page
        assert f"\n| [{entry.name}](#{entry.name}) | {'on' if entry.on else 'off'} |" in page
    assert "| [gpu_load](#gpu_load) | on | 5s |" in page


def test_a_histogram_is_found_by_the_names_promql_uses() -> None:
    found = catalogue().of_series("remediator_stage_seconds_bucket")
    assert found is not None
    assert found.name == "remediator_stage_seconds"
    assert catalogue().of_series("remediator_stage_seconds") is None


@pytest.mark.parametrize("name", ["gpu_lost", "up", "detector_score", "inference_requests_waiting"])
def test_families_that_rules_read_are_there(name: str) -> None:
    assert name in catalogue()


def test_what_the_pool_shares_with_the_exporter_stands_in_both_chapters_with_each_ones_labels() -> (
    None
):
    page = markdown(catalogue())
    row = "| `inference_requests_waiting` | gauge | count |"
    assert page.count(row) == 2
    assert f"{row} `service`, `replica` |" in page
    assert f"{row} `service` |" in page.partition("## Inference services")[2]


def test_the_pool_gives_the_families_that_the_catalogue_says_it_shares() -> None:
    page = PoolMetrics("chat").render(waiting=1, running=1, replicas=1).decode()
    for metric in catalogue():
        if labels := metric.shared.get("pool"):
            name = metric.series_names()[0]
            found = re.search(rf"^{name}\{{(.*)\}} ", page, re.MULTILINE)
            assert found, name
            given = set(re.findall(r'(\w+)="', found[1])) - {"le"}
            assert given == set(labels), name
            assert f"# TYPE {metric.name} {metric.type}\n" in page
