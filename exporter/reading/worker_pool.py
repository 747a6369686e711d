"""Assigns the GPUs to processes by the observed state of the processes. Pure; the supervisor acts.

One common worker reads all GPUs. If its call for a GPU is overdue, the worker becomes the suspect of this GPU, and a
new common worker reads the other GPUs. If the call returns in time, the GPU is slow, and this worker becomes its solo
worker. If not, the suspect is ended, and the GPU or group is held (see holds) and retried by a probe. When two GPUs
hang almost at the same time, a probe checks all others."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.reading.heartbeat import Beat
from exporter.reading.liveness import (
    DEADLINE,
    DEADLINES,
    PATIENCE,
    STARVED,
    Finding,
    judge,
    look_at,
)
from exporter.reading.protocol import (
    NOTHING,
    Answered,
    Failed,
    Hello,
    Message,
    Round,
    Skip,
    Slots,
    skip_text,
)
from exporter.reading.suspensions import WHOLE, Holds, Target, planned
from exporter.reading.worker_records import (
    Action,
    Alive,
    End,
    Hung,
    Order,
    Post,
    Role,
    Say,
    Sight,
    Start,
    Withhold,
)
from exporter.sources.base import Group

RESTART_FIRST, RESTART_CAP, RESTART_CAP_OLD, OLD_FAILURE, FAILED_AFTER = 0.25, 3.5, 15.0, 300.0, 3.0
MAX_ABANDONED, MAX_SOLO, FAST_ROUNDS = 3, 8, 5
TRIAGE_WITHIN, TRIAGE_OPEN = 5.0, 2.5
PROBE_LIFE, PROBE_MIN = 30.0, 5.0


class Roster:
    """All processes that read GPUs, and the holds. `failure` is the reason why no GPU is read, or empty."""

    def __init__(self) -> None:
        self.posts: dict[int, Post] = {}
        self.holds = Holds()
        self.failure = "no data has been read yet"
        self.restarts = 0
        self._out: list[Action] = []
        self._next = 0
        self._slots: tuple[int, ...] = ()
        self._start_at = 0.0
        self._wait = RESTART_FIRST
        self._failing_since: float | None = None
        self._blamed_at, self._blamed_slot = float("-inf"), -1
        self._failure: tuple[float, str] | None = None
        self._said = ""

    def step(self, now: float, sights: Mapping[int, Sight], abandoned: int) -> list[Action]:
        """The actions at monotonic time `now`."""
        for post in list(self.posts.values()):
            sight = sights.get(post.number)
            if sight is not None and post.number in self.posts:
                self._judge(post, sight, now, abandoned)
        self._probe(now, abandoned)
        self._serve(now, abandoned)
        if self._failure is not None and now >= self._failure[0]:
            self.failure = self._failure[1]
        return self._take()

    def heard(self, number: int, message: Message, now: float) -> list[Action]:
        """Apply a message of a process."""
        post = self.posts.get(number)
        if post is None:
            return []
        if isinstance(message, Hello):
            post.opened = now
        elif isinstance(message, Failed):
            post.failure = message.why
        elif isinstance(message, Slots):
            self._numbered(post, message)
        elif isinstance(message, Answered):
            self._answered(post, message, now)
        elif post.role is Role.COMMON and isinstance(message, Round):
            self.failure, self._said, self._failure = "", "", None
            self._wait, self._failing_since = RESTART_FIRST, None
        elif post.role is Role.SOLO:
            post.record_speed(message)
        return self._take()

    def restart(self, now: float, why: str) -> list[Action]:
        """Restart all processes immediately and without holds, because another driver was loaded."""
        ended = self.halt()
        self.restarts += 1
        self._start_at, self._wait, self._failing_since = now, RESTART_FIRST, None
        self._say("reader_restarted", why=why)
        return [*ended, *self._take()]

    def halt(self) -> list[Action]:
        """End all processes and remove all holds."""
        for post in list(self.posts.values()):
            self._end(post)
        self.holds.clear()
        self._slots = ()
        return self._take()

    def hurry(self, now: float) -> None:
        """Retry immediately, because something changed."""
        self._start_at = min(self._start_at, now)
        self.holds.hurry(now)

    def slow(self) -> frozenset[int]:
        """The GPUs with a solo worker."""
        return frozenset().union(*(post.slots for post in self._of(Role.SOLO)))

    def left_out(self) -> list[Target]:
        """The GPUs (without a group) and the groups that are not read now."""
        suspects = [(slot, None) for post in self._of(Role.SUSPECT) for slot in sorted(post.slots)]
        return [*suspects, *(t for t in self.holds.targets() if (t[0], None) not in suspects)]

    def common(self) -> Post | None:
        """The worker that reads all healthy GPUs."""
        return next(iter(self._of(Role.COMMON)), None)

    def wake_at(self, now: float, sights: Mapping[int, Sight]) -> float:
        """The time at which the next step is due, unless a message arrives earlier."""
        at = min(now + 1.0, self.holds.next_at())
        if self.common() is None:
            at = min(at, self._start_at if self._start_at > now else now + 0.1)
        for post in self.posts.values():
            if post.role is Role.COMMON and post.number in sights:
                # A due time in the past was already judged: the process waits for a CPU or is stopped.
                due = look_at(self._hurried(sights[post.number].beat, now), patient=False)
                at = min(at, due if due > now else now + 0.2)
            elif post.role is Role.SUSPECT or post.triage:
                at = min(at, now + 0.1)
            elif post.role is Role.SOLO:
                at = min(at, now + 0.3)
        return max(at, now + 0.01)

    # Observations of each process

    def _judge(self, post: Post, sight: Sight, now: float, abandoned: int) -> None:
        if sight.ended:
            self._ended(post, now, abandoned)
        elif post.role is Role.COMMON:
            self._judge_common(post, sight, now)
        elif post.role is Role.SUSPECT:
            self._judge_suspect(post, sight.beat, now)
        elif post.role is Role.SOLO:
            self._judge_solo(post, sight, now)
        else:
            self._judge_probe(post, sight, now, abandoned)

    def _judge_common(self, post: Post, sight: Sight, now: float) -> None:
        beat = self._hurried(sight.beat, now)
        if now < look_at(beat, patient=False):
            return
        finding = judge(beat, now, sight.state(), patient=False)
        if finding is Finding.UNCONNECTED:
            self._lose(post, now, f"the driver did not respond within {DEADLINES['open']:g} s")
        elif finding is Finding.SILENT:
            self._lose(post, now, "the GPU worker process stopped responding")
        elif finding is not Finding.FINE and beat.slot is not None and beat.group is not None:
            self._leave(post, beat.slot, beat.group, beat, finding, now)

    def _hurried(self, beat: Beat, now: float) -> Beat:
        """Right after a hang, another process still keeps the driver open, so connecting is fast and the
        short deadline applies."""
        if beat.group == "identify" and now - self._blamed_at < TRIAGE_WITHIN:
            return beat._replace(group="presence")
        return beat

    def _leave(
        self, post: Post, slot: int, group: Group, beat: Beat, finding: Finding, now: float
    ) -> None:
        """Assign only this GPU to the worker; a new common worker reads the others."""
        post.slots, post.blamed = frozenset((slot,)), group
        post.overdue_at, post.calls = beat.at, beat.calls
        self.restarts += 1
        self._start_at = now
        if finding is Finding.HOGGED:
            self._own(post, slot, group, now)
        else:
            post.role = Role.SUSPECT
            self._out.append(Hung(post.number, slot))
            self._say("gpu_does_not_answer", slot=slot, group=group)
            if now - self._blamed_at < TRIAGE_WITHIN and slot != self._blamed_slot:
                self._triage(now)
        self._blamed_at, self._blamed_slot = now, slot

    def _own(self, post: Post | None, slot: int, group: Group, now: float) -> None:
        """Assign a slow GPU to a solo worker, or to the last one when the maximum is reached."""
        solos = self._of(Role.SOLO)
        if len(solos) >= MAX_SOLO:
            if post is not None:
                self._end(post)
            post = solos[-1]
            post.slots |= {slot}
        elif post is None:
            post = self._add(Role.SOLO, now, slots=frozenset((slot,)))
            self._start(post)
        post.role, post.fast_rounds = Role.SOLO, 0
        post.slow.add("presence" if group in WHOLE else group)
        slots = ",".join(map(str, sorted(post.slots)))
        self._out.append(Order(post.number, f"only {slots}"))
        self._say("gpu_slow", slot=slot, group=group)

    def _judge_suspect(self, post: Post, beat: Beat, now: float) -> None:
        [slot] = post.slots
        if beat.calls != post.calls:
            post.calls = beat.calls
            self._own(post, slot, post.blamed, now)
            if beat.slot == slot:
                self._out.append(Alive(post.number, slot))
        elif now - post.overdue_at > PATIENCE:
            self._hold(post, slot, post.blamed, now)

    def _hold(self, post: Post, slot: int, group: Group, now: float) -> None:
        target = self.holds.add(slot, group, now)
        if target[1] is not None:
            self._out.append(Withhold(post.number, slot, target[1]))
        self._say("left_out", slot=slot, group=target[1] or "all")
        self._end(post)

    def _judge_solo(self, post: Post, sight: Sight, now: float) -> None:
        beat = sight.beat
        if beat.calls != post.calls:
            post.calls = beat.calls
            if beat.slot is not None and beat.slot in post.slots:
                self._out.append(Alive(post.number, beat.slot))
        finding = judge(beat, now, sight.state(), patient=True)
        if finding is Finding.FINE:
            if post.fast_rounds >= FAST_ROUNDS and not post.slow:
                self._say("gpu_fast_again", slots=sorted(post.slots))
                self._end(post)
        elif finding is Finding.OVERDUE and beat.slot in post.slots and beat.group is not None:
            self._out.append(Hung(post.number, beat.slot))
            self._hold(post, beat.slot, beat.group, now)
        else:
            self._end(post)  # the common worker reads its GPUs again

    def _judge_probe(self, post: Post, sight: Sight, now: float, abandoned: int) -> None:
        if post.triage and post.opened is not None:
            late = DEADLINE * (STARVED if sight.state() == "R" else 1.0)
            if now - post.opened > late:
                self._found_silent(post, now)
        elif post.triage and now - post.started > TRIAGE_OPEN:
            post.triage = False
        life = PROBE_LIFE if post.opened is not None else DEADLINES["open"]
        if now - (post.opened or post.started) > life:
            self._end_probe(post, now, abandoned)

    def _found_silent(self, post: Post, now: float) -> None:
        post.triage = False
        for slot in sorted({slot for slot, _ in post.targets}):
            self.holds.add(slot, None, now)
            self._out.append(Hung(post.number, slot))
        self._say("gpus_do_not_answer", slots=sorted(slot for slot, _ in post.targets))
        self.holds.asked(post.targets)

    def _ended(self, post: Post, now: float, abandoned: int) -> None:
        if post.role is Role.COMMON:
            self._lose(post, now, post.failure or "the GPU worker process ended")
        elif post.role is Role.PROBE:
            self._end_probe(post, now, abandoned)
        else:
            self._end(post)

    def _lose(self, post: Post, now: float, why: str) -> None:
        """Replace a common worker that failed without a GPU as the cause, after a delay."""
        self._end(post)
        self.restarts += 1
        # A process that just ended is replaced before its values become stale.
        self._failure = (now if post.failure else now + FAILED_AFTER, why)
        if self._failing_since is None:
            self._failing_since = now
        self._start_at = now + self._wait
        if why != self._said:  # logged once, because a driver may be missing for days
            self._said = why
            self._say("reader_lost", why=why, retry_in=round(self._wait, 2))
        old = now - self._failing_since > OLD_FAILURE
        self._wait = min(RESTART_CAP_OLD if old else RESTART_CAP, self._wait * 2)

    # Messages

    def _numbered(self, post: Post, message: Slots) -> None:
        if post.role is not Role.COMMON:
            return
        if self._slots and len(message.slots) != len(self._slots):
            self._say("gpus_numbered_anew", was=len(self._slots), now=len(message.slots))
            for other in list(self.posts.values()):
                if other is not post:
                    self._end(other)
            self.holds.clear()
            post.plan = {}
        self._slots = message.slots

    def _answered(self, post: Post, message: Answered, now: float) -> None:
        target = (message.slot, message.group)
        post.targets.discard(target)
        held = self.holds.answered(target)
        if held:
            self._say("gpu_answers_again", slot=message.slot, group=message.group or "all")
        if DEADLINE < message.slowest <= PATIENCE and message.slot not in self.slow():
            self._own(None, message.slot, message.group or "presence", now)

    # Assignment of processes

    def _serve(self, now: float, abandoned: int) -> None:
        """Keep a common worker running, with the current plan."""
        plan = self._plan()
        post = self.common()
        if post is not None:
            for slot in sorted(plan.keys() | post.plan.keys()):
                skip = plan.get(slot, NOTHING)
                if skip != post.plan.get(slot, NOTHING):
                    self._out.append(Order(post.number, f"skip {slot} {skip_text(skip)}"))
            post.plan = plan
        elif now >= self._start_at and not any(probe.triage for probe in self._of(Role.PROBE)):
            if abandoned >= MAX_ABANDONED:
                why = f"{abandoned} GPU worker processes are stuck in the kernel"
                self._failure = (now, why)
                self._start_at = now + RESTART_CAP
                return
            post = self._add(Role.COMMON, now)
            post.plan = plan
            self._start(post)

    def _plan(self) -> dict[int, Skip]:
        plan = self.holds.plan()
        plan |= dict.fromkeys((s for p in self.posts.values() for s in p.slots), None)
        return plan

    def _triage(self, now: float) -> None:
        plan = self._plan()
        rest: set[Target] = {(slot, None) for slot in self._slots if plan.get(slot, 0) is not None}
        if rest and not any(probe.triage for probe in self._of(Role.PROBE)):
            post = self._add(Role.PROBE, now)
            post.targets, post.triage = rest, True
            self._start(post)

    def _probe(self, now: float, abandoned: int) -> None:
        """Start a probe for the holds that are due."""
        due = self.holds.due(now)
        if not due or abandoned >= MAX_ABANDONED:
            return
        probes = self._of(Role.PROBE)
        if any(probe.triage or now - probe.started < PROBE_MIN for probe in probes):
            return
        for probe in probes:
            due = sorted({*due, *probe.targets}, key=lambda t: (t[0], t[1] or ""))
            self._end(probe)
        post = self._add(Role.PROBE, now)
        post.targets = set(due)
        self.holds.asked(due)
        self._start(post)

    def _end_probe(self, post: Post, now: float, abandoned: int) -> None:
        self.holds.silent(post.targets, now, abandoned > 0)
        self._end(post)

    def _of(self, role: Role) -> list[Post]:
        return [post for post in self.posts.values() if post.role is role]

    def _add(self, role: Role, now: float, slots: frozenset[int] = frozenset()) -> Post:
        self._next += 1
        post = self.posts[self._next] = Post(self._next, role, now, slots)
        return post

    def _start(self, post: Post) -> None:
        plan = planned(post.targets) if post.role is Role.PROBE else dict(post.plan)
        self._out.append(Start(post.number, post.role, post.slots, plan, len(self._slots)))

    def _end(self, post: Post) -> None:
        del self.posts[post.number]
        self._out.append(End(post.number))

    def _say(self, event: str, **fields: object) -> None:
        self._out.append(Say(event, fields))

    def _take(self) -> list[Action]:
        taken, self._out = self._out, []
        return taken
