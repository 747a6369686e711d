"""A job is first placed where it asks to be, and kept off what it was moved away from, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.job_starter import EXCLUDED_FOR, JobStarter
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import JobSpec

GPU = Target.parse("node1/0")


@dataclass
class Waiting:
    """A cluster of one GPU, and a job that was moved away from it."""

    client: LocalCluster
    starts: JobStarter

    def placed(self, later: float) -> bool:
        """Whether the job has a place so many seconds later."""
        self.starts.advance(time.time() + later)
        return bool(self.client.allocations("node1"))


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    Hardware(tmp_path / "hardware").create(1, 1)
    client = LocalCluster(tmp_path / "cluster", tmp_path / "hardware")
    inventory = Inventory(tmp_path / "hardware")
    client.submit(JobSpec("train", ("true",), gpus=1))
    client.restart("train", op_id="move", exclude=(GPU,))
    yield Waiting(client, JobStarter(client.store, Layout(tmp_path), inventory))
    client.store.close()


def test_a_job_is_not_placed_on_what_it_was_moved_away_from(waiting: Waiting) -> None:
    assert not waiting.placed(1.0)
    assert not waiting.placed(EXCLUDED_FOR - 5.0)


def test_a_job_waits_for_no_exclusion_for_ever(waiting: Waiting) -> None:
    assert waiting.placed(EXCLUDED_FOR + 5.0)


def test_what_is_quarantined_is_never_given_to_a_job_that_waits(waiting: Waiting) -> None:
    waiting.client.quarantine(GPU, op_id="q", owner="us", reason="sick")
    assert not waiting.placed(EXCLUDED_FOR + 5.0)


def test_a_release_lets_the_job_return_at_once(waiting: Waiting) -> None:
    waiting.client.quarantine(GPU, op_id="q", owner="us", reason="sick")
    waiting.client.release(GPU, op_id="r", owner="us")
    assert waiting.placed(1.0)


def test_a_job_about_which_alone_an_alert_is_returns_if_nothing_else_is_free(
    tmp_path: Path,
) -> None:
    """It is not left without GPUs because an alert accuses hardware that it does not use."""
    Hardware(tmp_path / "hardware").create(2, 1)
    client = LocalCluster(tmp_path / "cluster", tmp_path / "hardware")
    starts = JobStarter(client.store, Layout(tmp_path), Inventory(tmp_path / "hardware"))
    client.submit(JobSpec("train", ("true",), gpus=1))
    starts.advance(time.time())
    node = client.job("train").node
    other = Target(GPU.kind, "node2" if node == "node1" else "node1", 0)
    with client.store.write() as db:  # as after its process has ended
        db.execute("DELETE FROM attempts")
        db.execute("DELETE FROM allocations")
        db.execute("UPDATE jobs SET state = 'MOVING'")
    assert client.restart("train", op_id="a", exclude=(other,), always=True)
    starts.advance(time.time() + 1)
    assert client.allocations(str(node))
    client.store.close()


def test_a_job_is_first_placed_on_the_node_that_it_names_and_may_move_later(
    tmp_path: Path,
) -> None:
    Hardware(tmp_path / "hardware").create(2, 1)
    client = LocalCluster(tmp_path / "cluster", tmp_path / "hardware")
    starts = JobStarter(client.store, Layout(tmp_path), Inventory(tmp_path / "hardware"))
    for name in ("first", "second"):
        client.submit(JobSpec(name, ("true",), gpus=1, node="node2"))
    for _ in range(2):
        starts.advance(time.time())
    assert client.job("first").node == "node2"
    second = client.job("second")
    assert (second.node, second.text[:7]) == (None, "node2: "), "it waits, though node1 is free"
    with client.store.write() as db:  # as after its process has ended
        db.execute("UPDATE attempts SET state = 'ENDED'")
        db.execute("UPDATE jobs SET state = 'MOVING' WHERE id = 'first'")
    starts.advance(time.time())
    assert client.job("first").node == "node1"
    client.store.close()
