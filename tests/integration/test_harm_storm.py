"""Too much of a fleet is reported unhealthy at once: nothing disruptive, one message, and an end by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from fleetmedic.hardware.faults import inject
from tests.integration.harm import Scene, settings, until
from tests.integration.inbox import Inbox

pytestmark = pytest.mark.integration
# Longer than the exporters' reports are apart, so that the storm is seen before the hold ends.
HOLD = "25s"
GPUS = [(f"node{node}", gpu) for node in (1, 2, 3) for gpu in (0, 1, 2)]


@pytest.fixture
def stack(
    people: Inbox, new_scene: Callable[..., AbstractContextManager[Scene]]
) -> Iterator[Scene]:
    edit = settings(notify={"webhooks": [people.url]})
    with new_scene(edit, hold=HOLD) as found:
        yield found


def test_a_storm_stops_what_is_disruptive_is_told_once_and_ends_by_itself(
    stack: Scene, people: Inbox
) -> None:
    before = stack.note(stack.job_on("node2", 1, name="storm"))
    for node, gpu in GPUS:
        inject(stack.hardware, node, gpu, "hang")

    def events(kind: str) -> list[dict[str, object]]:
        return [e for e in stack.journal() if e["event"] == kind]

    until(lambda: events("StormBegan"), 40, lambda: stack.journal())
    until(lambda: stack.open() and all(stack.open().values()), 60, stack.open)
    stack.passes(10)
    assert set(stack.open().values()) <= {"storm", "budget_out", "budget_new"}
    assert "storm" in stack.open().values()
    stack.require_untouched(before)
    assert len(people.groups("storm/")) == 1, people.messages
    assert not [m for m in people.messages if m.get("reason") == "storm"], people.messages

    for node, gpu in GPUS:
        inject(stack.hardware, node, gpu, "heal")
    until(lambda: events("StormEnded"), 90, lambda: stack.journal())
    until(lambda: not stack.out() and not stack.open(), 120, lambda: (stack.out(), stack.open()))
    stack.require_untouched(before)
    assert len(people.groups("storm/")) == 1, people.messages
