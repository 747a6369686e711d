"""The whole page of a simulated node, at a fixed time, compared with the one on record.

Record anew: python -m pytest tests/unit/exporter/test_golden_page.py --override-ini=addopts= \
with FLEETMEDIC_RECORD=1, and read the difference before committing it.
"""

import json
import os
from pathlib import Path

from exporter.board import INTERVALS, Board
from exporter.boot import SimulatedBoot
from exporter.catalogue import catalogue
from exporter.exposition import Renderer
from exporter.openmetrics import Form
from exporter.page import Fragment
from exporter.registry import COLLECTORS, Parts
from exporter.sources.simulated import SimulatedSource
from exporter.worker import Rounds
from fleetmedic.hardware.state import Hardware

GOLDEN = Path(__file__).parent / "golden" / "simulated_node.txt"
NOW = 1_800_000_000.0
KMSG = """6,1,100,-;NVRM: loading
4,2,5000000,-;NVRM: Xid (PCI:0000:20:00): 31, pid=4242, name=python, Ch 00000008
4,3,86390000000,-;NVRM: Xid (PCI:0000:20:00): 79, pid='<unknown>', GPU has fallen off the bus.
4,4,86390000001,-;NVRM: GPU 0000:20:00.0: GPU has fallen off the bus.
"""
REPORT = {
    "job_id": "train-a", "step": 120, "loss": 2.5, "step_seconds": 0.4, "step_at": NOW - 1,
    "checkpoint_step": 100, "checkpoint_at": NOW - 9, "checkpoint_interval": 60, "restarts": 1,
    "running": True,
}  # fmt: skip


def node(folder: Path) -> Hardware:
    """Three GPUs: one busy, one lost a moment ago, one hot with a row remap pending."""
    (folder / "node1").mkdir(parents=True)
    (folder / "node1" / "boot").write_text(f"boot_id=b1\nboot_time={NOW - 86_400}\nboots=1\n")
    (folder / "node1" / "kmsg").write_text(KMSG)
    hardware = Hardware(folder)
    hardware.create(1, 3)
    hardware.change("node1", 2, heat=40.0, remap_pending=True, ecc_uncorrected=1)
    for index, use in ((0, 0.97), (2, 0.95)):
        text = f"utilization={use}\nmemory=0.7\npid=1\nat={NOW}\n"
        (folder / "node1" / f"gpu{index}.load").write_text(text)
    return hardware


def test_the_page_of_a_simulated_node_is_the_one_on_record(tmp_path: Path) -> None:
    hardware = node(tmp_path / "hardware")
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "train-a.json").write_text(json.dumps(REPORT))
    board = Board(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    rounds = Rounds(SimulatedSource(hardware.root, "node1", lambda: None), set(), INTERVALS)
    for now in (NOW - 2, NOW):
        for message in rounds.once(now):
            board.apply(message, now)
        hardware.change("node1", 1, lost=True)
    parts = Parts(
        board=board, intervals=INTERVALS, boot=SimulatedBoot(hardware.root, "node1"),
        procfs=Path("/proc"), kmsg=hardware.kmsg_path("node1"), state_dir=tmp_path, node="node1",
        cluster_dir=None, progress_dir=tmp_path / "progress", has_gpus=True,
        log=lambda event, **fields: None,
    )  # fmt: skip
    text = ""
    for name in ("gpu_presence", "gpu_load", "gpu_health", "gpu_limits", "xid", "progress"):
        collector = COLLECTORS.get(name).make(parts)
        assert collector is not None
        text += (
            Fragment(Renderer(catalogue()).render(collector.collect(NOW))).plain(Form.TEXT).decode()
        )
    if os.environ.get("FLEETMEDIC_RECORD"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
