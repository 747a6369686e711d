"""What Alertmanager withholds, does not send, or has forgotten: nothing follows, and nothing is over.

On the machine's Alertmanager, which does not tell what a time interval mutes, and on a later one.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.hardware.faults import inject
from tests.integration.harm import Scene, ask, forget, gpu_alert, scene, stamp, until

pytestmark = pytest.mark.integration
WINDOW = """
channels: {}
maintenance:
- name: row-b
  match: {node: "node2"}
  windows: [{times: [{start_time: "00:00", end_time: "24:00"}]}]
"""


@pytest.fixture(scope="module", params=["alertmanager", "alertmanager-0.33"])
def stack(
    request: pytest.FixtureRequest, parts: dict[str, Path], new_port_base: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:  # fmt: skip
    for name in ("prometheus", "promtool", "amtool", request.param):
        assert parts[name]
    folder = tmp_path_factory.mktemp("harm")
    (folder.parent / f"{folder.name}.yml").write_text(WINDOW)
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "alertmanager":
            patch.setenv("FLEETMEDIC_ALERTMANAGER_BIN", str(parts[request.param]))
        given = folder.parent / f"{folder.name}.yml"
        with scene(folder, new_port_base(), notifications=given) as found:
            yield found


@pytest.fixture(autouse=True)
def _resumed(stack: Scene) -> Iterator[None]:
    yield
    stack.cli("resume")


def silence(stack: Scene, labels: dict[str, str]) -> str:
    matchers = [
        {"name": k, "value": v, "isRegex": False, "isEqual": True} for k, v in labels.items()
    ]
    now = time.time()
    body: dict[str, Any] = {
        "matchers": matchers, "startsAt": stamp(now), "endsAt": stamp(now + 600),
        "createdBy": "mara", "comment": "ticket 4711",
    }  # fmt: skip
    return str(ask(f"{stack.url('alertmanager')}/api/v2/silences", body)["silenceID"])


def expire(stack: Scene, identity: str) -> None:
    ask(f"{stack.url('alertmanager')}/api/v2/silence/{identity}", method="DELETE")


def test_while_a_maintenance_window_is_open_its_node_is_not_touched(stack: Scene) -> None:
    target, job = "gpu/node2/3", stack.job_on("node2", 3, name="window")
    before = stack.note(job)
    inject(stack.hardware, "node2", 3, "lost")
    until(lambda: "row-b" in stack.why(target), 40, lambda: stack.why(target))
    assert stack.listed(alertname="GpuLost", node="node2", gpu="3")
    stack.passes(3)
    assert "The maintenance window row-b is open" in stack.why(target)
    assert stack.opened(target) == stack.opened("node/node2") == 0
    assert not stack.quarantined(target)
    stack.require_untouched(before)


def test_an_alert_that_no_route_sends_to_us_leads_to_nothing(stack: Scene) -> None:
    target, job = "gpu/node1/2", stack.job_on("node1", 2, name="foreign")
    before = stack.note(job)
    theirs = {**gpu_alert(stack, "GpuHung", "node1", 2), "team": "other"}
    unrouted = {k: v for k, v in theirs.items() if k not in ("cluster", "category", "source")}
    stack.post(unrouted)
    # One that a route does send, and that names no cluster, or another one.
    stack.post({k: v for k, v in theirs.items() if k != "cluster"})
    stack.post(theirs | {"cluster": "elsewhere"})

    def refused() -> int:
        return sum(one["reason"] == "other_cluster" for one in stack.journal())

    until(lambda: refused() == 2, 20, lambda: stack.journal())
    assert len(stack.listed(team="other")) == 3
    stack.passes(3)
    assert stack.opened(target) == 0
    assert not stack.quarantined(target)
    stack.require_untouched(before)


def test_a_silenced_alert_opens_nothing_until_the_silence_ends(stack: Scene) -> None:
    target = "gpu/node1/5"
    before = stack.note(stack.job_on("node1", 5, name="silenced"))
    identity = silence(stack, {"node": "node1", "gpu": "5"})
    inject(stack.hardware, "node1", 5, "hang")
    until(lambda: "ticket 4711" in stack.why(target), 40, lambda: stack.why(target))
    stack.passes(2)
    assert "mara silenced the alert until" in stack.why(target)
    assert stack.opened(target) == 0
    assert not stack.quarantined(target)
    stack.require_untouched(before)
    expire(stack, identity)
    until(lambda: stack.quarantined(target), 30, lambda: stack.story(target))


def test_a_silence_holds_an_open_incident_and_resolves_nothing(
    stack: Scene, parts: dict[str, Path]
) -> None:
    target = "gpu/node3/2"
    before = stack.note(stack.job_on("node3", 2, name="row19"))
    stack.cli("pause", "--reason", "we are looking")
    inject(stack.hardware, "node3", 2, "hang")
    until(lambda: stack.held(target) == "paused", 40, lambda: stack.story(target))
    command = silence_command("GpuHung", stack, node="node3", gpu="2")
    amtool = str(parts["amtool"])
    said = subprocess.run(
        [amtool, *command], capture_output=True, text=True, check=True, timeout=20
    )
    comment = next(word.partition("=")[2] for word in command if word.startswith("--comment="))
    stack.passes(1)  # an answer of Alertmanager serves for a second
    stack.cli("resume")
    until(lambda: stack.held(target) == "silenced", 20, lambda: stack.story(target))
    stack.passes(3)
    assert "silenced the alert until" in stack.why(target)
    assert comment in stack.why(target)
    assert not stack.quarantined(target)
    assert stack.states(target)[-1] == "HELD"
    assert "resolved_first" not in str(stack.journal(target))
    stack.require_untouched(before)
    expire(stack, said.stdout.strip())
    until(lambda: "reset_gpu" in stack.done(target), 60, lambda: stack.story(target))


def silence_command(alert: str, stack: Scene, **labels: str) -> list[str]:
    """The arguments of the runbook's own amtool command, for these labels."""
    page = Path(__file__).parents[2] / "docs" / "runbooks" / f"{alert}.md"
    line = next(x for x in page.read_text().splitlines() if x.startswith("`amtool "))
    words = shlex.split(line.strip("`"))[1:]
    names = {"NODE": labels["node"], "GPU": labels["gpu"]}
    filled = []
    for word in words:
        key, equals, value = word.partition("=")
        filled.append(f"{key}={names.get(value, value)}" if equals else word)
    return [w.replace("http://localhost:9093", stack.url("alertmanager")) for w in filled]


def test_an_alertmanager_that_restarts_empty_closes_nothing(stack: Scene) -> None:
    held = ["gpu/node4/1", "gpu/node4/2"]
    job = stack.job_on("node4", 1, name="row20")
    before = stack.note(job)
    stack.cli("pause", "--reason", "Alertmanager is upgraded")
    inject(stack.hardware, "node4", 1, "hang")
    inject(stack.hardware, "node4", 2, "ecc")
    for target in held:
        until(lambda on=target: stack.held(on) == "paused", 60, lambda on=target: stack.story(on))  # type: ignore[misc]
    forget(stack, "alertmanager")
    until(lambda: stack.listed(alertname="Watchdog"), 40, lambda: "no Watchdog")
    until(lambda: stack.listed(alertname="GpuHung", node="node4"), 40, lambda: "no GpuHung")
    # The settling time of this stack, which begins with Alertmanager's start.
    stack.passes(8)
    for target in held:
        assert stack.states(target)[-1] == "HELD", stack.story(target)
        assert stack.held(target) == "paused"
        assert stack.opened(target) == 1
    stack.require_untouched(before)
    stack.cli("resume")
    for target in held:
        until(
            lambda on=target: "reset_gpu" in stack.done(on), 90, lambda on=target: stack.story(on)
        )  # type: ignore[misc]
