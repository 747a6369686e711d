"""Decides which worker process reads which GPU. It only returns actions; the supervisor executes them.

One common worker reads all GPUs. A worker with an overdue call becomes the suspect worker for this
GPU, and a new common worker reads the others. If the call returns in time, the suspect becomes the
dedicated (solo) worker of this slow GPU. Otherwise it is ended, and a probe retries the suspended
GPU or group. If two GPUs hang almost at the same time, a probe checks all others.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.reading.heartbeat import Beat
from exporter.reading.liveness import (
    DEADLINE,
    DEADLINES,
    PATIENCE,
    STARVED,
    Liveness,
    check_liveness,
    next_check_at,
)
from exporter.reading.protocol import Answered, Failed, Hello, Message, Round, Skip, Slots
from exporter.reading.suspensions import WHOLE, Suspensions, Target, skips_by_gpu
from exporter.reading.worker_records import (
    Action,
    EndWorker,
    LogEvent,
    MarkHung,
    MarkResponding,
    PoolWorker,
    SendCommand,
    StartWorker,
    WithholdGroup,
    WorkerRole,
    WorkerState,
)
from exporter.sources.base import Group

RESTART_FIRST, RESTART_CAP, RESTART_CAP_OLD, OLD_FAILURE, FAILED_AFTER = 0.25, 3.5, 15.0, 300.0, 3.0
MAX_ABANDONED, MAX_SOLO, FAST_ROUNDS = 3, 8, 5
TRIAGE_WITHIN, TRIAGE_OPEN = 5.0, 2.5
PROBE_LIFE, PROBE_MIN = 30.0, 5.0


class WorkerPool:
    """The pool of all processes that read GPUs. `failure` is the reason why no GPU is read, or empty."""

    def __init__(self) -> None:
        self.workers: dict[int, PoolWorker] = {}
        self.suspensions = Suspensions()
        self.failure = "no data has been read yet"
        self.restarts = 0
        self._actions: list[Action] = []
        self._next = 0
        self._slots: tuple[int, ...] = ()
        self._start_at = 0.0
        self._wait = RESTART_FIRST
        self._failing_since: float | None = None
        self._blamed_at, self._blamed_slot = float("-inf"), -1
        self._failure: tuple[float, str] | None = None
        self._logged = ""

    def step(self, now: float, seen: Mapping[int, WorkerState], abandoned: int) -> list[Action]:
        """Check all processes at monotonic time `now`. Returns the actions for the supervisor.

        `abandoned` counts stuck processes.
        """
        for worker in list(self.workers.values()):
            state = seen.get(worker.number)
            if state is not None and worker.number in self.workers:
                self._check(worker, state, now, abandoned)
        self._probe(now, abandoned)
        self._keep_common(now, abandoned)
        if self._failure is not None and now >= self._failure[0]:
            self.failure = self._failure[1]
        return self._take_actions()

    def handle_message(self, number: int, message: Message, now: float) -> list[Action]:
        """Process a worker's message. Returns the actions for the supervisor."""
        worker = self.workers.get(number)
        if worker is None:
            return []
        if isinstance(message, Hello):
            worker.opened = now
        elif isinstance(message, Failed):
            worker.failure = message.why
        elif isinstance(message, Slots):
            self._handle_slots(worker, message)
        elif isinstance(message, Answered):
            self._handle_answer(worker, message, now)
        elif worker.role is WorkerRole.COMMON and isinstance(message, Round):
            self.failure, self._logged, self._failure = "", "", None
            self._wait, self._failing_since = RESTART_FIRST, None
        elif worker.role is WorkerRole.SOLO:
            worker.record_speed(message)
        return self._take_actions()

    def restart(self, now: float, why: str) -> list[Action]:
        """End all worker processes and suspensions, and restart without delay after a change of the driver."""
        ended = self.halt()
        self.restarts += 1
        self._start_at, self._wait, self._failing_since = now, RESTART_FIRST, None
        self._log("reader_restarted", why=why)
        return [*ended, *self._take_actions()]

    def halt(self) -> list[Action]:
        """End all worker processes and resume suspended readings. Returns the actions for the supervisor."""
        for worker in list(self.workers.values()):
            self._end(worker)
        self.suspensions.clear()
        self._slots = ()
        return self._take_actions()

    def retry_now(self, now: float) -> None:
        """Retry suspended readings now: the driver or PCI devices changed, or a stuck process exited."""
        self._start_at = min(self._start_at, now)
        self.suspensions.retry_now(now)

    def slow(self) -> frozenset[int]:
        """Return the GPUs that have a dedicated worker."""
        return frozenset().union(*(worker.slots for worker in self._of(WorkerRole.SOLO)))

    def left_out(self) -> list[Target]:
        """Return what is not read now: GPUs (without a group), and individual groups of a GPU's readings."""
        suspects = [
            (slot, None) for worker in self._of(WorkerRole.SUSPECT) for slot in sorted(worker.slots)
        ]
        return [*suspects, *(t for t in self.suspensions.targets() if (t[0], None) not in suspects)]

    def common(self) -> PoolWorker | None:
        """Return the worker that reads all healthy GPUs; None if it is not running."""
        return next(iter(self._of(WorkerRole.COMMON)), None)

    def wake_at(self, now: float, seen: Mapping[int, WorkerState]) -> float:
        """Return the monotonic time at which the next step is due, if no message arrives earlier."""
        at = min(now + 1.0, self.suspensions.next_at())
        if self.common() is None:
            at = min(at, self._start_at if self._start_at > now else now + 0.1)
        for worker in self.workers.values():
            if worker.role is WorkerRole.COMMON and worker.number in seen:
                # A due time in the past was already checked: the process waits for a CPU or is stopped.
                due = next_check_at(
                    self._with_short_deadline(seen[worker.number].beat, now), patient=False
                )
                at = min(at, due if due > now else now + 0.2)
            elif worker.role is WorkerRole.SUSPECT or worker.triage:
                at = min(at, now + 0.1)
            elif worker.role is WorkerRole.SOLO:
                at = min(at, now + 0.3)
        return max(at, now + 0.01)

    def _check(self, worker: PoolWorker, seen: WorkerState, now: float, abandoned: int) -> None:
        if seen.ended:
            self._ended(worker, now, abandoned)
        elif worker.role is WorkerRole.COMMON:
            self._check_common(worker, seen, now)
        elif worker.role is WorkerRole.SUSPECT:
            self._check_suspect(worker, seen.beat, now)
        elif worker.role is WorkerRole.SOLO:
            self._check_solo(worker, seen, now)
        else:
            self._check_probe(worker, seen, now, abandoned)

    def _check_common(self, worker: PoolWorker, seen: WorkerState, now: float) -> None:
        beat = self._with_short_deadline(seen.beat, now)
        if now < next_check_at(beat, patient=False):
            return
        finding = check_liveness(beat, now, seen.state(), patient=False)
        if finding is Liveness.UNCONNECTED:
            self._replace_common(
                worker, now, f"the driver did not respond within {DEADLINES['open']:g} s"
            )
        elif finding is Liveness.SILENT:
            self._replace_common(worker, now, "the GPU worker process stopped responding")
        elif finding is not Liveness.FINE and beat.slot is not None and beat.group is not None:
            self._isolate(worker, beat.slot, beat.group, beat, finding, now)

    def _with_short_deadline(self, beat: Beat, now: float) -> Beat:
        """Return the heartbeat with a shorter deadline right after a hang: connecting is then fast."""
        if beat.group == "identify" and now - self._blamed_at < TRIAGE_WITHIN:
            return beat._replace(group="presence")
        return beat

    def _isolate(
        self, worker: PoolWorker, slot: int, group: Group, beat: Beat, finding: Liveness, now: float
    ) -> None:
        """Let this worker read only the GPU of the overdue call. A new common worker reads the others."""
        worker.slots, worker.blamed = frozenset((slot,)), group
        worker.overdue_at, worker.calls = beat.at, beat.calls
        self.restarts += 1
        self._start_at = now
        if finding is Liveness.HOGGED:
            self._assign_solo(worker, slot, group, now)
        else:
            worker.role = WorkerRole.SUSPECT
            self._actions.append(MarkHung(worker.number, slot))
            self._log("gpu_does_not_answer", slot=slot, group=group)
            if now - self._blamed_at < TRIAGE_WITHIN and slot != self._blamed_slot:
                self._triage(now)
        self._blamed_at, self._blamed_slot = now, slot

    def _assign_solo(self, worker: PoolWorker | None, slot: int, group: Group, now: float) -> None:
        """Assign a slow GPU to a dedicated worker. If the maximum number of workers is reached, the
        GPU shares the last one."""
        solos = self._of(WorkerRole.SOLO)
        if len(solos) >= MAX_SOLO:
            if worker is not None:
                self._end(worker)
            worker = solos[-1]
            worker.slots |= {slot}
        elif worker is None:
            worker = self._add(WorkerRole.SOLO, now, slots=frozenset((slot,)))
            self._start(worker)
        worker.role, worker.fast_rounds = WorkerRole.SOLO, 0
        worker.slow.add("presence" if group in WHOLE else group)
        slots = ",".join(map(str, sorted(worker.slots)))
        self._actions.append(SendCommand(worker.number, f"only {slots}"))
        self._log("gpu_slow", slot=slot, group=group)

    def _check_suspect(self, worker: PoolWorker, beat: Beat, now: float) -> None:
        [slot] = worker.slots
        if beat.calls != worker.calls:
            worker.calls = beat.calls
            self._assign_solo(worker, slot, worker.blamed, now)
            if beat.slot == slot:
                self._actions.append(MarkResponding(worker.number, slot))
        elif now - worker.overdue_at > PATIENCE:
            self._suspend(worker, slot, worker.blamed, now)

    def _suspend(self, worker: PoolWorker, slot: int, group: Group, now: float) -> None:
        target = self.suspensions.add(slot, group, now)
        if target[1] is not None:
            self._actions.append(WithholdGroup(worker.number, slot, target[1]))
        self._log("left_out", slot=slot, group=target[1] or "all")
        self._end(worker)

    def _check_solo(self, worker: PoolWorker, seen: WorkerState, now: float) -> None:
        beat = seen.beat
        if beat.calls != worker.calls:
            worker.calls = beat.calls
            if beat.slot is not None and beat.slot in worker.slots:
                self._actions.append(MarkResponding(worker.number, beat.slot))
        finding = check_liveness(beat, now, seen.state(), patient=True)
        if finding is Liveness.FINE:
            if worker.fast_rounds >= FAST_ROUNDS and not worker.slow:
                self._log("gpu_fast_again", slots=sorted(worker.slots))
                self._end(worker)
        elif finding is Liveness.OVERDUE and beat.slot in worker.slots and beat.group is not None:
            self._actions.append(MarkHung(worker.number, beat.slot))
            self._suspend(worker, beat.slot, beat.group, now)
        else:
            self._end(worker)  # the common worker reads its GPUs again

    def _check_probe(
        self, worker: PoolWorker, seen: WorkerState, now: float, abandoned: int
    ) -> None:
        if worker.triage and worker.opened is not None:
            late = DEADLINE * (STARVED if seen.state() == "R" else 1.0)
            if now - worker.opened > late:
                self._suspend_all(worker, now)
        elif worker.triage and now - worker.started > TRIAGE_OPEN:
            worker.triage = False
        life = PROBE_LIFE if worker.opened is not None else DEADLINES["open"]
        if now - (worker.opened or worker.started) > life:
            self._end_probe(worker, now, abandoned)

    def _suspend_all(self, worker: PoolWorker, now: float) -> None:
        worker.triage = False
        for slot in sorted({slot for slot, _ in worker.targets}):
            self.suspensions.add(slot, None, now)
            self._actions.append(MarkHung(worker.number, slot))
        self._log("gpus_do_not_answer", slots=sorted(slot for slot, _ in worker.targets))
        self.suspensions.mark_retrying(worker.targets)

    def _ended(self, worker: PoolWorker, now: float, abandoned: int) -> None:
        if worker.role is WorkerRole.COMMON:
            self._replace_common(worker, now, worker.failure or "the GPU worker process ended")
        elif worker.role is WorkerRole.PROBE:
            self._end_probe(worker, now, abandoned)
        else:
            self._end(worker)

    def _replace_common(self, worker: PoolWorker, now: float, why: str) -> None:
        """Replace a failed common worker after a delay, if no single GPU caused the failure."""
        self._end(worker)
        self.restarts += 1
        # A process that just ended is replaced before its values become stale.
        self._failure = (now if worker.failure else now + FAILED_AFTER, why)
        if self._failing_since is None:
            self._failing_since = now
        self._start_at = now + self._wait
        if why != self._logged:  # logged once, because a driver may be missing for days
            self._logged = why
            self._log("reader_lost", why=why, retry_in=round(self._wait, 2))
        old = now - self._failing_since > OLD_FAILURE
        self._wait = min(RESTART_CAP_OLD if old else RESTART_CAP, self._wait * 2)

    def _handle_slots(self, worker: PoolWorker, message: Slots) -> None:
        if worker.role is not WorkerRole.COMMON:
            return
        if self._slots and len(message.slots) != len(self._slots):
            self._log("gpus_numbered_anew", was=len(self._slots), now=len(message.slots))
            for other in list(self.workers.values()):
                if other is not worker:
                    self._end(other)
            self.suspensions.clear()
            worker.plan = {}
        self._slots = message.slots

    def _handle_answer(self, worker: PoolWorker, message: Answered, now: float) -> None:
        target = (message.slot, message.group)
        worker.targets.discard(target)
        if self.suspensions.remove(target):
            self._log("gpu_answers_again", slot=message.slot, group=message.group or "all")
        if DEADLINE < message.slowest <= PATIENCE and message.slot not in self.slow():
            self._assign_solo(None, message.slot, message.group or "presence", now)

    def _keep_common(self, now: float, abandoned: int) -> None:
        """Keep a common worker running. It skips suspended targets and the GPUs of other workers."""
        plan = self._plan()
        worker = self.common()
        if worker is not None:
            commands = worker.skip_commands(plan)
            self._actions += [SendCommand(worker.number, text) for text in commands]
            worker.plan = plan
        elif now >= self._start_at and not self._in_triage():
            if abandoned >= MAX_ABANDONED:
                why = f"{abandoned} GPU worker processes are stuck in the kernel"
                self._failure = (now, why)
                self._start_at = now + RESTART_CAP
                return
            worker = self._add(WorkerRole.COMMON, now)
            worker.plan = plan
            self._start(worker)

    def _plan(self) -> dict[int, Skip]:
        plan = self.suspensions.plan()
        plan |= dict.fromkeys((s for p in self.workers.values() for s in p.slots), None)
        return plan

    def _triage(self, now: float) -> None:
        plan = self._plan()
        rest: set[Target] = {(slot, None) for slot in self._slots if plan.get(slot, 0) is not None}
        if rest and not self._in_triage():
            worker = self._add(WorkerRole.PROBE, now)
            worker.targets, worker.triage = rest, True
            self._start(worker)

    def _probe(self, now: float, abandoned: int) -> None:
        """Start a probe process that retries the suspended readings that are due."""
        due = self.suspensions.due(now)
        if not due or abandoned >= MAX_ABANDONED:
            return
        probes = self._of(WorkerRole.PROBE)
        if any(probe.triage or now - probe.started < PROBE_MIN for probe in probes):
            return
        for probe in probes:
            due = sorted({*due, *probe.targets}, key=lambda t: (t[0], t[1] or ""))
            self._end(probe)
        worker = self._add(WorkerRole.PROBE, now)
        worker.targets = set(due)
        self.suspensions.mark_retrying(due)
        self._start(worker)

    def _end_probe(self, worker: PoolWorker, now: float, abandoned: int) -> None:
        self.suspensions.record_no_response(worker.targets, now, abandoned > 0)
        self._end(worker)

    def _in_triage(self) -> bool:
        return any(probe.triage for probe in self._of(WorkerRole.PROBE))

    def _of(self, role: WorkerRole) -> list[PoolWorker]:
        return [worker for worker in self.workers.values() if worker.role is role]

    def _add(self, role: WorkerRole, now: float, slots: frozenset[int] = frozenset()) -> PoolWorker:
        self._next += 1
        worker = self.workers[self._next] = PoolWorker(self._next, role, now, slots)
        return worker

    def _start(self, worker: PoolWorker) -> None:
        plan = (
            skips_by_gpu(worker.targets) if worker.role is WorkerRole.PROBE else dict(worker.plan)
        )
        self._actions.append(
            StartWorker(worker.number, worker.role, worker.slots, plan, len(self._slots))
        )

    def _end(self, worker: PoolWorker) -> None:
        del self.workers[worker.number]
        self._actions.append(EndWorker(worker.number))

    def _log(self, event: str, **fields: object) -> None:
        self._actions.append(LogEvent(event, fields))

    def _take_actions(self) -> list[Action]:
        taken, self._actions = self._actions, []
        return taken
