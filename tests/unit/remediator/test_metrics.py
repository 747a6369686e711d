"""What the remediator says of itself to Prometheus."""

from __future__ import annotations

import asyncio

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.book import Book
from remediator.core.events import Kind
from remediator.core.lifecycle import birth
from remediator.core.model import Level, Rung
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery
from remediator.metrics import Metrics

NOW = 1_700_000_000.0
NAME = "remediator_node_reboot_timestamp_seconds"


def _announce(book: Book, target: str, action: str, at: float) -> None:
    opened = events.opened(f"inc-{at:.0f}", Target.parse(target), "x", Level.REPAIR, at, 0, "x")
    one = birth(opened)
    book.apply(opened)
    step = plan.repair(one, Rung(action, 60, 2, 86_400, 600))
    book.apply(events.step_event(Kind.STEP_PREPARED, one, step, at, Reason.REPAIR_STARTS))


def test_a_reboot_is_told_with_its_node_from_when_it_is_announced_and_the_latest_counts() -> None:
    book = Book()
    metrics = Metrics(book)
    assert f"{NAME}{{" not in metrics.page().decode()
    _announce(book, "node1/3", "reboot_node", NOW)  # for the sake of one GPU, and yet the node
    _announce(book, "node1", "reboot_node", NOW + 50)
    _announce(book, "node2/0", "reset_gpu", NOW)
    lines = [one for one in metrics.page().decode().splitlines() if one.startswith(f"{NAME}{{")]
    assert [line.partition(" ")[0] for line in lines] == [f'{NAME}{{target_node="node1"}}']
    assert float(lines[0].partition(" ")[2]) == NOW + 50


def test_what_may_fail_is_counted_from_zero_so_that_the_first_failure_is_an_increase() -> None:
    metrics = Metrics(Book())
    metrics.expect(["notify"], ["chat"], ["gpu-lost"])
    zeros = [line for line in metrics.page().decode().splitlines() if line.endswith(" 0.0")]
    for series in (
        'remediator_actions_total{action="notify",result="failed"}',
        'remediator_notifications_total{channel="chat",result="failed"}',
        'remediator_incidents_total{playbook="gpu-lost"}',
        'remediator_decisions_total{reason="quarantined"}',
        'remediator_guard_holds_total{reason="budget_out"}',
        'remediator_stage_seconds_count{stage="closed"}',
    ):
        assert f"{series} 0.0" in zeros
    metrics.told("chat", "failed")
    assert (
        'remediator_notifications_total{channel="chat",result="failed"} 1.0'
        in metrics.page().decode()
    )


def test_a_host_list_is_told_of_when_there_is_one_and_no_count_is_told_before_it_is_known(
    tmp_path,
) -> None:
    metrics = Metrics(Book())
    assert "discovery" not in metrics.page().decode()
    hosts = tmp_path / "hosts.yml"
    discovery = Discovery(hosts, None, "main", lambda: NOW)
    metrics.discovers(discovery)
    asyncio.run(discovery.refresh())
    page = metrics.page().decode()
    assert "remediator_discovery_last_reload_successful 0.0" in page
    assert "remediator_discovery_targets" not in page
    hosts.write_text("hosts: ['a[1-3]']")
    asyncio.run(discovery.refresh())
    page = metrics.page().decode()
    assert "remediator_discovery_last_reload_successful 1.0" in page
    assert "remediator_discovery_targets 3.0" in page
    assert "remediator_discovery_last_reload_success_timestamp_seconds 1.7e+09" in page
    hosts.write_text("hosts: []")
    asyncio.run(discovery.refresh())
    page = metrics.page().decode()
    assert "remediator_discovery_last_reload_successful 0.0" in page
    assert "remediator_discovery_targets 3.0" in page
