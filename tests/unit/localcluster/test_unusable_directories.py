"""A job whose directory cannot be used ends, and blocks no GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetmedic.hardware.state import Hardware
from fleetmedic.localcluster.attempts import Attempts
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.job_starter import JobStarter
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import JobSpec, JobState
from fleetmedic.localcluster.processes import Launcher


class Controller:
    """The controller's two halves, which look at the jobs one after the other."""

    def __init__(self, state: Path) -> None:
        self.client = LocalCluster(state / "cluster", state / "hardware")
        layout, inventory = Layout(state), Inventory(state / "hardware")
        self._starter = JobStarter(self.client.store, layout, inventory)
        self._attempts = Attempts(self.client.store, layout, inventory, Launcher())
        self.now = time.time() + 1

    def turn(self) -> None:
        self._starter.advance(self.now)
        self._attempts.watch(self.now)
        self.now += 60


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    Hardware(tmp_path / "hardware").create(1, 1)
    found = Controller(tmp_path)
    # beside the state directory, with a name that begins like it
    file = tmp_path.with_name(f"{tmp_path.name}-file")
    file.touch()
    impossible = str(file / "checkpoints")
    found.client.submit(JobSpec("train", ("true",), gpus=1, checkpoint_dir=impossible))
    yield found
    found.client.store.close()


def test_it_fails_with_the_reason_and_frees_its_gpu(controller: Controller) -> None:
    for _ in range(20):
        controller.turn()
    job = controller.client.job("train")
    assert job.state is JobState.FAILED
    assert "cannot start" in job.text
    assert not controller.client.allocations("node1")


def test_it_can_be_cancelled(controller: Controller) -> None:
    controller._starter.advance(controller.now)
    assert controller.client.allocations("node1")
    controller.client.cancel("train", op_id="c")
    controller.turn()
    assert controller.client.job("train").state is JobState.CANCELLED
    assert not controller.client.allocations("node1")
