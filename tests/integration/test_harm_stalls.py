"""Jobs that stall together wait for a shared cause; a job that stalls alone is restarted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fleetmedic.localcluster.model import JobSpec
from tests.integration.harm import Scene, settings, until
from tests.integration.inbox import Inbox

pytestmark = pytest.mark.integration
# A job that completes a step a second, unless the file of its name exists.
STEPS = """
import os, sys, time
from fleetmedic.progress import Progress
progress, step = Progress(), 0
while True:
    time.sleep(0.5)
    if not os.path.exists(sys.argv[1]):
        progress.step(step := step + 1)
"""


@pytest.fixture
def stack(
    people: Inbox, new_scene: Callable[..., AbstractContextManager[Scene]]
) -> Iterator[Scene]:
    with new_scene(settings(notify={"webhooks": [people.url]})) as found:
        yield found


def test_jobs_that_stall_together_are_not_restarted_and_one_that_stalls_alone_is(
    stack: Scene, people: Inbox, tmp_path: Path
) -> None:
    def training(name: str) -> str:
        command = (sys.executable, "-c", STEPS, str(tmp_path / name))
        return stack.cluster.submit(JobSpec(name, command, grace=0.5, env=dict(os.environ)))

    jobs = {name: training(name) for name in ("first", "second")}
    until(lambda: stack.value("count(training_step_duration_seconds)") == 2, 60, lambda: "no steps")
    before = [stack.note(job) for job in jobs.values()]

    for name in jobs:
        (tmp_path / name).touch()
    targets = [f"job/{job}" for job in jobs.values()]
    until(lambda: set(stack.open()) == set(targets), 180, stack.open)
    until(lambda: set(stack.open().values()) == {"jobs_stalled"}, 30, stack.open)
    until(lambda: people.groups("jobs_stalled"), 60, lambda: people.messages)
    stack.passes(5)
    for one in before:
        stack.require_untouched(one)
    assert "2 of 2 running training jobs" in people.groups("jobs_stalled")[0]["text"]

    (tmp_path / "second").unlink()
    first, second = (stack.cluster.job(job) for job in jobs.values())
    until(lambda: stack.cluster.job(first.id).restarts > first.restarts, 60, stack.open)
    assert stack.cluster.job(second.id).restarts == second.restarts
