"""The supervisor over small real processes: restarts, back-off, orderly stop, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetmedic.stack.identity import Mark, alive, identity, marked_processes, own_identity
from fleetmedic.stack.service_supervisor import (
    ServiceSpec,
    ServiceSupervisor,
    delay_after,
    is_looping,
)


def until(holds: Callable[[], object], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def shell(name: str, script: str) -> ServiceSpec:
    return ServiceSpec(name, ("sh", "-c", script))


def test_the_delay_doubles_from_one_second_to_thirty() -> None:
    assert [delay_after([100.0] * n, 100.0) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_deaths_of_long_ago_do_not_count() -> None:
    assert delay_after([0.0, 10.0, 500.0], 500.0) == 1.0
    assert not is_looping([0.0, 1.0, 2.0, 3.0, 500.0], 500.0)
    assert is_looping([400.0, 410.0, 420.0, 430.0, 440.0], 441.0)


def test_a_service_on_hold_starts_when_it_is_told_to(tmp_path: Path) -> None:
    specs = [shell("held", "exec sleep 60"), shell("other", "exec sleep 60")]
    supervisor = ServiceSupervisor(tmp_path, specs, lambda _: None)
    supervisor.hold("held")
    supervisor.start()
    try:
        until(lambda: supervisor.children["other"].running)
        assert supervisor.children["held"].starts == 0
        supervisor.start_one("held")
        assert supervisor.children["held"].running
    finally:
        supervisor.stop()


def test_a_dead_process_comes_back_and_its_death_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = ServiceSupervisor(tmp_path, [shell("worker", "exec sleep 60")], told.append)
    supervisor.start()
    try:
        child = supervisor.children["worker"]
        until(lambda: child.who)
        first = child.who
        assert first is not None
        os.kill(first[0], signal.SIGKILL)
        until(lambda: child.who not in (None, first))
        assert told == [
            f"worker was killed by SIGKILL; restart in 1 s (log: {tmp_path}/logs/worker.log)"
        ]
    finally:
        supervisor.stop()
    assert not alive(child.who)


def test_one_that_dies_on_and_on_shows_its_last_words(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = ServiceSupervisor(
        tmp_path, [shell("bad", "echo no such file; exit 3")], told.append
    )
    child = supervisor.children["bad"]
    child.deaths = [time.monotonic()] * 4
    supervisor.start()
    try:
        until(lambda: len(told) == 2)
        assert told[0].startswith("bad exited with 3; restart in 16 s")
        assert "5 exits in two minutes" in told[1]
        assert "no such file" in told[1]
    finally:
        supervisor.stop()


def test_stop_ends_all_in_reverse_order_with_what_they_started(tmp_path: Path) -> None:
    script = (
        "trap 'echo {0} >>\"{1}/order\"; exit 0' TERM; setsid sleep 60 & "
        'touch "{1}/{0}.ready"; while :; do sleep 0.05; done'
    )
    services = [shell(name, script.format(name, tmp_path)) for name in ("one", "two")]
    supervisor = ServiceSupervisor(tmp_path, services, print)
    supervisor.start()
    until(lambda: all((tmp_path / f"{name}.ready").exists() for name in ("one", "two")))
    supervisor.stop()
    assert (tmp_path / "order").read_text().split() == ["two", "one"]
    assert marked_processes(supervisor.mark) == []


def test_a_stopped_service_stays_stopped_until_it_is_wanted_again(tmp_path: Path) -> None:
    supervisor = ServiceSupervisor(tmp_path, [shell("worker", "exec sleep 60")], print)
    supervisor.start()
    child = supervisor.children["worker"]
    try:
        until(lambda: child.running)
        supervisor.stop_one("worker")
        assert not child.running
        supervisor.start_one("worker")
        assert child.running
    finally:
        supervisor.stop()


def test_a_program_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = ServiceSupervisor(
        tmp_path, [ServiceSpec("ghost", ("/no/such/program",))], told.append
    )
    supervisor.start()
    try:
        until(lambda: told)
        assert "restart in 1 s" in told[0]
    finally:
        supervisor.stop()


PARENT = """
import sys, time
from pathlib import Path
from fleetmedic.stack.service_supervisor import ServiceSpec, ServiceSupervisor
deaf = "trap '' TERM; (setsid sh -c \\"trap '' TERM; sleep 61\\" &) ; while :; do sleep 0.1; done"
s = ServiceSupervisor(Path(sys.argv[1]), [ServiceSpec("deaf", ("sh", "-c", deaf)), ServiceSpec("good", ("sleep", "62"))], print)
s.start()
time.sleep(60)
"""


def test_killing_the_supervisor_leaves_no_process_not_even_a_deaf_one(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=tmp_path)
    who = identity(parent.pid)
    assert who is not None
    mark = Mark.of(who, tmp_path)
    try:
        until(lambda: len(marked_processes(mark)) >= 4)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not marked_processes(mark), 10)


def test_a_mark_tells_two_stacks_of_one_process_apart() -> None:
    one, two = (Mark.of(own_identity(), Path(path)) for path in ("/a", "/b"))
    assert one != two
    assert Mark.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "1:2", "a:b:c"])
def test_a_damaged_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Mark.parse(text)
