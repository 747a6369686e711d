"""The controller of the embedded cluster: a reconciliation loop that runs five times a second.

All its state is in the store and the state directory. So the controller can be killed and restarted
at any time; jobs and workers keep running.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from pathlib import Path

import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.localcluster import store_writes
from fleetmedic.localcluster.attempts import Attempts
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.job_starter import JobStarter
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.processes import Launcher
from fleetmedic.localcluster.replicas import PoolSettings, Replicas
from fleetmedic.localcluster.store import Store

log = structlog.get_logger()
TICK_SECONDS = 0.2
BUSY_TICK_SECONDS = 0.05
HEARTBEAT_SECONDS = 1.0
RECHECK_SECONDS = 2.0
INVENTORY_SECONDS = 10.0
KEEP_OPS_SECONDS = 30 * 86_400.0


class IntervalTimer:
    """A timer for work that is due once per interval."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Return whether the interval has passed since the last due time. Also works if the clock is set back."""
        if self._next - self._seconds <= now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Controller:
    """The controller of a state directory. Only one can run."""

    def __init__(self, state: Path, pool: PoolSettings | None) -> None:
        """Open the store and lock the directory. Raises UserError if another controller has the lock."""
        self._layout = Layout(state)
        self._store = Store(self._layout.cluster)
        self._lock = _sole_owner(self._layout.cluster / "controller.lock")
        self._inventory = Inventory(self._layout.hardware)
        self._launcher = Launcher()
        self._attempts = Attempts(self._store, self._layout, self._inventory, self._launcher)
        self._starts = JobStarter(self._store, self._layout, self._inventory)
        self._pool = Replicas(self._store, self._layout, self._launcher, pool) if pool else None
        self._heartbeat_timer = IntervalTimer(HEARTBEAT_SECONDS)
        self._recheck_timer = IntervalTimer(RECHECK_SECONDS)
        self._inventory_timer = IntervalTimer(INVENTORY_SECONDS)

    def tick(self, now: float) -> float:
        """Run one pass of the reconciliation loop. Returns the seconds until the next pass."""
        if self._inventory_timer.due(now):
            self._take_inventory(now)
        busy = self._attempts.watch(now)
        if self._starts.advance(now):
            busy = self._attempts.watch(now)
        if self._pool is not None:
            self._pool.tick(now)
        if self._recheck_timer.due(now):
            self._starts.recheck_marks()
        if self._heartbeat_timer.due(now):
            self._beat(now)
        self._launcher.reap()
        return BUSY_TICK_SECONDS if busy else TICK_SECONDS

    def close(self) -> None:
        """Close the store and release the lock. Jobs and workers keep running."""
        self._store.close()
        os.close(self._lock)

    def _take_inventory(self, now: float) -> None:
        found = self._inventory.nodes()
        with self._store.write() as db:
            store_writes.write_inventory(db, found)
            db.execute("DELETE FROM ops WHERE at < ?", (now - KEEP_OPS_SECONDS,))

    def _beat(self, now: float) -> None:
        with self._store.write() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('heartbeat', ?)", (repr(now),))


def _sole_owner(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UserError(
            f"{path}: another controller is already running for this state directory. Stop it first."
        ) from None
    return descriptor


def serve(state: Path, pool: PoolSettings | None) -> None:
    """Run the controller until TERM or INT. Raises UserError if the state directory is unusable."""
    wakeup, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the exit of a shim wakes the loop
    controller = Controller(state, pool)
    log.info("controller_started", state=str(state))
    while not stopping:
        pause = controller.tick(time.time())
        if select.select([wakeup], [], [], pause)[0]:
            os.read(wakeup, 512)
    controller.close()
    log.info("controller_stopped")
