"""The worker pool's record of a process that reads GPUs, and the actions of the pool."""

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
    """The role of a process."""

    COMMON = "common"
    SUSPECT = "suspect"
    SOLO = "solo"
    PROBE = "probe"


@dataclass(slots=True)
class PoolWorker:
    """One process. `slots` are the GPUs that only this process reads; `plan` is what a common worker skips;
    `slow` are the groups in which its GPUs were slow last time."""

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
        """Update the speed of a slow GPU that only this process reads."""
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
    """The supervisor's observation of a process; `state` queries the kernel."""

    beat: Beat
    state: Callable[[], str]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process: `plan` is what it skips, or what a probe reads."""

    number: int
    role: WorkerRole
    slots: frozenset[int]
    plan: Mapping[int, Skip]
    count: int


@dataclass(frozen=True, slots=True)
class EndWorker:
    """End this process; kill it if necessary."""

    number: int


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Send an order to this process (see protocol)."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class MarkHung:
    """This GPU (in this process's numbering) does not respond."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class MarkResponding:
    """Calls for this GPU return."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class WithholdGroup:
    """This group of this GPU is no longer read."""

    number: int
    slot: int
    group: Group


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Write a log event."""

    event: str
    fields: Mapping[str, object]


Action = (
    StartWorker | EndWorker | SendCommand | MarkHung | MarkResponding | WithholdGroup | LogEvent
)
