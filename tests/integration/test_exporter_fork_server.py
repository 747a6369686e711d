"""Processes that are forked for us: they start, end and die as they should."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.reading.fork_client import ForkClient
from exporter.reading.worker_handle import ChildHandle

pytestmark = pytest.mark.integration
PATIENCE = 20.0  # seconds: a busy machine is slow, not wrong
MODULE = """
import os, signal, sys, time
from exporter.reading.heartbeat import Heartbeat
from exporter.reading.parent import die_with_parent, read_commands, write_to_parent

def main(arguments):
    parent, heartbeat, *words = arguments
    die_with_parent(int(parent))
    beat = Heartbeat.shared(int(heartbeat))
    beat.begin(7, "links")
    write_to_parent((" ".join(words) + "\\n").encode())
    if words[0] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write_to_parent(b"deaf\\n")
    while True:
        for order in read_commands(10):
            if order == "fail":
                raise ZeroDivisionError
            write_to_parent(order.upper().encode() + b"\\n")
"""


@pytest.fixture
def fork_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkClient]:
    (tmp_path / "stand_in.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = ForkClient(["stand_in"])
    yield made
    made.stop()


def until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def lines(child: ChildHandle, count: int) -> list[bytes]:
    found: list[bytes] = []
    until(lambda: found.extend(child.lines()) or len(found) >= count)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_is_given_words_orders_and_a_heartbeat(fork_client: ForkClient) -> None:
    child = ChildHandle(fork_client, "stand_in", ["a b", "c\nd"])
    child.send_command("hello")
    assert lines(child, 3) == [b"a b c", b"d", b"HELLO"]
    assert child.beat()[3:] == (7, "links")
    assert child.state() == "S"
    child.terminate()
    assert child.reap(PATIENCE)
    child.close()


def test_a_process_is_called_in_the_list_of_processes_what_it_is(fork_client: ForkClient) -> None:
    child = ChildHandle(fork_client, "stand_in", ["x"])
    lines(child, 1)
    assert Path(f"/proc/{child.pid}/comm").read_text() == "gpu-stand_in\n"
    child.terminate()
    assert child.reap(PATIENCE)
    child.close()


def test_all_are_forked_from_one_process_that_has_the_modules_loaded(
    fork_client: ForkClient,
) -> None:
    first = ChildHandle(fork_client, "stand_in", ["x"])
    second = ChildHandle(fork_client, "stand_in", ["y"])
    lines(second, 1)
    assert fork_client._process is not None
    children = Path(f"/proc/{fork_client._process.pid}/task/{fork_client._process.pid}/children")
    assert {*map(int, children.read_text().split())} == {first.pid, second.pid}
    for child in (first, second):
        child.terminate()
        assert child.reap(PATIENCE)
        child.close()


def test_one_that_does_not_heed_sigterm_is_killed_after_a_grace(fork_client: ForkClient) -> None:
    child = ChildHandle(fork_client, "stand_in", ["deaf"])
    lines(child, 2)
    child.terminate()
    assert not child.reap(0.2)
    assert not child.poll(time.monotonic() + 1.0)
    assert not child.poll(time.monotonic() + 3.0)
    assert child.reap(PATIENCE)
    assert child.poll(time.monotonic())
    assert not child.stuck(time.monotonic())
    child.close()


def test_one_that_fails_ends_alone(
    fork_client: ForkClient, capfd: pytest.CaptureFixture[str]
) -> None:
    failing, other = (ChildHandle(fork_client, "stand_in", [word]) for word in "xy")
    failing.send_command("fail")
    assert failing.reap(PATIENCE)
    assert "ZeroDivisionError" in capfd.readouterr().err
    until(lambda: failing.lines() is not None and failing.ended)
    other.send_command("hello")
    assert lines(other, 2) == [b"y", b"HELLO"]
    for child in (failing, other):
        child.terminate()
        child.reap(PATIENCE)
        child.close()


def test_when_the_nursery_is_killed_all_end_and_the_next_start_makes_another(
    fork_client: ForkClient,
) -> None:
    child = ChildHandle(fork_client, "stand_in", ["x"])
    lines(child, 1)
    assert fork_client._process is not None
    os.kill(fork_client._process.pid, signal.SIGKILL)
    assert child.reap(PATIENCE)
    child.close()
    until(lambda: fork_client._process is not None and fork_client._process.poll() is not None)
    again = ChildHandle(fork_client, "stand_in", ["y"])
    assert lines(again, 1) == [b"y"]
    again.terminate()
    assert again.reap(PATIENCE)
    again.close()


def test_all_end_with_the_thread_that_started_them(fork_client: ForkClient) -> None:
    pids: list[int] = []

    def start() -> None:
        child = ChildHandle(fork_client, "stand_in", ["x"])
        lines(child, 1)
        assert fork_client._process is not None
        pids.extend((child.pid, fork_client._process.pid))
        child.close()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(pids) == 2
    until(lambda: not any(alive(pid) for pid in pids))


def test_without_pidfds_it_works_by_process_ids(
    fork_client: ForkClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", none)
    child = ChildHandle(fork_client, "stand_in", ["x"])
    lines(child, 1)
    assert not child.poll(time.monotonic())
    child.terminate()
    assert child.reap(PATIENCE)
    child.close()


def test_a_module_that_cannot_be_imported_costs_those_alone_that_need_it(
    fork_client: ForkClient,
) -> None:
    both = ForkClient(["no_such_module_here", "stand_in"])
    child = ChildHandle(both, "stand_in", ["x"])
    assert lines(child, 1) == [b"x"]
    child.terminate()
    child.reap(PATIENCE)
    child.close()
    other = ChildHandle(both, "no_such_module_here", [])
    assert other.reap(PATIENCE)
    other.close()
    both.stop()
