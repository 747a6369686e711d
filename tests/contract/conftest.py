"""Every cluster that the contract is held against, each with a way to set its scene."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster as EmbeddedCluster
from fleetmedic.localcluster.model import JobSpec
from remediator.clusters.base import Cluster
from remediator.clusters.local import LocalClusterAdapter, LocalSettings
from remediator.clusters.memory import MemoryCluster

DEADLINE = 15.0
# Survives SIGUSR1, as a job that writes checkpoints does, and ends at once on SIGTERM.
JOB = ("/bin/sh", "-c", "trap : USR1; while :; do sleep 0.1; done")


class Bench(ABC):
    """A cluster of node1 and node2 with two GPUs each, and the hand that sets its scene."""

    cluster: Cluster

    @abstractmethod
    def submit(self, job_id: str, gpus: int) -> None:
        """Submit a job of so many GPUs, which runs until it is stopped."""

    @abstractmethod
    def make_unhealthy(self, target: Target, heals_by: Literal["reset", "reboot", "none"]) -> None:
        """Let a GPU fail its test until this repair."""

    def start(self, job_id: str, gpus: int = 1) -> None:
        """Submit a job and wait until it runs."""
        self.submit(job_id, gpus)

        async def running() -> bool:
            job = await self.cluster.job(job_id)
            return job is not None and job.running

        asyncio.run(eventually(running))

    @abstractmethod
    def another(self) -> Cluster:
        """The same cluster, as a second remediator opens it. The caller closes it."""

    @abstractmethod
    def close(self) -> None:
        """End whatever was started."""


async def eventually(question: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is yes; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE
    while not await question():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.memory = MemoryCluster("memory", nodes=2, gpus=2)
        self.memory.add_workload("serve", replicas=2, minimum=1, maximum=4)
        self.cluster = self.memory

    def submit(self, job_id: str, gpus: int) -> None:
        self.memory.submit(job_id, gpus=gpus)

    def make_unhealthy(self, target: Target, heals_by: Literal["reset", "reboot", "none"]) -> None:
        self.memory.make_unhealthy(target, heals_by=heals_by)

    def another(self) -> Cluster:
        return self.memory  # it lives in one process and is shared there

    def close(self) -> None:
        pass


class LocalBench(Bench):
    """The real store and hardware folder; the real controller once there is a job."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.hardware = Hardware(state / "hardware")
        self.hardware.create(nodes=2, gpus=2)
        self.client = EmbeddedCluster(state / "cluster", state / "hardware")
        self.cluster = self.another()
        self.controller: subprocess.Popen[bytes] | None = None

    def submit(self, job_id: str, gpus: int) -> None:
        self._run_controller()
        path = {"PATH": os.environ["PATH"]}
        self.client.submit(JobSpec(name=job_id, command=JOB, gpus=gpus, env=path, grace=1.0))

    def make_unhealthy(self, target: Target, heals_by: Literal["reset", "reboot", "none"]) -> None:
        assert target.gpu is not None
        inject(self.hardware, target.name, target.gpu, "slow", heals_by=heals_by)

    def another(self) -> Cluster:
        settings = LocalSettings(
            cluster_dir=str(self.state / "cluster"),
            hardware_dir=str(self.state / "hardware"),
            burn_in="50ms",
        )
        return LocalClusterAdapter("local", settings)

    def close(self) -> None:
        if self.controller is not None:
            self._end(self.controller)
        self.client.store.close()
        asyncio.run(self.cluster.close())

    def _end(self, controller: subprocess.Popen[bytes]) -> None:
        for job in self.client.jobs():
            self.client.cancel(job.id, op_id=f"end-{job.id}")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and not all(j.state.ended for j in self.client.jobs()):
            time.sleep(0.05)
        controller.terminate()
        try:
            controller.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            controller.kill()
            controller.wait(DEADLINE)

    def _run_controller(self) -> None:
        if self.controller is None:
            with (self.state / "controller.log").open("wb") as log:
                self.controller = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "fleetmedic.cli", "localcluster", "serve"),
                        *("--no-pool", "--state-dir", str(self.state)),
                    ],
                    stdout=log,
                    stderr=log,
                )


def _bench(kind: str, folder: Path) -> Bench:
    return MemoryBench() if kind == "memory" else LocalBench(folder)


@pytest.fixture(params=["memory", "local"])
def cluster_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A cluster without jobs."""
    with contextlib.closing(_bench(request.param, tmp_path)) as bench:
        yield bench


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.integration)])
def busy_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A cluster on which the job `train` runs."""
    with contextlib.closing(_bench(request.param, tmp_path)) as bench:
        bench.start("train")
        yield bench
