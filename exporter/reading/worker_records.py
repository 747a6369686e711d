"""The roster's record of a process that reads GPUs, and the actions of the roster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.reading.heartbeat import Beat
from exporter.reading.liveness import fast
from exporter.reading.protocol import Lost, Message, Present, Round, Skip, Values
from exporter.reading.suspensions import Target
from exporter.sources.base import Group


class Role(StrEnum):
    """The role of a process."""

    COMMON = "common"
    SUSPECT = "suspect"
    SOLO = "solo"
    PROBE = "probe"


@dataclass(slots=True)
class Post:
    """One process. `slots` are the GPUs that only this process reads; `plan` is what a common worker skips;
    `slow` are the groups in which its GPUs were slow last time."""

    number: int
    role: Role
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

    def record_speed(self, message: Message) -> None:
        """Update the speed of a slow GPU that only this process reads."""
        if isinstance(message, Round):
            self.fast_rounds += 1
        elif isinstance(message, Lost):
            self.slow.clear()
        elif isinstance(message, Present | Values):
            group: Group = message.group if isinstance(message, Values) else "presence"
            if fast(message):
                self.slow.discard(group)
            else:
                self.slow.add(group)
                self.fast_rounds = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """The supervisor's observation of a process; `state` queries the kernel."""

    beat: Beat
    state: Callable[[], str]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process: `plan` is what it skips, or what a probe reads."""

    number: int
    role: Role
    slots: frozenset[int]
    plan: Mapping[int, Skip]
    count: int


@dataclass(frozen=True, slots=True)
class End:
    """End this process; kill it if necessary."""

    number: int


@dataclass(frozen=True, slots=True)
class Order:
    """Send an order to this process (see protocol)."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Hung:
    """This GPU (in this process's numbering) does not respond."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Calls for this GPU return."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class Withhold:
    """This group of this GPU is no longer read."""

    number: int
    slot: int
    group: Group


@dataclass(frozen=True, slots=True)
class Say:
    """Write a log event."""

    event: str
    fields: Mapping[str, object]


Action = Start | End | Order | Hung | Alive | Withhold | Say
