"""One reader of the kernel log for three collectors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from exporter.boot import BootTime
from exporter.catalogue import catalogue
from exporter.collector import CollectorError
from exporter.collectors.gpu_action import GpuAction
from exporter.collectors.kernel_events import KernelEvents
from exporter.collectors.xid import XidErrors
from exporter.exposition import Renderer, Sample
from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.sources.base import Device, GpuEvent
from exporter.xids.kernel_log import KernelLog
from exporter.xids.kmsg import KmsgReader
from exporter.xids.xid_ledger import XidLedger

XID = "NVRM: Xid (PCI:0000:10:00): {}, pid=1, name=python"


class Node:
    """A node with one GPU: its GPU states, boot, kernel log and collectors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kmsg = folder / "kmsg"
        self.kmsg.touch()
        self.status = GpuStatus.UP
        self.source = "simulated"
        self.gpus = True
        self.told: list[tuple[float, GpuEvent]] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.sequence = 0
        self.start()

    def start(self) -> None:
        reader, ledger = KmsgReader(self.kmsg), XidLedger(self.folder / "xid.json")
        gpu_states: Any = self
        self.log = KernelLog(gpu_states, reader, self, ledger, self.say)
        self.xid = XidErrors(gpu_states, self.log)
        self.events = KernelEvents(self.log)
        self.action = GpuAction(gpu_states, self.log)

    def say(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    def read(self) -> BootTime:
        return BootTime("boot-1", 1000.0)

    def take_events(self) -> list[tuple[float, GpuEvent]]:
        told, self.told = self.told, []
        return told

    def snapshot(self, now: float) -> NodeSnapshot:
        gpu = GpuSnapshot(0, "GPU-a", Device(0, "GPU-a", "0000:10:00.0"), self.status, {})
        failure = "" if self.gpus else "the driver is not loaded"
        return NodeSnapshot((gpu,) if self.gpus else (), 1, False, self.source, failure, 0, {})

    def write(self, *texts: str, seconds: float = 1.0) -> None:
        with self.kmsg.open("a") as file:
            for text in texts:
                file.write(f"4,{self.sequence},{int(seconds * 1e6)},-;{text}\n")
                self.sequence += 1


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def value(samples: Any, name: str, *labels: str) -> float | None:
    found = [s.value for s in samples if s.name == name and s.labels[-len(labels) :] == labels]
    return found[0] if found else None


def recommended(node: Node, now: float) -> list[tuple[str, ...]]:
    return [(*sample.labels[2:], str(sample.value)) for sample in node.action.collect(now)]


def test_whoever_reads_first_reads_for_all(node: Node) -> None:
    node.write(XID.format(31), "nfs: server a OK", XID.format(31))
    host = list(node.events.collect(1005.0))
    gpu = list(node.xid.collect(1005.0))
    assert value(host, "node_kernel_events_total", "nfs_ok") == 1
    assert value(host, "node_kernel_events_total", "oom_kill") == 0
    assert value(gpu, "gpu_xid_errors_total", "31") == 2
    assert value(gpu, "gpu_xid_errors_total", "79") == 0
    assert value(gpu, "gpu_xid_last_timestamp_seconds", "31") == 1001.0
    assert value(gpu, "gpu_xid_last_timestamp_seconds", "79") is None
    Renderer(catalogue()).render([*host, *gpu, *node.action.collect(1005.0)])


def test_the_drivers_events_go_on_when_the_log_cannot_be_read(node: Node) -> None:
    node.kmsg.unlink()
    node.told = [(1004.0, GpuEvent("GPU-a", "", "xid", 48))]
    with pytest.raises(CollectorError, match="cannot read the kernel log: No such file"):
        list(node.xid.collect(1005.0))
    node.source = "nvml"
    samples = list(node.xid.collect(1005.0))
    assert value(samples, "gpu_xid_errors_total", "48") == 1
    assert Sample("gpu_exporter_kmsg_readable", (), False) in samples
    with pytest.raises(CollectorError):
        list(node.events.collect(1005.0))


def test_errors_that_were_told_before_any_gpu_was_known_are_not_lost(node: Node) -> None:
    node.gpus = False
    node.write(XID.format(79), "nfs: server a OK")
    with pytest.raises(CollectorError, match="no GPU is known yet"):
        list(node.xid.collect(1005.0))
    assert value(list(node.events.collect(1005.0)), "node_kernel_events_total", "nfs_ok") == 1
    node.gpus = True
    assert value(list(node.xid.collect(2000.0)), "gpu_xid_errors_total", "79") == 1


def test_counts_are_written_before_they_are_shown(node: Node) -> None:
    node.write(XID.format(31))
    list(node.xid.collect(1005.0))
    node.start()
    assert value(list(node.xid.collect(1006.0)), "gpu_xid_errors_total", "31") == 1


def test_counts_that_cannot_be_written_are_shown_and_written_later(node: Node) -> None:
    (node.folder / "xid.json").mkdir()
    node.write(XID.format(31))
    for now in (1005.0, 1006.0):
        assert value(list(node.xid.collect(now)), "gpu_xid_errors_total", "31") == 1
    assert [event for event, _ in node.said] == ["xid_counts_not_saved"]
    (node.folder / "xid.json").rmdir()
    list(node.xid.collect(1007.0))
    assert [event for event, _ in node.said][1:] == ["xid_counts_saved_again"]
    node.start()
    assert value(list(node.xid.collect(1008.0)), "gpu_xid_errors_total", "31") == 1


def test_what_should_be_done_is_told_while_the_counts_wait_for_a_disk(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, free = threading.Event(), threading.Event()

    def save(_: XidLedger, now: float) -> None:
        waits.set()
        free.wait(10)

    monkeypatch.setattr(XidLedger, "save", save)
    node.write(XID.format(79))
    with ThreadPoolExecutor(2) as pool:
        counted = pool.submit(node.log.advance, node.snapshot(1005.0), 1005.0)
        assert waits.wait(5)
        told = pool.submit(recommended, node, 1005.0)
        recent = node.log.recent
        try:
            assert told.result(2)[0][1] == "xid_79"
            assert [each.code for each in pool.submit(recent).result(2)] == [79]
            assert not counted.done()
        finally:
            free.set()
    assert counted.result().xids["GPU-a"]["79"] == 1


def test_a_log_that_nobody_reads_any_more_is_known_to_be_unread(node: Node) -> None:
    assert not node.log.read_lately(1005.0)
    list(node.events.collect(1005.0))
    assert node.log.read_lately(1010.0)
    assert not node.log.read_lately(1100.0)
    assert not node.log.read_lately(900.0), "the clock was set back after the read"


def test_a_backlog_larger_than_one_read_is_read_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.xids.kmsg.MAX_BYTES", 500)
    node.write(*([XID.format(31)] * 100))
    assert value(list(node.xid.collect(9000.0)), "gpu_xid_errors_total", "31") == 100
    assert value(list(node.xid.collect(9001.0)), "gpu_xid_last_timestamp_seconds", "31") == 1001.0


def test_what_is_recommended_follows_the_gpu(node: Node) -> None:
    assert recommended(node, 1000.0) == [("none", "ok", "0")]
    token = node.action.token(1000.0)
    node.write(XID.format(62))
    list(node.xid.collect(1005.0))
    assert recommended(node, 1005.0) == [("reset_gpu", "xid_62", "2")]
    assert node.action.token(1005.0) != token
    assert node.action.token(1005.0) == node.action.token(1006.0)
    node.status = GpuStatus.LOST
    list(node.xid.collect(1006.0))
    assert recommended(node, 1006.0) == [("reboot_node", "lost", "4")]
    node.status = GpuStatus.UNKNOWN
    assert recommended(node, 1007.0) == []
    node.status = GpuStatus.UP
    list(node.xid.collect(1008.0))
    assert recommended(node, 1008.0) == [("none", "ok", "0")], "the GPU is back after a reset"


def test_since_when_is_kept_as_long_as_the_reason(node: Node) -> None:
    node.status = GpuStatus.LOST
    wanted = node.log.recommendations(node.snapshot(1000.0), 1000.0)["GPU-a"]
    assert wanted == node.log.recommendations(node.snapshot(1050.0), 1050.0)["GPU-a"]
    assert (wanted.action, wanted.reason, wanted.since) == ("reboot_node", "lost", 1000.0)


def test_the_recent_events_are_there_for_the_health_page(node: Node) -> None:
    node.write(XID.format(31), XID.format(31))
    list(node.xid.collect(1005.0))
    (recent,) = node.log.recent()
    assert (recent.code, recent.count, recent.device) == (31, 2, "GPU-a")
    assert recent.text == XID.format(31)


def test_two_collectors_that_ask_in_the_same_moment_have_it_read_once(node: Node) -> None:
    node.write("nfs: server a OK")
    assert value(node.events.collect(1005.0), "node_kernel_events_total", "nfs_ok") == 1
    node.write(XID.format(31))
    assert value(node.xid.collect(1005.1), "gpu_xid_errors_total", "31") == 0
    assert value(node.xid.collect(1006.0), "gpu_xid_errors_total", "31") == 1
    node.write(XID.format(31))
    assert value(node.xid.collect(1000.0), "gpu_xid_errors_total", "31") == 2, (
        "the clock was set back"
    )


def test_counts_are_made_into_samples_again_only_when_one_changed(node: Node) -> None:
    first = node.xid.token(1005.0)
    assert value(node.xid.collect(1005.0), "gpu_xid_errors_total", "31") == 0
    assert node.xid.token(1006.0) == first
    node.write(XID.format(31))
    assert node.xid.token(1007.0) != first
    assert value(node.xid.collect(1007.0), "gpu_xid_errors_total", "31") == 1


def test_a_log_that_cannot_be_read_is_told_though_nothing_was_counted(node: Node) -> None:
    node.source = "nvml"
    before = node.xid.token(1005.0)
    node.kmsg.unlink()
    assert node.xid.token(1006.0) != before
    assert Sample("gpu_exporter_kmsg_readable", (), False) in list(node.xid.collect(1006.0))
