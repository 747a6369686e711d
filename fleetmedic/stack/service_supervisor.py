"""Keep the processes of a stack running: start, restart with back-off, and stop the processes.

One thread starts every child, because the kernel's parent-death signal depends on the thread that
started the child. The children get SIGTERM if this process exits for any reason. The reaper then
ends the processes that ignore SIGTERM, and the jobs, which run in sessions of their own.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetmedic.stack.identity import VARIABLE, Identity, Mark, identity, own_identity
from fleetmedic.stack.logs import bound_log, open_log, quoted_lines
from fleetmedic.stack.reaper import end_jobs, sweep

FIRST_DELAY, LAST_DELAY = 1.0, 30.0
LOOP_DEATHS, LOOP_WINDOW = 5, 120.0
STOP_SECONDS, TURN_SECONDS = 6.0, 1.5
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A process to keep running. `health` is a URL that returns 200 if the process is ready. If it
    is None, there is no check."""

    name: str
    command: tuple[str, ...]
    health: str | None = None
    url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ServiceProcess:
    """The state of a service's process. Times are monotonic seconds."""

    service: ServiceSpec
    log: Path
    wanted: bool = True
    process: subprocess.Popen[bytes] | None = None
    who: Identity | None = None
    pidfd: int = -1
    deaths: list[float] = field(default_factory=list)
    starts: int = 0
    due: float = 0.0

    @property
    def running(self) -> bool:
        """Return whether the service has a process now."""
        return self.process is not None


def delay_after(deaths: Sequence[float], now: float) -> float:
    """Return the back-off in seconds: 1, 2, 4 ... 30, by the number of exits in the last two minutes."""
    recent = sum(1 for at in deaths if at > now - LOOP_WINDOW)
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(max(recent, 1) - 1, 10))


def is_looping(deaths: Sequence[float], now: float) -> bool:
    """Return whether the process is in a crash loop: five exits in two minutes."""
    return sum(1 for at in deaths if at > now - LOOP_WINDOW) >= LOOP_DEATHS


class ServiceSupervisor:
    """Runs services until `stop`. `report` is called with a message when a service exits."""

    def __init__(self, state: Path, services: Sequence[ServiceSpec], report: Report) -> None:
        self._state = state
        self._report = report
        self.mark = Mark.of(own_identity(), state)
        self.children = {
            one.name: ServiceProcess(one, state / "logs" / f"{one.name}.log") for one in services
        }
        self._lock = threading.RLock()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._reaper: subprocess.Popen[bytes] | None = None
        self.on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the reaper process, then the services in order."""
        (self._state / "logs").mkdir(parents=True, exist_ok=True)
        self._reaper = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "fleetmedic.stack.reaper",
                str(self.mark),
                str(self._state),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=without_mark(),
        )
        self._thread.start()

    def hold(self, name: str) -> None:
        """Start one service only when `start_one` is called. Call this before `start`."""
        self.children[name].wanted = False

    def stop_one(self, name: str) -> None:
        """Stop one service, and do not restart it."""
        self._want(name, wanted=False)

    def start_one(self, name: str) -> None:
        """Start a service that `stop_one` stopped."""
        self._want(name, wanted=True)

    def _want(self, name: str, *, wanted: bool) -> None:
        child = self.children[name]
        with self._lock:
            child.wanted, child.due = wanted, 0.0
        self._wake()
        deadline = time.monotonic() + STOP_SECONDS + 2
        while child.running is not wanted and time.monotonic() < deadline:
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the services in reverse order, then all processes that they left. Takes under 10 s."""
        with self._lock:
            self._stopping = True
        if self._thread.ident is not None:
            self._wake()
            self._thread.join(timeout=STOP_SECONDS + 5)
        end_jobs(self._state, grace=2.0)
        sweep(self.mark, grace=1.0)
        if self._reaper is not None:
            self._reaper.kill()
            self._reaper.wait()

    def _wake(self) -> None:
        os.write(self._wake_write, b".")

    def _run(self) -> None:
        while not self._stopping:
            try:
                with self._lock:
                    self._reconcile(time.monotonic())
            except OSError as error:  # a full disk must not end the supervision
                self._report(
                    f"supervisor: {error.strerror}; it continues to supervise the processes"
                )
            self._sleep()
        self._stop_children([child for child in self.children.values() if child.running])

    def _reconcile(self, now: float) -> None:
        for child in self.children.values():
            if child.process is not None and child.process.poll() is not None:
                self._died(child, child.process.returncode, now)
            if child.wanted and not child.running and now >= child.due:
                self._spawn(child)
            elif not child.wanted and child.running:
                self._stop_children([child])
            bound_log(child.log)

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        waiting = [child.due for child in self.children.values() if not child.running]
        for child in self.children.values():
            if child.running and child.pidfd >= 0:
                poll.register(child.pidfd, select.POLLIN)
        until = min([due - time.monotonic() for due in waiting if due > 0], default=5.0)
        for handle, _ in poll.poll(max(0.01, min(until, 5.0)) * 1000):
            if handle == self._wake_read:
                os.read(handle, 4096)

    def _spawn(self, child: ServiceProcess) -> None:
        environment = without_mark() | dict(child.service.environment)
        environment[VARIABLE] = str(self.mark)
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with open_log(child.log) as log:
            try:
                child.process = subprocess.Popen(
                    [*guard, *child.service.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=self._state,
                    env=environment,
                )
            except OSError as error:
                log.write(f"failed to start: {error.strerror}\n".encode())
                self._schedule(child, f"failed to start ({error.strerror})", time.monotonic())
                return
        child.starts += 1
        child.who = identity(child.process.pid)
        child.pidfd = _pidfd(child.process.pid)
        self.on_change()

    def _died(self, child: ServiceProcess, code: int, now: float) -> None:
        self._forget(child)
        if child.wanted:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            )
            self._schedule(child, how, now)
        self.on_change()

    def _schedule(self, child: ServiceProcess, how: str, now: float) -> None:
        child.deaths = [*(at for at in child.deaths if at > now - LOOP_WINDOW), now]
        pause = delay_after(child.deaths, now)
        child.due = now + pause
        name = child.service.name
        self._report(f"{name} {how}; restart in {pause:g} s (log: {child.log})")
        if is_looping(child.deaths, now):
            self._report(
                f"{name} is in a crash loop: {len(child.deaths)} exits in two minutes. Its log ends with:\n"
                + quoted_lines(child.log, 5)
            )

    def _stop_children(self, children: list[ServiceProcess]) -> None:
        """Send TERM in reverse order and wait for each process; KILL those still running at the deadline."""
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(children):
            if child.process is not None:
                child.process.terminate()
                _wait(child.process, min(TURN_SECONDS, deadline - time.monotonic()))
        for child in reversed(children):
            if child.process is not None:
                if not _wait(child.process, deadline - time.monotonic()):
                    child.process.kill()
                    child.process.wait()
                self._forget(child)
        self.on_change()

    def _forget(self, child: ServiceProcess) -> None:
        if child.pidfd >= 0:
            os.close(child.pidfd)
        child.process, child.who, child.pidfd = None, None, -1


def without_mark() -> dict[str, str]:
    """Return this process's environment for a child, without the stack's identifier and without a
    proxy for loopback."""
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    for key in ("NO_PROXY", "no_proxy"):
        given = environment.get(key)
        environment[key] = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    return environment


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True
