"""The mill: a cluster of three nodes with two GPUs each, with its own remediator that repairs.

Its nodes have the names of the simulated hardware, node1 to node3; the label `cluster` distinguishes
them from those of the rack. Its remediator reads its alerts from Alertmanager, which sends them to the
remediator of the rack.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import yaml

from every_alert.processes import free_port
from every_alert.scrapes import Node
from fleetmedic.hardware.state import Hardware

if TYPE_CHECKING:
    from every_alert.fleet import Fleet

NODES, GPUS = ("node1", "node2", "node3"), 2

# Replaces the shipped playbook: one reset, a short test, and no reboot.
PLAYBOOK = {
    "playbook": "gpu-lost",
    "match": {"alertname": ["GpuLost", "GpuXidFatalHardware"]},
    "target": "gpu", "class": "hardware", "level": "repair", "quarantine": True, "witnesses": 2,
    "jobs": {"signal": False, "restart": True, "deadline": "1m"},
    "ladder": [{"do": "reset_gpu", "deadline": "2m", "max": "1/24h", "cooldown": "10m"}],
    "verify": {"tests": ["probe", "metrics"], "passes": 1, "deadline": "5s"},
}  # fmt: skip


def hardware(fleet: Fleet) -> Hardware:
    """The simulated GPUs of the mill."""
    return Hardware(fleet.folder / "mill/hardware")


def take_quarantines(fleet: Fleet, *, taken: bool) -> None:
    """Make the store of the cluster reject new quarantines, as on a full disk, or accept them again."""
    refuse = (
        "CREATE TRIGGER full BEFORE INSERT ON quarantines BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with (
        contextlib.closing(sqlite3.connect(fleet.folder / "mill/cluster/cluster.db")) as store,
        store,
    ):
        store.execute("DROP TRIGGER IF EXISTS full" if taken else refuse)


def start(fleet: Fleet) -> None:
    """Start its exporters, controller and remediator."""
    folder = fleet.folder / "mill"
    hardware(fleet).create(len(NODES), GPUS)
    host = fleet.machines["hall"].root
    for number, name in enumerate(NODES, 1):
        node = fleet.nodes[f"mill-{number}"] = Node(name, "mill", free_port())
        fleet.processes.ours(
            f"mill-{number}", "exporter", f"--web.listen-address=127.0.0.1:{node.port}",
            f"--state.dir={fleet.folder}/state/mill-{number}", "--source=simulated", "--gpu.interval=1s",
            "--gpu.health-interval=2s", "--collector.disable-host", f"--hardware.dir={folder}/hardware",
            f"--hardware.node={name}", f"--path.procfs={host}/proc", f"--path.sysfs={host}/sys",
        )  # fmt: skip
    fleet.processes.ours(
        "mill-cluster", "localcluster", "serve", f"--state-dir={folder}", "--no-pool"
    )
    (folder / "playbooks").mkdir()
    (folder / "playbooks/gpu-lost.yml").write_text(yaml.safe_dump(PLAYBOOK))
    settings = {
        "cluster": {
            "name": "mill", "adapter": "local",
            "local": {"cluster_dir": f"{folder}/cluster", "hardware_dir": f"{folder}/hardware"},
        },
        "level": "repair", "prometheus_url": f"http://{fleet.main.address}",
        "alertmanager_url": f"http://127.0.0.1:{fleet.ports['alertmanager']}",
        "webhook_token_file": f"{fleet.folder}/token", "playbook_dirs": [f"{folder}/playbooks"],
        "timing": {"factor": 60.0, "reconcile_every": "2s", "scrape_interval": "2s"},
    }  # fmt: skip
    (folder / "remediator.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    fleet.processes.ours(
        "mill-remediator", "remediator", "serve", f"--config={folder}/remediator.yml",
        f"--web.listen-address=127.0.0.1:{fleet.ports['mill']}", f"--data-dir={folder}/journal",
    )  # fmt: skip
