"""Every crash point of an incident that waits for an approval, on a cluster that has no test under load.

`CRASH_AT=n` ends the process hard after its n-th journal write or cluster effect. Started again, the
incident must end as the undisturbed one did: approved once, and no effect twice.
"""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from remediator.journal import read_events
from tests.integration.approval_story import story

pytestmark = pytest.mark.integration
SPAWNED = multiprocessing.get_context("forkserver")
# The modules are imported once, so that each process starts at once.
SPAWNED.set_forkserver_preload([story.__module__])
CRASHED = 137
PATIENCE = 120.0
STEPS = ("StepPrepared", "StepDone", "StepFailed", "StepWithdrawn")


@dataclass(frozen=True)
class Ending:
    """What one incident came to, and what was done for it."""

    states: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]
    verbs: tuple[str, ...]
    approvals: int


def ran(folder: Path, crash_at: int | None) -> int | None:
    process = SPAWNED.Process(target=story, args=(folder, crash_at))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode is not None, f"crash point {crash_at} does not end"
    return process.exitcode


def point(folder: Path, crash_at: int | None) -> tuple[bool, Ending]:
    (folder / "data").mkdir(parents=True)
    code = ran(folder, crash_at)
    crashed = code == CRASHED
    if crashed:
        code = ran(folder, None)
    assert code == 0, (crash_at, code)
    events = read_events(folder / "data")
    effects = pickle.loads((folder / "cluster").read_bytes())["_effects"]
    return crashed, Ending(
        tuple(one["data"]["state"] for one in events if one["event"] == "StateChanged"),
        tuple((one["data"]["step"], one["event"]) for one in events if one["event"] in STEPS),
        tuple(one.verb for one in effects),
        sum(one["event"] == "Approved" for one in events),
    )


def test_a_crash_at_any_point_of_an_approval_changes_nothing_about_how_it_ends(tmp_path) -> None:
    crashed, undisturbed = point(tmp_path / "undisturbed", None)
    assert not crashed
    assert undisturbed.states[-2:] == ("AWAIT_APPROVAL", "CLOSED")
    assert undisturbed.verbs == ("quarantine", "restart", "reset", "release")
    assert undisturbed.approvals == 1
    points = 0
    while crashed or points == 0:
        crashed, ending = point(tmp_path / str(points), points + 1)
        assert ending == undisturbed, points + 1
        points += crashed
    print(f"{points} crash points")
    assert points >= 25
