"""The forge: a cluster of one node with five GPUs. One job of its embedded cluster uses four of them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from every_alert.processes import free_port
from every_alert.scrapes import Node
from fleetmedic.hardware.state import Hardware
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState

if TYPE_CHECKING:
    from every_alert.fleet import Fleet

JOB, GPUS, FREE = "cast", 4, 1


def hardware(fleet: Fleet) -> Hardware:
    """The simulated GPUs of the forge."""
    return Hardware(fleet.folder / "forge/hardware")


def gpus(fleet: Fleet) -> tuple[int, ...]:
    """The GPUs of the job."""
    return LocalCluster(fleet.folder / "forge/cluster").job(JOB).gpus


def start(fleet: Fleet) -> None:
    """Start its exporter, its controller and the job."""
    folder, found = fleet.folder / "forge", hardware(fleet)
    found.create(1, GPUS + FREE)
    host = fleet.machines["hall"].root
    node = fleet.nodes["forge-1"] = Node("forge-1", "forge", free_port())
    fleet.processes.ours(
        "forge-cluster", "localcluster", "serve", f"--state-dir={folder}", "--no-pool"
    )
    fleet.processes.ours(
        "forge-1", "exporter", f"--web.listen-address=127.0.0.1:{node.port}",
        f"--state.dir={fleet.folder}/state/forge-1", "--source=simulated", "--gpu.interval=1s",
        "--gpu.health-interval=2s", "--collector.disable-host", f"--hardware.dir={found.root}",
        "--hardware.node=node1", f"--cluster.dir={folder}/cluster",
        f"--path.procfs={host}/proc", f"--path.sysfs={host}/sys",
    )  # fmt: skip
    cluster = LocalCluster(folder / "cluster", found.root)
    until = time.monotonic() + 60
    spec = JobSpec(JOB, ("sleep", "3600"), gpus=GPUS, env={"PATH": os.defpath})
    job_id = cluster.submit(spec)
    while cluster.job(job_id).state is not JobState.RUNNING:
        assert time.monotonic() < until, f"{JOB}: {cluster.job(job_id).text}"
        time.sleep(0.2)
    cluster.store.close()
    fleet.loads.set(found, "node1", gpus(fleet), 0.9)
