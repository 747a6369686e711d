"""Alerts that name other hardware than the inventory has, and one dead exporter that looks like many signs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from fleetmedic.hardware.faults import inject
from tests.integration.harm import STATIC, Scene, gpu_alert, until
from tests.unit.remediator.shipped_alerts import as_declared

pytestmark = pytest.mark.integration
FROZEN = 50.0


@pytest.fixture(scope="module")
def stack(new_scene: Callable[..., AbstractContextManager[Scene]]) -> Iterator[Scene]:
    with new_scene(swap_node_labels) as found:
        yield found


def swap_node_labels(state: Path) -> None:
    """Prometheus takes the exporter of node3 for that of node4, and the other way round."""
    path = state / "prometheus" / "prometheus.yml"
    body = yaml.safe_load(path.read_text())
    nodes = {one["labels"]["node"]: one for one in body["scrape_configs"][0]["static_configs"]}
    three, four = nodes["node3"], nodes["node4"]
    three["targets"], four["targets"] = four["targets"], three["targets"]
    path.write_text(yaml.safe_dump(body))


def test_an_alert_with_the_uuid_of_another_board_is_held_and_names_both(stack: Scene) -> None:
    target, job = "gpu/node1/2", stack.job_on("node1", 2, name="board")
    before = stack.note(job)
    strange = "GPU-00000000-dead-beef-0000-000000000000"
    labels = gpu_alert(stack, "GpuEccUncorrectable", "node1", 2) | {"uuid": strange}
    stack.post(labels)
    until(lambda: stack.held(target) == "identity", 20, lambda: stack.story(target))
    stack.passes(3)
    said = stack.why(target)
    assert strange in said
    assert stack.uuid("node1", 2) in said
    assert stack.held(target) == "identity"
    assert not stack.quarantined(target)
    stack.require_untouched(before)
    stack.end(labels)


def test_a_gpu_alert_without_a_uuid_quarantines_and_does_no_more(stack: Scene) -> None:
    target, job = "gpu/node1/4", stack.job_on("node1", 4, name="nameless")
    before = stack.note(job)
    labels = gpu_alert(stack, "GpuHung", "node1", 4)
    del labels["uuid"]
    stack.post(labels)
    until(lambda: stack.quarantined(target), 20, lambda: stack.story(target))
    until(lambda: stack.held(target) == "identity", 20, lambda: stack.story(target))
    stack.passes(3)
    assert stack.held(target) == "identity"
    stack.require_untouched(before)
    stack.end(labels)


def test_swapped_node_labels_move_no_job_and_reset_no_board(stack: Scene) -> None:
    accused, job = "gpu/node4/5", stack.job_on("node4", 5, name="swapped")
    before = stack.note(job)
    inject(stack.hardware, "node3", 5, "hang")
    until(lambda: stack.held(accused) == "identity", 60, lambda: stack.story(accused))
    stack.passes(3)
    said = stack.why(accused)
    assert stack.uuid("node3", 5) in said
    assert stack.uuid("node4", 5) in said
    assert not stack.quarantined(accused)
    assert not stack.quarantined("node/node4")
    stack.require_untouched(before)


def test_a_node_whose_exporter_reports_the_boards_of_another_is_held(stack: Scene) -> None:
    before = stack.note(stack.job_on("node3", 1, name="renamed"))
    labels = as_declared(STATIC | {"alertname": "NodeDown", "category": "node", "node": "node3"})
    stack.post(labels)
    until(lambda: stack.held("node/node3") == "identity", 30, lambda: stack.story("node/node3"))
    stack.passes(2)
    assert "which the inventory has on node4" in stack.why("node/node3")
    assert not stack.quarantined("node/node3")
    stack.require_untouched(before)
    stack.end(labels)


def test_one_dead_exporter_is_one_signal_and_its_quarantine_ends_under_the_running_job(
    stack: Scene,
) -> None:
    target, job = "node/node2", stack.job_on("node2", 0, name="frozen")
    before = stack.note(job)
    who = stack.stack.children()["exporter-node2"].who
    assert who is not None
    exporter = who[0]
    os.kill(exporter, signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        until(lambda: stack.quarantined(target), 40, lambda: stack.story(target))
        stale = {"alertname": "ExporterDataStale", "category": "meta", "severity": "warning"}
        labels = STATIC | stale | {"node": "node2", "collector": "gpu_values"}
        labels |= {"instrument": "staleness"}
        stack.post(labels | {"category": "node"}, ends=time.time() + FROZEN)
        until(lambda: stack.held(target) == "witnesses", 20, lambda: stack.story(target))
        until(lambda: time.monotonic() - frozen > FROZEN, FROZEN, lambda: "")
        stack.require_untouched(before)
        assert stack.quarantined(target)
    finally:
        os.kill(exporter, signal.SIGCONT)
    until(lambda: not stack.quarantined(target), 90, lambda: stack.story(target))
    until(lambda: stack.states(target)[-1] == "CLOSED", 30, lambda: stack.story(target))
    assert stack.done(target).count("verify") >= 1, "it was watched before it was released"
    assert "reboot_node" not in stack.done(target)
    stack.require_untouched(before)
