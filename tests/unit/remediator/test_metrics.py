"""What the remediator says of itself to Prometheus."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import catalogue
from fleetmedic.kernel.labels import Target
from remediator.clusters.base import GpuFacts, NodeFacts, QuarantineFacts
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.journal_state import JournalState, Storm
from remediator.core.lifecycle import new_incident
from remediator.core.model import Alert, Incident, IncidentState, Level, Rung
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery
from remediator.gauges import HOLDS, MAX_LABEL, MAX_OWNERS
from remediator.metrics import RemediatorMetrics
from tests.unit.remediator.catalogue import ACTIONS

NOW = 1_700_000_000.0
NAME = "remediator_node_reboot_timestamp_seconds"


def _announce(journal_state: JournalState, target: str, action: str, at: float) -> None:
    opened = events.opened(f"inc-{at:.0f}", Target.parse(target), "x", Level.REPAIR, at, 0, "x")
    one = new_incident(opened)
    journal_state.apply(opened)
    step = plan.repair(one, Rung(ACTIONS.named(action), 60, 2, 86_400, 600))
    journal_state.apply(events.step_event(Kind.STEP_PREPARED, one, step, at, Reason.REPAIR_STARTS))


def _value(metrics: RemediatorMetrics, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics.render().decode(), re.MULTILINE)
    return float(found[1]) if found else None


def _out(metrics: RemediatorMetrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["kind"], sample.labels["owner"]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "remediator_targets_out"
    }


def _open(journal_state: JournalState, target: str, level: Level = Level.REPAIR) -> Incident:
    opened = events.opened(f"inc-{target}", Target.parse(target), "x", level, NOW, 0, "x")
    journal_state.apply(opened)
    return journal_state.incidents[f"inc-{target}"]


def _hold(journal_state: JournalState, one: Incident, at: float, reason: Reason) -> None:
    journal_state.apply(events.noted(Kind.HELD, one, at, reason, "held"))


def _quarantine(owner: str) -> QuarantineFacts:
    return QuarantineFacts(owner, "why", "op", NOW)


def _node(name: str, owner: str | None, *gpus: str | None) -> NodeFacts:
    facts = tuple(
        GpuFacts(index, f"GPU-{index}", _quarantine(gpu) if gpu is not None else None)
        for index, gpu in enumerate(gpus)
    )
    return NodeFacts(name, True, facts, _quarantine(owner) if owner is not None else None)


def test_a_reboot_is_told_with_its_node_from_when_it_is_announced_and_the_latest_counts() -> None:
    journal_state = JournalState()
    metrics = RemediatorMetrics(journal_state, lambda: NOW)
    assert f"{NAME}{{" not in metrics.render().decode()
    _announce(
        journal_state, "node1/3", "reboot_node", NOW
    )  # for the sake of one GPU, and yet the node
    _announce(journal_state, "node1", "reboot_node", NOW + 50)
    _announce(journal_state, "node2/0", "reset_gpu", NOW)
    lines = [one for one in metrics.render().decode().splitlines() if one.startswith(f"{NAME}{{")]
    assert [line.partition(" ")[0] for line in lines] == [f'{NAME}{{target_node="node1"}}']
    assert float(lines[0].partition(" ")[2]) == NOW + 50


def test_what_may_fail_is_counted_from_zero_so_that_the_first_failure_is_an_increase() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    metrics.initialize(["notify"], ["chat"], ["gpu-lost"])
    zeros = [line for line in metrics.render().decode().splitlines() if line.endswith(" 0.0")]
    for series in (
        'remediator_actions_total{action="notify",result="failed"}',
        'remediator_notifications_total{channel="chat",result="failed"}',
        'remediator_incidents_total{playbook="gpu-lost"}',
        'remediator_decisions_total{reason="quarantined"}',
        'remediator_guard_holds_total{reason="budget_out"}',
        'remediator_stage_seconds_count{stage="closed"}',
    ):
        assert f"{series} 0.0" in zeros
    metrics.count_notification("chat", "failed")
    assert (
        'remediator_notifications_total{channel="chat",result="failed"} 1.0'
        in metrics.render().decode()
    )


def test_a_host_list_is_told_of_when_there_is_one_and_no_count_is_told_before_it_is_known(
    tmp_path,
) -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    assert "discovery" not in metrics.render().decode()
    hosts = tmp_path / "hosts.yml"
    discovery = Discovery(hosts, None, "main", lambda: NOW)
    metrics.export_target_list(discovery)
    asyncio.run(discovery.refresh())
    page = metrics.render().decode()
    assert "remediator_discovery_last_reload_successful 0.0" in page
    assert "remediator_discovery_targets" not in page
    hosts.write_text("hosts: ['a[1-3]']")
    asyncio.run(discovery.refresh())
    page = metrics.render().decode()
    assert "remediator_discovery_last_reload_successful 1.0" in page
    assert "remediator_discovery_targets 3.0" in page
    assert "remediator_discovery_last_reload_success_timestamp_seconds 1.7e+09" in page
    hosts.write_text("hosts: []")
    asyncio.run(discovery.refresh())
    page = metrics.render().decode()
    assert "remediator_discovery_last_reload_successful 0.0" in page
    assert "remediator_discovery_targets 3.0" in page


def test_the_longest_hold_is_measured_from_its_start_and_observed_incidents_do_not_count() -> None:
    journal_state, now = JournalState(), [NOW]
    metrics = RemediatorMetrics(journal_state, lambda: now[0])
    assert _value(metrics, "remediator_held_longest_seconds") == 0
    first, second = _open(journal_state, "node1/0"), _open(journal_state, "node1/1")
    _hold(journal_state, _open(journal_state, "node2/0", Level.OBSERVE), NOW - 900, Reason.PAUSED)
    _hold(journal_state, first, NOW - 40, Reason.BUDGET_OUT)
    _hold(journal_state, second, NOW - 100, Reason.BUDGET_OUT)
    assert _value(metrics, "remediator_held_longest_seconds") == 100
    assert _value(metrics, 'remediator_held{reason="budget_out"}') == 2
    assert _value(metrics, 'remediator_held{reason="paused"}') == 0
    now[0] = NOW - 5000
    assert _value(metrics, "remediator_held_longest_seconds") == 0, "the clock was set back"


def test_the_oldest_request_for_an_approval_is_measured_until_it_is_answered() -> None:
    journal_state = JournalState()
    metrics = RemediatorMetrics(journal_state, lambda: NOW)
    assert _value(metrics, "remediator_approval_oldest_seconds") == 0
    for target, at in (("node1/0", NOW - 100), ("node1/1", NOW - 40)):
        one = _open(journal_state, target)
        for state in ("TRIAGED", "VERIFYING", "PROBATION", "AWAIT_APPROVAL"):
            moved = events.moved(one, IncidentState(state), at, Reason.AWAIT_APPROVAL)
            journal_state.apply(moved)
            one = journal_state.incidents[one.id]
    assert _value(metrics, "remediator_approval_oldest_seconds") == 100
    assert _value(metrics, 'remediator_incidents{state="AWAIT_APPROVAL"}') == 2
    first = journal_state.incidents["inc-node1/0"]
    journal_state.apply(events.approved(first, "alice", "ran a burn-in", NOW))
    assert _value(metrics, "remediator_approval_oldest_seconds") == 40
    assert _value(metrics, 'remediator_incidents{state="AWAIT_APPROVAL"}') == 2


def test_every_reason_to_hold_begins_at_zero_and_another_one_keeps_its_series_afterwards() -> None:
    journal_state = JournalState()
    metrics = RemediatorMetrics(journal_state, lambda: NOW)
    for reason in HOLDS:
        assert _value(metrics, f'remediator_held{{reason="{reason}"}}') == 0
    other = 'remediator_held{reason="unsupported"}'
    assert _value(metrics, other) is None
    one = _open(journal_state, "node1/0")
    _hold(journal_state, one, NOW, Reason.UNSUPPORTED)
    assert _value(metrics, other) == 1
    _hold(journal_state, one, NOW, Reason.PAUSED)
    assert _value(metrics, other) == 0
    assert _value(metrics, 'remediator_held{reason="paused"}') == 1


def test_what_is_out_is_withheld_while_the_cluster_is_unknown() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    assert _out(metrics) == {}
    metrics.set_nodes((_node("a", None, None),))
    assert _out(metrics) == {("gpu", "fleetmedic"): 0, ("node", "fleetmedic"): 0}
    metrics.set_nodes(None)
    assert _out(metrics) == {}


def test_a_gpu_of_a_node_that_is_out_counts_only_if_another_owner_quarantined_it() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    metrics.set_nodes(
        (
            _node("a", "fleetmedic", "fleetmedic", None, "alice"),
            _node("b", None, "fleetmedic", "alice"),
            _node("c", "alice", None),
        )
    )
    assert _out(metrics) == {
        ("node", "fleetmedic"): 1,
        ("gpu", "fleetmedic"): 1,
        ("node", "alice"): 1,
        ("gpu", "alice"): 2,
    }


def test_the_owners_with_most_out_are_named_and_the_rest_are_counted_together() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    nodes = [_node(f"n{i}", None, *[f"owner{i:02}"] * (i + 1)) for i in range(25)]
    metrics.set_nodes(tuple(nodes))
    out = _out(metrics)
    named = {owner for _, owner in out} - {"others"}
    assert named == {"fleetmedic", *(f"owner{i:02}" for i in range(6, 25))}
    assert len(named) == MAX_OWNERS
    assert out["gpu", "others"] == sum(i + 1 for i in range(6))
    assert out["node", "others"] == 0


@given(
    st.lists(
        st.tuples(st.none() | st.text(), st.lists(st.none() | st.text(), max_size=4)), max_size=30
    )
)
def test_every_quarantine_counts_once_under_a_bounded_name_whatever_its_owner_is_called(
    found: list[tuple[str | None, list[str | None]]],
) -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    metrics.set_nodes(tuple(_node(f"n{i}", owner, *gpus) for i, (owner, gpus) in enumerate(found)))
    out = _out(metrics)
    nodes = sum(owner is not None for owner, _ in found)
    gpus = sum(gpu is not None and gpu != owner for owner, all_ in found for gpu in all_)
    assert sum(count for (kind, _), count in out.items() if kind == "node") == nodes
    assert sum(count for (kind, _), count in out.items() if kind == "gpu") == gpus
    owners = {owner for _, owner in out}
    assert "fleetmedic" in owners
    assert len(owners) <= MAX_OWNERS + 1
    assert all(0 < len(owner) <= MAX_LABEL for owner in owners)


def test_an_owner_that_cannot_be_written_does_not_hide_the_page() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    metrics.set_nodes((_node("a", "x\ud800", None), _node("b", "", None)))
    assert _out(metrics)["node", "x?"] == 1
    assert _out(metrics)["node", "unknown"] == 1


def test_a_storm_is_told_with_its_pool_while_it_is_on_and_as_over_afterwards() -> None:
    journal_state = JournalState()
    metrics = RemediatorMetrics(journal_state, lambda: NOW)
    assert _value(metrics, "remediator_storms") == 0
    assert "remediator_storm{" not in metrics.render().decode()
    journal_state.storms["train"] = Storm(NOW, "half of the pool")
    journal_state.storm_ended["train"] = journal_state.storm_ended["old"] = NOW - 60
    assert _value(metrics, "remediator_storms") == 1
    assert _value(metrics, 'remediator_storm{pool="train"}') == 1
    assert _value(metrics, 'remediator_storm{pool="old"}') == 0


def test_a_failure_in_a_lane_is_an_increase_from_zero() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    assert _value(metrics, "remediator_lane_failures_total") == 0
    metrics.count_internal_error()
    assert _value(metrics, "remediator_lane_failures_total") == 1


@pytest.mark.parametrize(
    ("method", "series", "values"),
    [
        ("export_lock", "remediator_instance_lock_held", (True, False)),
        ("export_pending_notifications", "remediator_notifications_pending", (7, 0)),
        ("export_alertmanager_completeness", "remediator_alertmanager_complete", (False, True)),
    ],
)
def test_what_a_callable_says_is_absent_without_it_and_read_at_each_scrape(
    method: str, series: str, values: tuple[float, float]
) -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    assert series not in metrics.render().decode()
    said = [values[0]]
    getattr(metrics, method)(lambda: said[0])
    assert _value(metrics, series) == values[0]
    said[0] = values[1]
    assert _value(metrics, series) == values[1]


def test_every_family_is_in_the_catalogue_with_its_type_and_labels(tmp_path) -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    metrics.initialize(["notify"], ["chat"], ["gpu-lost"])
    metrics.export_target_list(Discovery(tmp_path / "hosts.yml", None, "main", lambda: NOW))
    metrics.export_lock(lambda: True)
    metrics.export_pending_notifications(lambda: 0)
    metrics.export_alertmanager_completeness(lambda: True)
    metrics.set_nodes((_node("a", "alice"),))
    for family in text_string_to_metric_families(metrics.render().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.endswith("_created"):
            continue
        assert name in catalogue(), name
        known = catalogue().get(name)
        assert family.type == known.type, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(known.labels), name


def test_an_alert_that_leads_nowhere_counts_as_received_and_with_its_reason() -> None:
    metrics = RemediatorMetrics(JournalState(), lambda: NOW)
    one = Alert("f", NOW, "x", True, {"alertname": "A"})
    ignored = (Reason.NO_PLAYBOOK, "No playbook matches A.")
    metrics.count_event(events.alert_received(one, None, NOW, "webhook", ignored), None)
    for reason in ("alert_received", "no_playbook"):
        assert _value(metrics, f'remediator_decisions_total{{reason="{reason}"}}') == 1
    assert _value(metrics, "remediator_journal_events_total") == 1


def test_the_last_reboot_of_a_node_is_exported_after_its_attempts_are_forgotten() -> None:
    journal_state = JournalState()
    journal_state.repairs = {Target.parse("node1"): NOW, Target.parse("node1/3"): NOW + 5}
    metrics = RemediatorMetrics(journal_state, lambda: NOW)
    series = 'remediator_node_reboot_timestamp_seconds{target_node="node1"}'
    assert _value(metrics, series) == NOW
