"""The workload of the fleet: load on GPUs, and jobs, pipelines and servers that report.

`beat` is called twice a second. A story changes the attributes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from fleetmedic.hardware.state import Hardware
from fleetmedic.progress import Pipeline, Progress, Serving

RANKS = 4


class Loads:
    """The load of each GPU. A GPU without an entry has no process."""

    def __init__(self) -> None:
        self.of: dict[tuple[Path, str, int], float] = {}
        self._told = 0.0

    def set(self, hardware: Hardware, node: str, gpus: range | tuple[int, ...], use: float) -> None:
        """Set the load of these GPUs."""
        for index in gpus:
            self.of[hardware.root, node, index] = use

    def beat(self) -> None:
        """Write the loads once a second, as a job does."""
        if time.monotonic() - self._told < 1.0:
            return
        self._told = time.monotonic()
        for (root, node, index), use in list(self.of.items()):
            Hardware(root).set_load(node, index, use, 0.6 if use else 0.01)


@dataclass
class Training:
    """A job of four ranks with a step every half second. Changed attributes take effect at once."""

    name: str
    directory: Path
    checkpoint_interval: float = 4.0
    stalled: bool = False
    checkpoints: bool = True
    loss: float = 1.5
    waits: float = 0.02
    slow_rank: int | None = None
    step: int = 0
    _ranks: list[Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start(0)

    def start(self, restarts: int) -> None:
        """Start the ranks with this restart count, as the cluster does."""
        os.environ["FLEETMEDIC_RESTARTS"] = str(restarts)
        self._ranks = [
            Progress(
                self.name, self.directory, rank=rank, checkpoint_interval=self.checkpoint_interval
            )
            for rank in range(RANKS)
        ]
        del os.environ["FLEETMEDIC_RESTARTS"]

    def beat(self) -> None:
        """One step."""
        if self.stalled:
            return
        self.step += 1
        for rank, progress in enumerate(self._ranks):
            took = 0.42 if rank == self.slow_rank else 0.3
            progress.step(
                self.step,
                loss=self.loss,
                seconds=0.5,
                samples=64,
                data_wait=self.waits,
                compute=took,
            )
            if self.checkpoints and self.step % 4 == 0:
                progress.checkpoint(self.step)


@dataclass
class Data:
    """A pipeline that completes a batch of records every half second."""

    name: str
    directory: Path
    expected_interval: float = 0.0
    backlog: int = 0
    stopped: bool = False
    _pipeline: Pipeline | None = None

    def beat(self) -> None:
        """Process one batch."""
        if self._pipeline is None:
            interval = self.expected_interval
            self._pipeline = Pipeline(self.name, self.directory, expected_interval=interval)
        if self.stopped:
            self._pipeline.records(0, backlog=self.backlog)
        else:
            self._pipeline.success(100, backlog=self.backlog)


@dataclass
class Server:
    """A replica of a service that handles five requests every half second."""

    service: str
    replica: str
    directory: Path
    seconds: float = 0.2
    failing: int = 0  # of five requests
    stuck: bool = False
    _serving: Serving | None = None

    def beat(self) -> None:
        """Handle requests, unless the replica is stuck."""
        if self._serving is None:
            self._serving = Serving(self.service, self.replica, self.directory)
        self._serving.load(waiting=0, running=2)
        for number in range(0 if self.stuck else 5):
            code = 500 if number < self.failing else 200
            self._serving.answered(code, seconds=self.seconds, tokens=30)
