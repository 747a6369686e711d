"""What Prometheus is asked, and that no answer is neither zero nor healthy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core.model import Alert
from remediator.health import Health
from remediator.http import HttpError
from remediator.prometheus import PrometheusClient, QuerySample
from remediator.sensors import Sensors

T = TypeVar("T")
NOW = 1_700_000_000.0
GPU, NODE = Target.parse("node1/3"), Target.parse("node1")


def sample(value: float, at: float = NOW - 1, **labels: str) -> QuerySample:
    return QuerySample(labels, value, at)


@dataclass
class Answers:
    """A client of Prometheus that answers by the beginning of an expression."""

    by: dict[str, list[QuerySample]] = field(default_factory=dict)
    error: str = ""
    rules: frozenset[str] = frozenset({"GpuLost", "GpuXidFatalHardware"})
    asked: list[str] = field(default_factory=list)
    silent: str = "-"  # a query that begins like this fails

    async def alert_rules(self) -> frozenset[str]:
        self.asked.append("rules")
        if self.error:
            raise HttpError(self.error)
        return self.rules

    async def query(self, expr: str) -> list[QuerySample]:
        self.asked.append(expr)
        if self.error or expr.startswith(self.silent):
            raise HttpError(self.error or "no answer")
        return next((found for start, found in self.by.items() if expr.startswith(start)), [])

    async def samples(self, selector: str, *, at: float) -> list[QuerySample]:
        return await self.query(selector)


def sensors(answers: Answers | None, cluster: str = "a") -> Sensors:
    client = cast(PrometheusClient, answers) if answers else None
    return Sensors(client, cluster=cluster, scrape_interval=5.0, now=lambda: NOW)


def run(asked: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asked)


def test_exporters_are_up_or_not_and_no_answer_is_no_answer() -> None:
    found = Answers({"up": [sample(1, node="node1"), sample(0, node="node2"), sample(float("nan"), node="node3")]})  # fmt: skip
    assert run(sensors(found).exporters_up()) == {"node1": True, "node2": False, "node3": False}
    assert found.asked[0] == 'up{cluster="a",job="node"}'
    assert run(sensors(Answers()).exporters_up()) is None, "no exporter at all tells nothing"
    assert run(sensors(Answers(error="gone")).exporters_up()) is None
    assert run(sensors(None).exporters_up()) is None


def test_samples_of_a_prometheus_that_was_suspended_are_no_answer() -> None:
    answers = Answers({"up": [sample(1, node="node1")], "min(time() - timestamp(up": [sample(90)]})
    assert run(sensors(answers).exporters_up()) is None
    assert any(expr.endswith("> 20") for expr in answers.asked)


def test_exporters_are_asked_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.sensors.monotonic", lambda: now)
    answers = Answers({"up": [sample(1, node="node1")]})
    one = sensors(answers)
    run(one.exporters_up())
    now = 101.0
    answers.error = "gone"
    assert run(one.exporters_up()) == {"node1": True}
    now = 101.1
    assert run(one.exporters_up()) is None
    assert sum(expr.startswith("up") for expr in answers.asked) == 2


def test_a_healthy_gpu() -> None:
    answers = Answers({"gpu_lost": [sample(0)], "gpu_up": [sample(1)]})
    report = run(sensors(answers).health(GPU, NOW - 60, NOW))
    assert report.state is Health.HEALTHY
    assert 'gpu_lost{cluster="a",node="node1",gpu="3"}' in answers.asked
    assert not any(one.startswith("up") for one in answers.asked)


def test_a_nodes_health_is_also_its_exporters() -> None:
    answers = Answers({"gpu_lost": [sample(0)], "gpu_up": [sample(1)], "up": [sample(0)]})
    report = run(sensors(answers).health(NODE, NOW - 60, NOW, settles=False))
    assert report.state is Health.SICK
    assert 'up{cluster="a",job="node",node="node1"}' in answers.asked
    assert 'gpu_up{cluster="a",node="node1"}' in answers.asked


@pytest.mark.parametrize(("settles", "expected"), [(True, Health.UNKNOWN), (False, Health.SICK)])
def test_a_sick_sample_soon_after_a_repair_proves_nothing(settles: bool, expected: Health) -> None:
    answers = Answers({"gpu_lost": [sample(1)], "gpu_up": [sample(1)]})
    assert run(sensors(answers).health(GPU, NOW - 10, NOW, settles=settles)).state is expected


@pytest.mark.parametrize(("age", "expected"), [(15.0, Health.HEALTHY), (15.1, Health.UNKNOWN)])
def test_metrics_are_fresh_for_three_scrapes(age: float, expected: Health) -> None:
    answers = Answers({"gpu_lost": [sample(0, NOW - age)], "gpu_up": [sample(1, NOW - age)]})
    assert run(sensors(answers).health(GPU, NOW - 60, NOW)).state is expected


def test_without_an_answer_health_is_unknown_and_says_why() -> None:
    gone = run(sensors(Answers(error="http://p:9090 is gone.")).health(GPU, 0.0, NOW))
    assert (gone.state, gone.text) == (Health.UNKNOWN, "http://p:9090 is gone.")
    assert run(sensors(None).health(GPU, 0.0, NOW)).state is Health.UNKNOWN


def test_without_an_answer_about_the_page_the_health_is_unknown() -> None:
    class Failing(Answers):
        async def query(self, expr: str) -> list[QuerySample]:
            if expr.startswith("changes("):
                raise HttpError("http://p:9090 is gone.")
            return await super().query(expr)

    fine = {"gpu_lost": [sample(0.0)], "gpu_up": [sample(1.0)]}
    assert run(sensors(Answers(fine)).health(GPU, NOW - 60, NOW)).state is Health.HEALTHY
    assert run(sensors(Failing(fine)).health(GPU, NOW - 60, NOW)).state is Health.UNKNOWN


def test_the_time_of_the_latest_xid_and_of_the_last_boot() -> None:
    answers = Answers(
        {
            "clamp_max(max(gpu_xid_last": [sample(NOW - 9)],
            "clamp_max(max(node_boot": [sample(NOW - 99)],
        }
    )
    one = sensors(answers)
    assert (run(one.last_xid(GPU)), run(one.boot_time(GPU))) == (NOW - 9, NOW - 99)
    xid, boot = answers.asked
    assert 'gpu_xid_last_timestamp_seconds{cluster="a",node="node1",gpu="3"}' in xid
    assert 'node_boot_time_seconds{cluster="a",node="node1"}' in boot
    for asked in (xid, boot):
        assert "(node_time_seconds" in asked, "the clock of the node may be wrong"
        assert asked.endswith("time())"), "no time of a node is in the future"


def test_an_alert_about_one_xid_is_dated_by_that_xid_alone() -> None:
    answers = Answers({"clamp_max(max(gpu_xid_last": [sample(NOW - 9)]})
    assert run(sensors(answers).last_xid(GPU, "79")) == NOW - 9
    (asked,) = answers.asked
    assert 'gpu_xid_last_timestamp_seconds{cluster="a",node="node1",gpu="3",xid="79"}' in asked


def test_a_page_that_a_proxy_repeats_says_nothing_about_health() -> None:
    lost = {"gpu_lost": [sample(1.0, NOW - 1)], "gpu_up": [sample(0.0, NOW - 1)]}
    assert run(sensors(Answers(lost)).health(GPU, NOW - 60, NOW)).state is Health.SICK
    found = run(
        sensors(Answers({**lost, "changes(node_time": [sample(0)]})).health(GPU, NOW - 60, NOW)
    )
    assert found.state is Health.UNKNOWN
    assert found.text == "The exporter of node1 is scraped, but its page does not change."


@pytest.mark.parametrize(
    "answers", [None, Answers(), Answers(error="gone"), Answers({"max": [sample(0)]})]
)
def test_a_time_that_nobody_knows_is_none(answers: Answers | None) -> None:
    assert run(sensors(answers).last_xid(GPU)) is None
    assert run(sensors(answers).boot_time(NODE)) is None


def test_when_a_node_last_reported_each_uuid() -> None:
    answers = Answers(
        {"max by (uuid)": [sample(NOW - 4, uuid="GPU-a"), sample(NOW, uuid=""), sample(NOW)]}
    )
    assert run(sensors(answers).reported_uuids("node1")) == {"GPU-a": NOW - 4}
    [asked] = answers.asked
    assert asked.startswith(
        'max by (uuid) (max_over_time(timestamp(gpu_info{cluster="a",node="node1"})[1h:'
    )
    assert run(sensors(Answers()).reported_uuids("node1")) == {}
    assert run(sensors(Answers(error="gone")).reported_uuids("node1")) is None
    assert run(sensors(None).reported_uuids("node1")) is None


def test_the_slowest_job_says_when_all_have_saved() -> None:
    answers = Answers({"max by": [sample(NOW - 5, job_id="a"), sample(NOW - 9, job_id="b.1")]})
    assert run(sensors(answers).saved_at(["b.1", "a"])) == NOW - 9
    assert '{cluster="a",job_id=~"a|b\\\\.1"}' in answers.asked[0]
    assert run(sensors(answers).saved_at(["a", "b.1", "c"])) is None, "one of them says nothing"
    assert run(sensors(Answers()).saved_at(["a"])) is None


def test_jobs_are_stalled_only_if_each_of_them_is() -> None:
    answers = Answers({"min by": [sample(90, job_id="a"), sample(80, job_id="b")]})
    one = sensors(answers)
    assert run(one.stalled(["a", "b"]))
    assert not run(one.stalled(["a"])), "an answer about another job"
    assert not run(one.stalled(["a", "b", "c"]))
    assert not run(sensors(Answers()).stalled(["a"]))
    assert not run(sensors(Answers(error="gone")).stalled(["a"]))
    assert not run(sensors(None).stalled(["a"]))


def test_the_share_of_stalled_jobs_is_of_those_that_run_and_report_steps() -> None:
    answers = Answers({"count(min": [sample(2)], "count(max": [sample(5)]})
    assert run(sensors(answers).stalled_share()) == (2, 5)
    assert all('training_running{cluster="a"} == 1' in one for one in answers.asked)
    assert run(sensors(Answers({"count(min": [sample(0)]})).stalled_share()) is None
    assert run(sensors(Answers(error="gone")).stalled_share()) is None
    assert run(sensors(None).stalled_share()) is None


def test_requests_that_wait_are_unknown_where_nobody_counts_them() -> None:
    answers = Answers({"sum(inference": [sample(7)]})
    assert run(sensors(answers).waiting("serve")) == 7.0
    assert answers.asked == ['sum(inference_requests_waiting{cluster="a",service="serve"})']
    assert run(sensors(Answers()).waiting("serve")) is None
    assert run(sensors(Answers({"sum": [sample(0)]})).waiting("serve")) == 0.0


def test_a_name_from_outside_stays_inside_its_quotes() -> None:
    answers = Answers()
    run(sensors(answers, cluster='x"} or up{').waiting('a"\n'))
    assert answers.asked == [
        'sum(inference_requests_waiting{cluster="x\\"} or up{",service="a\\"\\n"})'
    ]


def alert(name: str = "GpuLost") -> Alert:
    labels = {"alertname": name, "node": "node1", "gpu": "3", "severity": "critical"}
    return Alert("f", NOW, "x", True, labels)


def test_an_alert_is_confirmed_only_with_the_instrument_that_its_rule_declares() -> None:
    answers = Answers()
    forged = replace(alert(), labels=dict(alert().labels) | {"instrument": "kernel_log"})
    run(sensors(answers).fires(forged, event=False))
    assert 'instrument="kernel_log"' in answers.asked[-1]


@pytest.mark.parametrize("label", ["", "event", "loss"])
def test_an_alert_is_confirmed_only_with_what_its_rule_declares_that_it_reports(label: str) -> None:
    """A copy without the label would count as a condition, and a copy with it as an event or a loss."""
    answers = Answers()
    labels = dict(alert().labels) | ({"reports": label} if label else {})
    run(sensors(answers).fires(replace(alert(), labels=labels), event=False))
    assert f'reports="{label}"' in answers.asked[-1]


def test_an_alert_that_its_own_prometheus_does_not_fire_is_contradicted() -> None:
    answers = Answers()
    assert run(sensors(answers).fires(alert(), event=False)) is False
    chosen = 'alertname="GpuLost",alertstate="firing",node="node1",gpu="3"'
    chosen += ',reports="",instance="",job=""'  # what was scraped under that name has both
    assert answers.asked[1:] == [f"count(last_over_time(ALERTS{{{chosen}}}[60s]))"]
    old = replace(alert("GpuXidFatalHardware"), starts_at=NOW - 1e6)
    run(sensors(answers).fires(old, event=True))
    assert answers.asked[-1].endswith("[21600s]))")


def test_an_alert_that_fires_or_of_another_ruler_is_not_contradicted() -> None:
    fires = Answers({"count(": [sample(1)]})
    assert run(sensors(fires).fires(alert(), event=False)) is True
    assert run(sensors(Answers()).fires(alert("TheirOwn"), event=False)) is True
    assert run(sensors(None).fires(alert(), event=False)) is True


def test_the_rules_are_asked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.sensors.monotonic", lambda: now)
    answers = Answers()
    one = sensors(answers)
    assert run(one.fires(alert(), event=False)) is False
    now, answers.rules = 160.0, frozenset()
    assert run(one.fires(alert(), event=False)) is False
    now = 160.1
    assert run(one.fires(alert(), event=False)) is True
    assert answers.asked.count("rules") == 2


def test_a_prometheus_that_does_not_answer_confirms_nothing() -> None:
    silent = run(sensors(Answers(error="gone")).fires(alert(), event=False))
    assert silent is None
    answers = Answers({"count(": [sample(1)]})
    one = sensors(answers)
    assert run(one.fires(alert(), event=False)) is True
    answers.error = "gone"
    assert run(one.fires(alert(), event=False)) is None


def test_what_prometheus_evaluated_holds_while_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.sensors.monotonic", lambda: now)
    answers = Answers({"count(": [sample(1)]})
    one = sensors(answers)
    assert run(one.fires(alert("TheirOwn"), event=False)) is True
    now, answers.error = 200.0, "gone"
    assert run(one.fires(alert(), event=False)) is None
    assert run(one.fires(alert("TheirOwn"), event=False)) is True


def test_two_exporters_that_answered_as_one_node_are_seen_for_minutes() -> None:
    def of(node: str, instance: str, value: float) -> QuerySample:
        return QuerySample({"node": node, "instance": instance}, value, NOW)

    answers = Answers(
        {
            "up{": [of("a", "1", 1), of("b", "3", 1), of("b", "4", 0)],
            "max_over_time(count by (node) (up{": [sample(2, node="a")],
        }
    )
    one = sensors(answers)
    found = run(one.exporters_up())
    assert found == {"a": True, "b": True}, "a target that is left over does not make its node down"
    assert (one.doubled("a"), one.doubled("b"), one.doubled("c")) == (True, False, False)
    asked = answers.asked[-1]
    assert " == 1)[300s:" in asked
    assert asked.endswith(" == 1) > 1"), "a subquery is some seconds behind"


def test_a_node_is_not_taken_as_identified_while_it_is_unknown_how_many_reported_it() -> None:
    up = [QuerySample({"node": "a", "instance": "1"}, 1, NOW)]
    answers = Answers({"up{": up}, silent="max_over_time(count by (node) (up{")
    assert run(sensors(answers).exporters_up()) is None


def test_right_before_a_step_the_exporters_are_asked_about_again() -> None:
    up = [QuerySample({"node": "a", "instance": "1"}, 1, NOW)]
    answers = Answers({"up{": up})
    one = sensors(answers)
    run(one.exporters_up())
    asked = len(answers.asked)
    run(one.exporters_up())
    assert len(answers.asked) == asked
    run(one.exporters_up(fresh=True))
    assert len(answers.asked) > asked


def test_where_our_rules_are_evaluated_an_alert_that_no_rule_makes_is_not_confirmed() -> None:
    answers = Answers({"count(": [sample(1)]})
    answers.rules = frozenset({"Watchdog", "GpuLost"})
    assert run(sensors(answers).fires(alert("GpuPeerOutlier"), event=False)) is False
    answers.rules = frozenset({"GpuLost"})
    assert run(sensors(answers).fires(alert("GpuPeerOutlier"), event=False)) is True


def test_an_event_is_confirmed_by_what_fired_since_its_alert_began_and_not_before() -> None:
    now = NOW
    answers = Answers(rules=frozenset({"GpuEccUncorrectable", "Watchdog"}))
    for age, window in ((10, "70"), (600, "660"), (1e6, "21600")):
        answers.asked.clear()
        labels = {"alertname": "GpuEccUncorrectable", "node": "node1", "gpu": "3"}
        alert = Alert("a", now - age, "x", True, labels)
        run(sensors(answers).fires(alert, event=True))
        asked = re.search(r"\[(\d+)s\]", answers.asked[-1])
        assert asked is not None
        assert abs(int(asked[1]) - int(window)) <= 5


def test_the_time_of_an_event_is_that_of_prometheus() -> None:
    answers = Answers({"max(last_over_time(ALERTS_FOR_STATE": [sample(NOW - 30)]})
    alert = Alert("a", NOW, "x", True, {"alertname": "NodeOomKill", "node": "node1"})
    assert run(sensors(answers).active_since(alert)) == NOW - 30
    assert 'alertname="NodeOomKill",node="node1"' in answers.asked[0]
    rose = Answers({"max(max_over_time((timestamp(gpu_ecc_errors_total": [sample(NOW - 7)]})
    assert run(sensors(rose).last_uncorrectable(GPU)) == NOW - 7
    assert 'error="uncorrected",scope="volatile"' in rose.asked[0]
    assert run(sensors(Answers(error="gone")).last_uncorrectable(GPU)) is None


def test_while_prometheus_does_not_answer_the_last_reported_uuids_count_for_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("remediator.sensors.monotonic", lambda: now)
    answers = Answers({"max by (uuid)": [sample(NOW, uuid="GPU-x")]})
    one = sensors(answers)
    assert run(one.reported_uuids("node1")) == {"GPU-x": NOW}
    answers.error = "gone"
    assert run(one.reported_uuids("node1")) == {"GPU-x": NOW}
    assert run(one.reported_uuids("node2")) is None, "nothing is known of another node"
    now = 400.1
    assert run(one.reported_uuids("node1")) is None
