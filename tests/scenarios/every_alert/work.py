"""What the fleet does all the time: load on its GPUs, and jobs, pipelines and servers that report.

Everything here goes on by itself until a story changes it: `beat` is called twice a second.
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
    """How hard each GPU works. A GPU that is not told of has no process on it."""

    def __init__(self) -> None:
        self.of: dict[tuple[Path, str, int], float] = {}
        self._told = 0.0

    def set(self, hardware: Hardware, node: str, gpus: range | tuple[int, ...], use: float) -> None:
        """From now on, `use` of each of these."""
        for index in gpus:
            self.of[hardware.root, node, index] = use

    def beat(self) -> None:
        """Say so, as a job does each second."""
        if time.monotonic() - self._told < 1.0:
            return
        self._told = time.monotonic()
        for (root, node, index), use in list(self.of.items()):
            Hardware(root).set_load(node, index, use, 0.6 if use else 0.01)


@dataclass
class Training:
    """A job of four ranks, a step each half second. Whatever is set here is what it does from then on."""

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
        """Begin as the cluster does after so many restarts."""
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
    """A pipeline that does some records each half second, and is done with them each time."""

    name: str
    directory: Path
    expected_interval: float = 0.0
    backlog: int = 0
    stopped: bool = False
    _pipeline: Pipeline | None = None

    def beat(self) -> None:
        """Some records."""
        if self._pipeline is None:
            interval = self.expected_interval
            self._pipeline = Pipeline(self.name, self.directory, expected_interval=interval)
        if self.stopped:
            self._pipeline.records(0, backlog=self.backlog)
        else:
            self._pipeline.success(100, backlog=self.backlog)


@dataclass
class Server:
    """A replica of a service, five answers each half second."""

    service: str
    replica: str
    directory: Path
    seconds: float = 0.2
    failing: int = 0  # of five answers
    stuck: bool = False
    _serving: Serving | None = None

    def beat(self) -> None:
        """Answers, unless it is stuck with what it has."""
        if self._serving is None:
            self._serving = Serving(self.service, self.replica, self.directory)
        self._serving.load(waiting=0, running=2)
        for number in range(0 if self.stuck else 5):
            code = 500 if number < self.failing else 200
            self._serving.answered(code, seconds=self.seconds, tokens=30)
