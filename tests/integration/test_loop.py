"""The loop on real processes, where the repair does not heal and where alerts outlive their cure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.share import share
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.stack.lifecycle import Stack, StackOptions
from remediator.journal import read_events

pytestmark = pytest.mark.integration
FACTOR = 30.0


@pytest.fixture(scope="module")
def stack(
    parts: dict[str, Path],
    new_port_base: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    for name in ("prometheus", "promtool", "alertmanager"):
        assert parts[name]
    options = StackOptions(
        state_dir=tmp_path_factory.mktemp("loop"), port_base=new_port_base(), factor=FACTOR,
        level="repair", simulate=True, history=False,
    )  # fmt: skip
    stack = Stack(options)
    try:
        stack.prepare(lambda _: None)
        be_impatient(stack.options.state_dir)
        stack.start()
        stack.wait_ready(90.0)
        yield stack
    finally:
        stack.stop()


def be_impatient(state: Path) -> None:
    """Its own gpu-lost playbook, as a site would have one: a repaired GPU must be well in 25 s."""
    own = state / "playbooks"
    own.mkdir()
    shipped = share("remediator/playbooks/gpu-lost.yml").read_text()
    assert "passes: 2, deadline: 2m" in shipped
    (own / "gpu-lost.yml").write_text(
        shipped.replace("passes: 2, deadline: 2m", "passes: 2, deadline: 25s")
    )
    settings = state / "remediator" / "remediator.yml"
    body = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump({**body, "playbook_dirs": [str(own)]}))


def journal(stack: Stack, target: str) -> list[dict[str, Any]]:
    events = read_events(stack.options.state_dir / "remediator" / "data")
    return [event for event in events if event["target"] == target]


def states(stack: Stack, target: str) -> list[str]:
    return [e["data"]["state"] for e in journal(stack, target) if e["event"] == "StateChanged"]


def until(holds: Callable[[], object], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def test_alerts_that_outlive_the_cure_open_no_second_incident_and_what_never_heals_is_escalated(
    stack: Stack,
) -> None:
    hardware = Hardware(stack.options.state_dir / "hardware")
    cured, hopeless = "gpu/node2/3", "gpu/node3/5"
    inject(hardware, "node2", 3, "lost")
    inject(hardware, "node3", 5, "lost", heals_by="none")

    until(lambda: "CLOSED" in states(stack, cured), 120, lambda: f"{cured}: {states(stack, cured)}")
    closed_at = time.monotonic()
    until(
        lambda: "ESCALATED" in states(stack, hopeless),
        200,
        lambda: f"{hopeless}: {states(stack, hopeless)}",
    )

    done = [e["data"]["action"] for e in journal(stack, hopeless) if e["event"] == "StepDone"]
    assert done.index("reset_gpu") < done.index("reboot_node"), "the ladder is climbed in order"
    assert "CLOSED" not in states(stack, hopeless)
    released = {
        e["data"]["on"]
        for e in journal(stack, hopeless)
        if e["event"] == "StepDone" and e["data"]["action"] == "release"
    }
    assert released <= {"node/node3"}, "its node may serve again, the GPU may not"
    cluster = LocalCluster(stack.options.state_dir / "cluster")
    node = next(node for node in cluster.nodes() if node.name == "node3")
    assert node.gpus[5].quarantined, "what is not healed stays out"

    # a quarter of an hour, scaled: the XID alert is re-sent and resolves in that time
    time.sleep(max(0.0, closed_at + 900 / FACTOR - time.monotonic()))
    opened = [e["incident"] for e in journal(stack, cured) if e["event"] == "IncidentOpened"]
    assert len(opened) == 1
    received = {
        e["data"]["alertname"] for e in journal(stack, cured) if e["event"] == "AlertReceived"
    }
    assert received == {"GpuLost", "GpuXidFatalHardware"}
    resets = [
        e
        for e in journal(stack, cured)
        if e["event"] == "StepDone" and e["data"]["action"] == "reset_gpu"
    ]
    assert len(resets) == hardware.gpu("node2", 3).resets == 1
    assert states(stack, hopeless)[-1] == "ESCALATED"
