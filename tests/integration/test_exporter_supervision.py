"""The supervisor with real processes on simulated GPUs that really hang; the event process with a
stand-in for the driver's events."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.gpu_states import INTERVALS, GpuStates, GpuStatus, NodeSnapshot
from exporter.reading.supervisor import WorkerSupervisor
from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration
GPUS = 4
PATIENCE = 20.0  # seconds: a busy machine is slow, not wrong
UP, LOST, HUNG, UNKNOWN = GpuStatus.UP, GpuStatus.LOST, GpuStatus.HUNG, GpuStatus.UNKNOWN
EVENTS = """
import os, time
from pathlib import Path
from exporter.sources.base import GpuEvent, SourceFailed
FOLDER = Path(os.environ["EVENTS_FOLDER"])

def events(log):
    log("began", gpus=4)
    while True:
        time.sleep(0.05)
        for path in sorted(FOLDER.glob("*.event")):
            uuid, kind, code = path.read_text().split()
            path.unlink()
            if kind == "fail":
                raise SourceFailed("no driver")
            yield GpuEvent(uuid, "", kind, int(code))
        while (FOLDER / "silent").exists():
            time.sleep(0.05)
        yield None
"""


def offspring(pid: int | str) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return found


class Node:
    """A gpu_states kept by a supervisor, on one simulated node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hardware = Hardware(folder / "hardware")
        self.hardware.create(1, GPUS)
        self.source = ["simulated", str(self.hardware.root), "node1"]
        (folder / "proc/driver/nvidia").mkdir(parents=True)
        (folder / "sys/bus/pci/devices").mkdir(parents=True)
        self.said: list[str] = []
        self.begin()

    def begin(self) -> None:
        self.gpu_states = GpuStates(
            self.folder / "inventory.json", expected=None, intervals=INTERVALS
        )
        self.supervisor = WorkerSupervisor(
            self.gpu_states, self.source, INTERVALS, lambda event, **fields: self.said.append(event),
            procfs=self.folder / "proc", sysfs=self.folder / "sys", events="stand_in_events",
        )  # fmt: skip
        self.supervisor.start()

    def view(self) -> NodeSnapshot:
        return self.gpu_states.snapshot(time.time())

    def until(self, holds: Callable[[NodeSnapshot], bool], seconds: float = PATIENCE) -> float:
        """Wait until it holds; the seconds that took. What it ought to take, bench/exporter measures."""
        began = time.monotonic()
        while not holds(self.view()):
            assert time.monotonic() - began < seconds, self.view()
            time.sleep(0.02)
        return time.monotonic() - began

    def shows(self, *statuses: GpuStatus, seconds: float = PATIENCE) -> float:
        return self.until(lambda view: [gpu.status for gpu in view.gpus] == [*statuses], seconds)

    def hang(self, *gpus: int, hung: bool = True, where: str = "") -> None:
        for gpu in gpus:
            self.hardware.change("node1", gpu, hung=hung, hang_in=where)

    def children(self) -> list[int]:
        """The processes that were forked to read GPUs or to wait for events."""
        return [grandchild for child in offspring("self") for grandchild in offspring(child)]

    def worker(self) -> int:
        [reader] = self.supervisor._workers.values()
        return reader.pid

    def tell(self, text: str) -> None:
        path = self.folder / f"{time.monotonic_ns()}.event"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    (tmp_path / "stand_in_events.py").write_text(EVENTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("EVENTS_FOLDER", str(tmp_path))
    made = Node(tmp_path)
    made.until(lambda view: view.events_up is True and len(view.gpus) == GPUS)
    made.shows(UP, UP, UP, UP)
    yield made
    made.supervisor.stop()
    assert offspring("self") == []


def test_a_hung_gpu_is_flagged_the_others_stay_fresh_and_it_comes_back(node: Node) -> None:
    before = len(node.children())
    node.hang(2)
    node.shows(UP, UP, HUNG, UP)
    node.until(lambda view: view.stuck)
    node.until(lambda view: "left_out" in node.said)
    view = node.view()
    assert [gpu.status for gpu in view.gpus] == [UP, UP, HUNG, UP]
    assert [len(gpu.groups) > 0 for gpu in view.gpus] == [True, True, False, True]
    node.hang(2, hung=False)
    node.shows(UP, UP, UP, UP)
    node.until(lambda view: not view.stuck and len(node.children()) == before)


def test_a_call_that_comes_back_late_makes_a_slow_gpu_and_no_hung_one(node: Node) -> None:
    before = len(node.children())
    node.hang(1)
    node.shows(UP, HUNG, UP, UP)
    node.hang(1, hung=False)
    node.until(lambda view: view.gpus[1].status is UP and view.gpus[1].slow)
    assert "left_out" not in node.said
    node.until(lambda view: not view.gpus[1].slow)
    node.until(lambda view: len(node.children()) == before)


def test_a_slow_gpu_stays_up_on_its_own_and_its_neighbours_stay_fresh(node: Node) -> None:
    node.hardware.change("node1", 1, delay_ms=1000)
    node.until(lambda view: view.gpus[1].slow)
    until = time.monotonic() + 6
    while time.monotonic() < until:
        view = node.view()
        assert [gpu.status for gpu in view.gpus] == [UP, UP, UP, UP]
        assert all("load" in view.gpus[number].groups for number in (0, 2, 3))
        time.sleep(0.1)
    node.hardware.change("node1", 1, delay_ms=0)


def test_a_hang_in_one_group_costs_that_group_alone(node: Node) -> None:
    node.hang(3, where="load")
    node.until(lambda view: view.gpus[3].left_out == ("load",))
    node.shows(UP, UP, UP, UP)
    groups = node.view().gpus[3].groups
    assert "load" not in groups
    assert "health" in groups
    node.hang(3, hung=False)
    node.until(lambda view: view.gpus[3].left_out == () and "load" in view.gpus[3].groups)


def test_all_hung_at_once_are_flagged_and_come_back(node: Node) -> None:
    before = len(node.children())
    node.hang(*range(GPUS))
    node.shows(HUNG, HUNG, HUNG, HUNG)
    node.until(lambda view: node.said.count("left_out") == 2)
    node.hang(*range(GPUS), hung=False)
    node.shows(UP, UP, UP, UP)
    node.until(lambda view: len(node.children()) == before)


def test_started_while_hung_it_costs_that_gpu_alone_under_its_own_name(node: Node) -> None:
    node.supervisor.stop()
    node.hang(1)
    node.begin()
    node.shows(UP, HUNG, UP, UP)
    assert node.view().gpus[1].uuid == node.hardware.gpu("node1", 1).uuid
    node.hang(1, hung=False)
    node.shows(UP, UP, UP, UP)


def test_a_killed_worker_is_replaced_before_anything_is_withheld(node: Node) -> None:
    worker = node.worker()
    os.kill(worker, signal.SIGKILL)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        view = node.view()
        assert [gpu.status for gpu in view.gpus] == [UP, UP, UP, UP]
        assert view.failure == ""
        time.sleep(0.02)
    assert node.worker() != worker
    assert node.view().restarts == 1


def test_a_machine_that_can_watch_no_more_files_for_a_moment_does_not_end_the_reading(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.shows(*[UP] * GPUS)
    selector = node.supervisor._selector
    left = [OSError(errno.ENOSPC, "No space left on device")] * 2

    def register(*given: Any) -> Any:
        if left:
            raise left.pop()
        return type(selector).register(selector, *given)

    monkeypatch.setattr(selector, "register", register)
    os.kill(node.worker(), signal.SIGKILL)
    node.until(lambda _: not left and "supervisor_failed" in node.said)
    node.shows(*[UP] * GPUS)
    assert node.supervisor.is_alive()


def test_released_gpus_are_let_go_and_taken_back_by_themselves(node: Node) -> None:
    assert node.supervisor.release(2.0, wait=3.0)
    assert node.children() == []
    view = node.view()
    assert (view.released, view.failure, view.events_up) == (True, "", False)
    assert [gpu.status for gpu in view.gpus] == [UNKNOWN] * GPUS
    assert 0 < node.supervisor.released_for <= 2
    assert node.shows(UP, UP, UP, UP) > 1
    assert not node.view().released
    node.until(lambda view: view.events_up is True)


def test_a_release_while_one_hangs_ends_that_worker_too_and_can_be_taken_back(node: Node) -> None:
    node.hang(0)
    node.shows(HUNG, UP, UP, UP)
    assert node.supervisor.release(600.0, wait=4.0)
    assert node.children() == []
    node.hang(0, hung=False)
    assert node.supervisor.release(0.0)
    node.shows(UP, UP, UP, UP)


def test_another_driver_means_other_processes_at_once(node: Node) -> None:
    before = set(node.children())
    (node.folder / "proc/driver/nvidia/version").write_text("NVRM version: 571\n")
    node.until(lambda view: not before & set(node.children()))
    node.until(lambda view: view.events_up is True and len(node.children()) == len(before))
    node.shows(UP, UP, UP, UP)


def test_events_are_given_on(node: Node) -> None:
    node.tell("GPU-a xid 79")
    taken: list[tuple[float, object]] = []

    def came(view: NodeSnapshot) -> bool:
        taken.extend(node.gpu_states.take_events())
        return bool(taken)

    node.until(came)
    [(at, event)] = taken
    assert abs(time.time() - at) < PATIENCE
    assert str(event).count("79") == 1


def test_an_event_process_that_is_killed_fails_or_falls_silent_is_replaced(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.reading.event_reader.UP_WITHIN", 0.5)
    monkeypatch.setattr("exporter.reading.event_reader.SILENCE", 1.0)
    events = node.supervisor._events
    assert events is not None
    assert events.child is not None
    os.kill(events.child.pid, signal.SIGKILL)
    node.until(lambda view: view.event_restarts == 1 and view.events_up is True)
    node.tell("- fail 0")
    node.until(lambda view: view.event_restarts == 2 and view.events_up is True)
    (node.folder / "silent").touch()
    node.until(lambda view: view.events_up is False)
    node.until(lambda view: view.event_restarts == 3)
    (node.folder / "silent").unlink()
    node.until(lambda view: view.events_up is True)
    assert [gpu.status for gpu in node.view().gpus] == [UP] * GPUS
