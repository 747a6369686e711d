"""The worker pool's record of a worker process, and the actions that the pool requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.reading.heartbeat import Beat
from exporter.reading.liveness import is_fast
from exporter.reading.protocol import (
    NOTHING,
    GroupReadings,
    Lost,
    Message,
    Present,
    Round,
    Skip,
    skip_text,
)
from exporter.reading.suspensions import Target
from exporter.sources.base import Group


class WorkerRole(StrEnum):
    """The role of a worker process: common, suspect, solo or probe (see worker_pool)."""

    COMMON = "common"
    SUSPECT = "suspect"
    SOLO = "solo"
    PROBE = "probe"


@dataclass(slots=True)
class PoolWorker:
    """A worker process of the pool.

    `slots` are the numbers of the GPUs that only this process reads. `plan` contains the groups
    that it skips, by GPU. `slow` are the groups in which its GPUs were slow last time.
    """

    number: int
    role: WorkerRole
    started: float
    slots: frozenset[int] = frozenset()
    plan: dict[int, Skip] = field(default_factory=dict)
    targets: set[Target] = field(default_factory=set)
    blamed: Group = "presence"
    overdue_at: float = 0.0
    calls: int = 0
    slow: set[Group] = field(default_factory=set)
    fast_rounds: int = 0
    opened: float | None = None
    triage: bool = False
    failure: str = ""

    def skip_commands(self, plan: Mapping[int, Skip]) -> list[str]:
        """Return the commands that change the skipped groups of this process to `plan`."""
        slots = sorted(plan.keys() | self.plan.keys())
        skips = {slot: plan.get(slot, NOTHING) for slot in slots}
        return [
            f"skip {slot} {skip_text(skip)}"
            for slot, skip in skips.items()
            if skip != self.plan.get(slot, NOTHING)
        ]

    def record_speed(self, message: Message) -> None:
        """Update whether the GPUs of this dedicated worker are still slow, from its latest message."""
        if isinstance(message, Round):
            self.fast_rounds += 1
        elif isinstance(message, Lost):
            self.slow.clear()
        elif isinstance(message, Present | GroupReadings):
            group: Group = message.group if isinstance(message, GroupReadings) else "presence"
            if is_fast(message):
                self.slow.discard(group)
            else:
                self.slow.add(group)
                self.fast_rounds = 0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The supervisor's observation of a worker process. `state` returns its state letter in /proc."""

    beat: Beat
    state: Callable[[], str]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Action: start a process. `plan` contains the groups to skip by GPU (for a probe: the groups
    to read)."""

    number: int
    role: WorkerRole
    slots: frozenset[int]
    plan: Mapping[int, Skip]
    count: int


@dataclass(frozen=True, slots=True)
class EndWorker:
    """Action: end this process, by SIGKILL if necessary."""

    number: int


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Action: send a command to this process (see protocol)."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class MarkHung:
    """Action: mark a GPU (in this process's numbering) as hung."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class MarkResponding:
    """Action: mark a GPU (in this process's numbering) as responding."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class WithholdGroup:
    """Action: remove the values of one metric group of a GPU, because the exporter no longer reads
    this group."""

    number: int
    slot: int
    group: Group


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Action: write an event to the exporter's log."""

    event: str
    fields: Mapping[str, object]


Action = (
    StartWorker | EndWorker | SendCommand | MarkHung | MarkResponding | WithholdGroup | LogEvent
)
