"""The whole page of a simulated node, at a fixed time, compared with the golden file.

To update the golden files, run: python -m pytest tests/unit/exporter/test_golden_page.py --override-ini=addopts= \
with FLEETMEDIC_RECORD=1, and review the diff before committing it.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.boot import SimulatedBoot
from exporter.catalogue import catalogue
from exporter.exposition import Renderer
from exporter.gpu_states import INTERVALS, GpuStates
from exporter.pages.dcgm import dcgm
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment, Page
from exporter.reading.worker import Rounds
from exporter.registry import COLLECTORS, CollectorContext
from exporter.sources.simulated import SimulatedSource
from fleetmedic.hardware.state import Hardware

GOLDEN = Path(__file__).parent / "golden"
# Collectors whose output only depends on the state, not on the machine.
COLLECTED = (
    "gpu_presence", "gpu_load", "gpu_gpm", "gpu_health", "gpu_links", "gpu_mig", "gpu_processes",
    "gpu_limits", "xid", "progress",
)  # fmt: skip
NOW = 1_800_000_000.0
KMSG = """6,1,100,-;NVRM: loading
4,2,5000000,-;NVRM: Xid (PCI:0000:20:00): 31, pid=4242, name=python, Ch 00000008
4,3,86390000000,-;NVRM: Xid (PCI:0000:20:00): 79, pid='<unknown>', GPU has fallen off the bus.
4,4,86390000001,-;NVRM: GPU 0000:20:00.0: GPU has fallen off the bus.
"""
REPORT = {
    "job_id": "train-a", "step": 120, "loss": 2.5, "step_seconds": 0.4, "step_at": NOW - 1,
    "checkpoint_step": 100, "checkpoint_at": NOW - 9, "checkpoint_interval": 60, "restarts": 1,
    "running": True, "data_wait_seconds": 0.05, "compute_seconds": 0.3, "samples": 7680,
}  # fmt: skip
RANK = {
    "job_id": "train-a", "rank": 1, "step": 120, "step_seconds": 0.4, "data_wait_seconds": 0.02,
    "compute_seconds": 0.375, "samples": 7680, "running": True,
}  # fmt: skip
PIPELINE = {
    "kind": "pipeline", "pipeline": "tokenise", "records": 5000, "backlog": 12,
    "success_at": NOW - 600, "expected_interval": 3600, "running": False,
}  # fmt: skip
SERVING = {
    "kind": "serving", "service": "chat", "replica": "a", "waiting": 1, "answering": 2,
    "requests": {"200": 40, "503": 1}, "tokens": 12_000, "running": True,
    "durations": {"counts": [1, 2, 3, 4, 5, 6, 7, 8, 3, 1, 0, 1], "sum": 61.5},
}  # fmt: skip
REPORTS = {
    "train-a": REPORT, "train-a@1": RANK, "tokenise@pipeline": PIPELINE, "chat@serving@a": SERVING,
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


@pytest.fixture
def gpu_states(tmp_path: Path) -> GpuStates:
    hardware = node(tmp_path / "hardware")
    (tmp_path / "progress").mkdir()
    for stem, report in REPORTS.items():
        path = tmp_path / "progress" / f"{stem}.json"
        path.write_text(json.dumps(report))
        os.utime(path, (NOW, NOW))  # otherwise the report expires with the current date
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    rounds = Rounds(SimulatedSource(hardware.root, "node1", lambda: None), set(), INTERVALS)
    for now in (NOW - 2, NOW):
        for message in rounds.once(now):
            gpu_states.apply(message, now)
        hardware.change("node1", 1, lost=True)
    return gpu_states


@pytest.fixture
def page(tmp_path: Path, gpu_states: GpuStates) -> Page:
    hardware = Hardware(tmp_path / "hardware")
    parts = CollectorContext(
        gpu_states=gpu_states, intervals=INTERVALS, boot=SimulatedBoot(hardware.root, "node1"),
        procfs=Path("/proc"), kmsg=hardware.kmsg_path("node1"), state_dir=tmp_path, node="node1",
        cluster_dir=None, progress_dir=tmp_path / "progress", has_gpus=True,
        log=lambda event, **fields: None,
    )  # fmt: skip
    renderer = Renderer(catalogue())
    fragments = []
    for name in COLLECTED:
        collector = COLLECTORS.get(name).make(parts)
        assert collector is not None
        fragments.append(Fragment(renderer.render(collector.collect(NOW))))
        for family, _ in fragments[-1].blocks:
            assert catalogue().get(family.name).collector == name, (
                "the family belongs to another collector"
            )
    return Page(fragments)


def compare(name: str, text: bytes) -> None:
    """Compare with the golden file; with FLEETMEDIC_RECORD, write it first."""
    if os.environ.get("FLEETMEDIC_RECORD"):
        (GOLDEN / name).write_bytes(text)
    assert text.decode() == (GOLDEN / name).read_text()


def test_the_page_of_a_simulated_node_is_the_one_on_record(page: Page) -> None:
    compare("simulated_node.txt", page.text)


def test_in_openmetrics_it_is_the_one_on_record(page: Page) -> None:
    compare("simulated_node.openmetrics", page.body(ExpositionFormat.OPENMETRICS, gzip=False))


def test_for_dashboards_of_dcgm_it_is_the_one_on_record(gpu_states: GpuStates) -> None:
    view = gpu_states.snapshot(NOW)
    xids = {gpu.uuid: 79 for gpu in view.gpus if gpu.index == 1}
    compare("simulated_node.dcgm", dcgm(view, "rack1", xids).text)


def test_both_forms_are_read_as_the_same_series(page: Page) -> None:
    def series(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    text = series(text_string_to_metric_families(page.text.decode()))
    body = page.body(ExpositionFormat.OPENMETRICS, gzip=False).decode()
    assert series(openmetrics.text_string_to_metric_families(body)) == text  # type: ignore[no-untyped-call]
