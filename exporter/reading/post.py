"""A process that reads GPUs as the judgement sees it, and what can be done with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.reading.heartbeat import Beat
from exporter.reading.holds import Target
from exporter.reading.protocol import Skip
from exporter.sources.base import Group


class Role(StrEnum):
    """What a process is there for."""

    COMMON = "common"
    SUSPECT = "suspect"
    SOLO = "solo"
    PROBE = "probe"


@dataclass(slots=True)
class Post:
    """One process. `slots` are the GPUs that it alone may be asking; `plan` is what a common worker
    leaves out; `slow` are the groups in which its GPUs were slow the last time."""

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


@dataclass(frozen=True, slots=True)
class Sight:
    """What the supervisor sees of a process; `state` asks the kernel."""

    beat: Beat
    state: Callable[[], str]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process: `plan` is what it leaves out, or what a probe asks."""

    number: int
    role: Role
    slots: frozenset[int]
    plan: Mapping[int, Skip]
    count: int


@dataclass(frozen=True, slots=True)
class End:
    """Let this process end, by force where it does not."""

    number: int


@dataclass(frozen=True, slots=True)
class Order:
    """Tell this process something (see protocol)."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Hung:
    """This GPU, by the number that this process gives it, does not answer."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Calls about this GPU come back."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class Withhold:
    """Nobody reads this group of this GPU any more."""

    number: int
    slot: int
    group: Group


@dataclass(frozen=True, slots=True)
class Say:
    """For the log."""

    event: str
    fields: Mapping[str, object]


Action = Start | End | Order | Hung | Alive | Withhold | Say
