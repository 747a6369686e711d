"""Alerts that end early, that only we were told of, that start in the future, or whose path broke."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import yaml

from fleetmedic.hardware.faults import inject
from tests.integration.harm import Scene, gpu_alert, until

pytestmark = pytest.mark.integration
# Longer than Prometheus needs to see that a fault is gone, so that the alert resolves within the hold.
HOLD = "20s"


@pytest.fixture(scope="module")
def stack(new_scene: Callable[..., AbstractContextManager[Scene]]) -> Iterator[Scene]:
    with new_scene(hold=HOLD) as found:
        yield found


def test_an_alert_that_resolves_within_the_hold_moves_and_resets_nothing(stack: Scene) -> None:
    target, job = "gpu/node1/3", stack.job_on("node1", 3, name="brief")
    before = stack.note(job)
    inject(stack.hardware, "node1", 3, "hang")
    until(lambda: stack.quarantined(target), 40, lambda: stack.story(target))
    inject(stack.hardware, "node1", 3, "heal")
    until(lambda: stack.states(target)[-1] == "CLOSED", 90, lambda: stack.story(target))
    assert not stack.quarantined(target)
    stack.require_untouched(before)


def test_an_alert_that_alertmanager_does_not_know_quarantines_at_most_and_not_for_ever(
    stack: Scene,
) -> None:
    target, job = "gpu/node2/3", stack.job_on("node2", 3, name="direct")
    before = stack.note(job)
    stack.webhook(gpu_alert(stack, "GpuHung", "node2", 3), "00aa11bb22cc33ee")
    until(lambda: stack.quarantined(target), 20, lambda: stack.story(target))
    until(lambda: stack.held(target) == "alert_unconfirmed", 30, lambda: stack.story(target))
    # Alertmanager may list an alert some seconds after we have it: a minute, which no factor divides.
    until(lambda: not stack.quarantined(target), 120, lambda: stack.story(target))
    until(lambda: stack.states(target)[-1] == "CLOSED", 30, lambda: stack.story(target))
    stack.require_untouched(before)


def test_a_start_in_the_future_makes_no_loop_of_tests(stack: Scene) -> None:
    target = "gpu/node3/3"
    now = time.time()
    inject(stack.hardware, "node3", 3, "lost")
    until(lambda: stack.quarantined(target), 40, lambda: stack.story(target))
    clocks = {"replica": "its clock is an hour fast"}
    labels = gpu_alert(stack, "GpuLost", "node3", 3) | clocks
    stack.post(labels, starts=now + 3600, ends=now + 7200)
    until(lambda: "PROBATION" in stack.states(target), 90, lambda: stack.story(target))
    until(
        lambda: stack.states(target)[-1] in ("CLOSED", "ESCALATED"), 90, lambda: stack.story(target)
    )
    assert stack.states(target)[-1] == "CLOSED", stack.story(target)
    assert stack.done(target).count("verify") <= 4, stack.story(target)
    assert stack.hardware.gpu("node3", 3).resets == 1
    assert len(stack.listed(alertname="GpuLost", node="node3", **clocks)) == 1, "it fires still"
    assert stack.opened(target) == 1


def test_a_fresh_process_does_nothing_disruptive_until_a_watchdog_arrives(stack: Scene) -> None:
    target, job = "gpu/node4/3", stack.job_on("node4", 3, name="fresh")
    before = stack.note(job)
    path = stack.state / "prometheus" / "prometheus.yml"
    whole = path.read_text()
    path.write_text(yaml.safe_dump(yaml.safe_load(whole) | {"alerting": {}}))
    reload(stack)
    try:
        until(lambda: not stack.listed(alertname="Watchdog"), 90, lambda: "the Watchdog stays")
        # Prometheus fires it and cannot say so: another Prometheus of a pair can.
        inject(stack.hardware, "node4", 3, "hang")
        firing = 'ALERTS{alertname="GpuHung",alertstate="firing",node="node4"}'
        until(lambda: stack.value(firing) == 1, 40, lambda: "GpuHung does not fire")
        stack.stack.stop_one("remediator")
        stack.stack.start_one("remediator")
        stack.stack.wait_ready(30)
        stack.post(gpu_alert(stack, "GpuHung", "node4", 3))
        until(lambda: stack.quarantined(target), 20, lambda: stack.story(target))
        until(lambda: stack.held(target) == "dead_man", 40, lambda: stack.story(target))
        stack.passes(3)
        stack.require_untouched(before)
    finally:
        path.write_text(whole)
        reload(stack)
    # The alert is in Alertmanager still: as soon as the path works, the incident goes on.
    until(lambda: "reset_gpu" in stack.done(target), 60, lambda: stack.story(target))


def reload(stack: Scene) -> None:
    """Let Prometheus read its settings again."""
    request = urllib.request.Request(f"{stack.url('prometheus')}/-/reload", method="POST")
    with urllib.request.urlopen(request, timeout=10):
        pass
