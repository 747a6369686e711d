"""A person's release is respected, an incident can be closed and retried, one bad GPU keeps no node out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.kernel.share import share
from tests.integration.harm import Scene, gpu_alert, settings, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(new_scene: Callable[..., AbstractContextManager[Scene]]) -> Iterator[Scene]:
    with new_scene(be_impatient) as found:
        yield found


def be_impatient(state: Path) -> None:
    """Its own gpu-lost playbook, as a site would have one: a repaired GPU must be well in 25 s."""
    own = state / "playbooks"
    own.mkdir()
    shipped = share("remediator/playbooks/gpu-lost.yml").read_text()
    assert "passes: 2, deadline: 2m" in shipped
    own_text = shipped.replace("passes: 2, deadline: 2m", "passes: 2, deadline: 25s")
    (own / "gpu-lost.yml").write_text(own_text)
    settings(playbook_dirs=[str(own)])(state)


def test_an_escalated_gpu_does_not_keep_its_node_out_and_can_be_retried_and_closed(
    stack: Scene,
) -> None:
    target, node = "gpu/node3/5", "node/node3"
    inject(stack.hardware, "node3", 5, "lost", heals_by="none")
    until(lambda: "ESCALATED" in stack.states(target), 200, lambda: stack.story(target))
    assert "reboot_node" in stack.done(target), "the node was emptied for it"
    until(lambda: not stack.quarantined(node), 20, lambda: stack.story(target))
    assert stack.quarantined(target), "what is not healed stays out"
    assert stack.running(stack.job_on("node3", 0, name="after"))

    said = stack.cli("retry", "node3/5", "--reason", "the board was reseated")
    assert said.strip()
    until(lambda: stack.states(target)[-1] != "ESCALATED", 20, lambda: stack.story(target))
    # An incident is not closed in the middle of a step: the person tries again.
    until(lambda: target not in stack.open() or close(stack), 90, lambda: stack.story(target))
    until(lambda: target not in stack.open(), 20, lambda: stack.story(target))
    assert "RMA 4711" in stack.why(target)
    assert stack.quarantined(target), "it stays out, in the person's care"
    resets = stack.note().resets
    stack.passes(3)
    assert stack.note().resets == resets


def close(stack: Scene) -> bool:
    """Whether the order to close the incident was accepted."""
    with contextlib.suppress(AssertionError):
        stack.cli("close", "node3/5", "--keep-quarantine", "--reason", "RMA 4711")
        return True
    return False


def test_a_release_by_a_person_is_respected_though_the_alert_flaps(stack: Scene) -> None:
    target = "gpu/node1/6"
    before = stack.note(stack.job_on("node1", 6, name="released"))
    labels = {k: v for k, v in gpu_alert(stack, "GpuHung", "node1", 6).items() if k != "uuid"}
    stack.post(labels)
    until(lambda: stack.quarantined(target), 20, lambda: stack.story(target))
    stack.cli("release", "node1/6", "--reason", "cable replaced, tested by hand")
    until(lambda: not stack.quarantined(target), 20, lambda: stack.story(target))
    until(lambda: stack.states(target)[-1] == "OVERRIDDEN", 20, lambda: stack.story(target))
    # It fires again as another episode, and so does another alert with the board's uuid.
    stack.post(labels | {"flap": "1"})
    stack.post(gpu_alert(stack, "GpuEccUncorrectable", "node1", 6))
    until(lambda: stack.held(target) == "pinned", 20, lambda: stack.story(target))
    stack.passes(3)
    assert "cable replaced" in stack.why(target)
    assert not stack.quarantined(target)
    stack.require_untouched(before)
