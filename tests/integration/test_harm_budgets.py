"""What is dead waits for nothing healthy, what is held is told to a person, and nothing is swallowed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.kernel.share import share
from tests.integration.harm import (
    STATIC,
    Scene,
    gpu_alert,
    settings,
    until,
)
from tests.integration.inbox import Inbox
from tests.unit.remediator.shipped_alerts import as_declared

pytestmark = pytest.mark.integration
NODE_DOWN = as_declared(STATIC | {"alertname": "NodeDown", "category": "node"})


@pytest.fixture(scope="module")
def stack(
    people: Inbox, new_scene: Callable[..., AbstractContextManager[Scene]]
) -> Iterator[Scene]:
    edit = settings(notify={"webhooks": [people.url]})
    with new_scene(edit, be_careful) as found:
        yield found


@pytest.fixture(autouse=True)
def _resumed(stack: Scene) -> Iterator[None]:
    yield
    stack.cli("resume")


def be_careful(state: Path) -> None:
    """Its own gpu-hung playbook, as a site would have one: a GPU that was repaired stays out longer."""
    own = state / "playbooks"
    own.mkdir()
    shipped = share("remediator/playbooks/gpu-hung.yml").read_text()
    assert "probation: 15m" in shipped
    (own / "gpu-hung.yml").write_text(shipped.replace("probation: 15m", "probation: 30m"))
    settings(playbook_dirs=[str(own)])(state)


def test_a_dead_gpu_waits_for_no_healthy_one_on_probation(stack: Scene) -> None:
    until(lambda: not stack.out(), 120, stack.out)
    healed = [f"gpu/{node}/0" for node in ("node1", "node2", "node3")]
    dead = [("node1", 1), ("node2", 1), ("node4", 1)]
    for node in ("node1", "node2", "node3"):
        inject(stack.hardware, node, 0, "hang")

    def on_probation() -> bool:
        return all(stack.states(one)[-1:] == ["PROBATION"] for one in healed)

    until(on_probation, 90, lambda: "\n".join(map(stack.story, healed)))
    job = stack.job_on("node4", 1, name="row18")
    assert stack.out() == healed, "the budget is spent by healthy hardware"
    for node, gpu in dead:
        inject(stack.hardware, node, gpu, "lost")
    began = time.monotonic()
    for node, gpu in dead:
        name = f"gpu/{node}/{gpu}"
        until(lambda on=name: stack.quarantined(on), 20, lambda on=name: stack.story(on))  # type: ignore[misc]
    until(lambda: stack.cluster.job(job).node != "node4", 20, lambda: stack.cluster.job(job))
    until(lambda: stack.running(job), 20, lambda: stack.cluster.job(job))
    assert time.monotonic() - began < 30
    assert stack.cluster.job(job).moves == 1


def test_a_pause_that_holds_several_incidents_is_told_once(stack: Scene, people: Inbox) -> None:
    stack.cli("pause", "--reason", "switch maintenance")
    stack.passes(1)  # a repair of an earlier incident that had begun before the pause
    before = stack.note()
    targets = [("node1", 4), ("node1", 6), ("node2", 4)]
    for node, gpu in targets:
        stack.post(gpu_alert(stack, "GpuEccUncorrectable", node, gpu), ends=time.time() + 20)
    for node, gpu in targets:
        name = f"gpu/{node}/{gpu}"
        until(lambda on=name: stack.held(on) == "paused", 20, lambda on=name: stack.story(on))  # type: ignore[misc]
    until(lambda: people.groups("pause"), 20, lambda: people.messages)
    stack.passes(3)
    told = people.groups("pause")
    assert len(told) == 1, told
    assert "switch maintenance" in told[0]["text"]
    assert told[0]["incidents"] >= 3
    assert {f"gpu/{node}/{gpu}" for node, gpu in targets} <= set(told[0]["targets"])
    for node, gpu in targets:
        assert not people.about(f"gpu/{node}/{gpu}", "held")
    stack.require_untouched(before)


def test_a_held_incident_is_told_to_a_person_with_the_reason(stack: Scene, people: Inbox) -> None:
    target = "gpu/node2/6"
    strange = "GPU-00000000-dead-beef-0000-000000000000"
    stack.post(gpu_alert(stack, "GpuEccUncorrectable", "node2", 6) | {"uuid": strange})
    until(lambda: people.about(target, "held"), 30, lambda: stack.story(target))
    stack.passes(3)
    (told,) = people.about(target, "held")
    assert told["reason"] == "identity"
    assert strange in told["text"]


def test_a_node_incident_that_is_held_or_over_absorbs_no_gpu(stack: Scene) -> None:
    first, held = "node/node3", "node/node4"
    one, other = "gpu/node4/2", "gpu/node4/5"
    job = stack.job_on("node4", 2, name="row7")
    until(lambda: not [one for one in stack.out() if one.startswith("node/")], 60, stack.out)
    boots = stack.note().boots
    stack.post(NODE_DOWN | {"node": "node3"}, ends=time.time() + 40)
    until(lambda: stack.quarantined(first), 20, lambda: stack.story(first))
    stack.post(NODE_DOWN | {"node": "node4"}, ends=time.time() + 30)
    until(lambda: stack.held(held) == "budget_out", 20, lambda: stack.story(held))
    # A GPU alert is inhibited while its node is down by Alertmanager, so the node's alert ends first.
    inject(stack.hardware, "node4", 2, "lost")
    until(lambda: stack.quarantined(one), 60, lambda: stack.story(one) + stack.story(held))
    until(lambda: stack.cluster.job(job).moves == 1, 30, lambda: stack.story(one))
    assert "quarantined" in stack.why(one)
    assert "reset_gpu" not in stack.done(held)
    inject(stack.hardware, "node4", 5, "hang")
    until(lambda: "reset_gpu" in stack.done(other), 90, lambda: stack.story(other))
    assert stack.note().boots == boots, "no node was rebooted"


def test_an_unknown_job_is_unknown_and_not_well_again(stack: Scene) -> None:
    target = "job/no-such-job"
    labels = STATIC | {"alertname": "TrainingStalled", "category": "job", "job_id": "no-such-job"}
    labels |= {"instrument": "job"}
    stack.post(labels, ends=time.time() + 60)
    until(lambda: stack.states(target)[-1:] == ["FAILED"], 20, lambda: stack.story(target))
    assert "The cluster does not know job/no-such-job" in stack.why(target)
    assert "CLOSED" not in stack.states(target)
    assert "has ended" not in stack.why(target)


def test_a_load_surge_takes_over_from_an_open_scale_in(stack: Scene) -> None:
    target = "workload/serve"
    many = stack.cluster.workload("serve").maximum - 1
    stack.cluster.scale("serve", many, op_id=f"prepare-{time.monotonic_ns()}")
    # More replicas than are needed for a minute: the shipped rule fires by itself.
    until(lambda: stack.cluster.workload("serve").wanted < many, 150, lambda: stack.story(target))
    assert target in stack.open(), stack.story(target)
    low = stack.cluster.workload("serve").wanted
    command = [
        sys.executable, "-m", "fleetmedic.localcluster.pool.load", "--url", stack.url("pool"),
        "--rate", "150", "--seconds", "30",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        try:
            began = time.monotonic()
            until(
                lambda: stack.cluster.workload("serve").wanted > low,
                40,
                lambda: stack.story(target),
            )
            assert time.monotonic() - began < 30
        finally:
            load.terminate()
    # The scale-in incident is taken over, unless its own alert ended a moment earlier.
    ended = [one["reason"] for one in stack.journal(target) if one["event"] == "StateChanged"]
    assert {"demand_rose", "rescaled"} & set(ended), stack.story(target)
