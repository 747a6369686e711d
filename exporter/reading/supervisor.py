"""Supervises the worker processes that read the GPUs, so that a hung GPU does not affect the
others.

The worker pool decides which process reads which GPU. The supervisor's thread executes the
decisions: it starts and ends processes, reads their messages, sends commands, and updates the GPU
states. It also watches the driver's version and the bus, so that the workers reconnect immediately
after the driver was reloaded.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from exporter.gpu_states import GpuStates, WorkerPoolState
from exporter.reading.event_reader import EventReader
from exporter.reading.fork_client import ForkClient
from exporter.reading.kernel_observation import KernelObservation, observe_kernel
from exporter.reading.protocol import plan_text
from exporter.reading.worker_handle import ChildHandle, WorkerHandle
from exporter.reading.worker_pool import WorkerPool
from exporter.reading.worker_records import (
    Action,
    EndWorker,
    LogEvent,
    MarkHung,
    MarkResponding,
    SendCommand,
    StartWorker,
    WithholdGroup,
    WorkerRole,
    WorkerState,
)
from exporter.sources.base import GpuEvent, Group

OBSERVE_EVERY = 1.0
ENDING_TICK = 0.05
STOP_GRACE = 0.5


class WorkerSupervisor(threading.Thread):
    """The thread that owns the worker processes and the event process.

    `source` is the source part of a worker's command line. `events` is the module for the event
    process, empty if the source has no events. `log(event, **fields)` writes to the log.
    """

    def __init__(
        self,
        gpu_states: GpuStates,
        source: list[str],
        intervals: Mapping[Group, float],
        log: Callable[..., None],
        *,
        procfs: Path = Path("/proc"),
        sysfs: Path = Path("/sys"),
        events: str = "",
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._gpu_states = gpu_states
        self._source = source
        self._every = ",".join(f"{group}={every:g}" for group, every in intervals.items())
        self._log = log
        self._observe_kernel: Callable[[], KernelObservation] = lambda: observe_kernel(
            procfs, sysfs
        )
        self._worker_pool = WorkerPool()
        self._workers: dict[int, WorkerHandle] = {}
        self._ending: list[WorkerHandle] = []
        modules = ["exporter.reading.worker", f"exporter.sources.{source[0]}"]
        self._fork_client = ForkClient(
            [*modules, "exporter.reading.events", events] if events else modules
        )
        self._events = EventReader(self._fork_client, events, log) if events else None
        self._event_child: ChildHandle | None = None
        self._logged_error = ""
        self._observation: KernelObservation | None = None
        self._observe_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._halt = threading.Event()
        self._released_until = float("-inf")
        self._all_ended = threading.Event()

    def stop(self) -> None:
        """Stop the worker processes and the supervisor's thread."""
        self._halt.set()
        self._wake_thread()
        self.join(3.0)

    def release(self, seconds: float, wait: float = 0.0) -> bool:
        """Release the GPUs for this number of seconds, so that they can be reset. 0 ends the
        release.

        Waits at most `wait` seconds until all processes have ended, and returns whether they have.
        Returns True if the call ends a release. Thread-safe.
        """
        self._all_ended.clear()
        self._released_until = time.monotonic() + seconds if seconds > 0 else float("-inf")
        self._wake_thread()
        return seconds <= 0 or self._all_ended.wait(wait)

    @property
    def released_for(self) -> float:
        """Remaining seconds of the release; 0 if the GPUs are not released."""
        return max(0.0, self._released_until - time.monotonic())

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 - without this thread, no GPU is read
                    self._recover(error)
        finally:
            self._close()

    def _step(self) -> None:
        now = time.monotonic()
        released = now < self._released_until
        if released:
            self._execute(self._worker_pool.halt())
            self._worker_pool.failure = ""
        self._read_messages()
        self._check_kernel(now)
        if not released:
            observed = self._worker_states()
            stuck = sum(reader.stuck(now) for reader in self._ending)
            self._execute(self._worker_pool.step(time.monotonic(), observed, stuck))
        self._close_ended(time.monotonic())
        self._step_events(now, released)
        if released and not self._ending and (self._events is None or self._events.stopped):
            self._all_ended.set()
        self._publish_state(released)
        self._sleep()

    def _worker_states(self) -> dict[int, WorkerState]:
        return {
            number: WorkerState(reader.beat(), reader.state, reader.ended)
            for number, reader in self._workers.items()
        }

    def _sleep(self) -> None:
        """Wait until a worker's message arrives or the next check is due."""
        now = time.monotonic()
        at = self._worker_pool.wake_at(now, self._worker_states())
        if self._ending:
            at = min(at, now + ENDING_TICK)
        for key, _ in self._selector.select(max(0.0, at - now)):
            if key.fd == self._wake:
                os.eventfd_read(self._wake)

    def _read_messages(self) -> None:
        for number, reader in list(self._workers.items()):
            was_ended = reader.ended
            for message in reader.messages():
                self._gpu_states.apply(message, time.time(), number)
                self._execute(self._worker_pool.handle_message(number, message, time.monotonic()))
            if reader.ended and not was_ended and number in self._workers:
                self._selector.unregister(reader)

    def _check_kernel(self, now: float) -> None:
        """Reconnect or enumerate the GPUs again if the driver's version or the GPUs on the bus
        changed."""
        if now < self._observe_at:
            return
        self._observe_at = now + OBSERVE_EVERY
        seen, before = self._observe_kernel(), self._observation
        self._observation = seen
        if before is None or seen == before:
            return
        self._worker_pool.retry_now(now)
        if seen.driver != before.driver and seen.driver:
            if self._events is not None:
                self._events.restart(now)
            self._execute(self._worker_pool.restart(now, "another driver was loaded"))
        elif seen.driver == before.driver:
            self._command_common("look")

    def _command_common(self, text: str) -> None:
        worker = self._worker_pool.common()
        if worker is not None and worker.number in self._workers:
            self._workers[worker.number].send_command(text)

    def _step_events(self, now: float, released: bool) -> None:
        if self._events is None:
            return
        worker = self._worker_pool.common()
        connected = worker is not None and worker.opened is not None
        wanted = not released and (connected or self._events.child is not None)
        for event in self._events.step(now, wanted):
            self._handle_event(event)
        if self._events.child is not self._event_child:
            if self._event_child is not None:
                self._selector.unregister(self._event_child)
            self._event_child = self._events.child
            if self._event_child is not None:
                self._selector.register(self._event_child, selectors.EVENT_READ)

    def _handle_event(self, event: GpuEvent) -> None:
        self._gpu_states.add_event(event, time.time())
        if event.kind == "unavailable":
            self._command_common("look")
        elif event.kind == "recovery":
            self._command_common("read health")

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, StartWorker):
                self._start(action)
            elif isinstance(action, EndWorker):
                self._end(action.number)
            elif isinstance(action, SendCommand):
                if action.number in self._workers:
                    self._workers[action.number].send_command(action.text)
            elif isinstance(action, MarkHung):
                self._gpu_states.mark_hung(action.slot, time.time(), action.number)
            elif isinstance(action, MarkResponding):
                self._gpu_states.mark_responding(action.slot, time.time(), action.number)
            elif isinstance(action, WithholdGroup):
                self._gpu_states.remove_group(action.slot, action.group, action.number)
            elif isinstance(action, LogEvent):
                self._log(action.event, **action.fields)

    def _start(self, start: StartWorker) -> None:
        mode = {WorkerRole.COMMON: "rounds", WorkerRole.PROBE: "probe"}.get(start.role)
        if mode is None:
            mode = "only:" + ",".join(map(str, sorted(start.slots)))
        counts = (start.count, self._gpu_states.gpu_count)
        reader = WorkerHandle(
            self._fork_client, mode, plan_text(start.plan), counts, self._every, self._source
        )
        self._workers[start.number] = reader
        self._selector.register(reader, selectors.EVENT_READ)

    def _end(self, number: int) -> None:
        reader = self._workers.pop(number, None)
        if reader is None:
            return
        if reader in self._selector.get_map():  # the start may have failed before
            self._selector.unregister(reader)
        reader.terminate()
        self._gpu_states.forget_worker(number)
        self._ending.append(reader)

    def _close_ended(self, now: float) -> None:
        """Close the handles of processes that have ended."""
        for reader in self._ending:
            was_stuck = reader.stuck(now)
            if reader.poll(now):
                reader.close()
                if was_stuck:
                    self._worker_pool.retry_now(now)  # the kernel call that blocked it is over
        self._ending = [reader for reader in self._ending if not reader.closed]

    def _publish_state(self, released: bool) -> None:
        why = self._gpu_states.write_error
        if why != self._logged_error:
            self._logged_error = why
            self._log("inventory_not_saved" if why else "inventory_saved_again", why=why)
        worker_pool, events, now = self._worker_pool, self._events, time.monotonic()
        abandoned = sum(reader.stuck(now) for reader in self._ending)
        left_out = tuple((slot, group or "presence") for slot, group in worker_pool.left_out())
        self._gpu_states.set_worker_pool_state(
            WorkerPoolState(
                failure=worker_pool.failure,
                restarts=worker_pool.restarts,
                stuck=bool(left_out) or abandoned > 0,
                abandoned=abandoned,
                released=released,
                slow=worker_pool.slow(),
                left_out=left_out,
                events_up=None if events is None else events.up(now),
                event_restarts=0 if events is None else events.restarts,
            )
        )

    def _recover(self, error: Exception) -> None:
        """Log an unexpected exception, end all processes, and wait for a second.

        The cause may be a bug, or a machine without free memory or pids.
        """
        why = f"{type(error).__name__}: {error}"[:500]
        self._log("supervisor_failed", why=why)
        self._worker_pool.halt()
        self._worker_pool.failure = why
        for number in list(self._workers):
            self._end(number)
        self._halt.wait(1.0)

    def _wake_thread(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _close(self) -> None:
        for number in list(self._workers):
            self._end(number)
        until = time.monotonic() + STOP_GRACE
        for reader in self._ending:
            if not reader.reap(max(0.0, until - time.monotonic())):
                reader.kill()
                reader.reap(0.2)
            reader.close()
        if self._events is not None:
            self._events.stop()
        self._fork_client.stop()
        self._selector.close()
