"""The GPUs, and groups of readings of GPUs, that are left out because a call about them hung."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.reading.protocol import NOTHING, Skip
from exporter.sources.base import Group

# Seconds until what hung is asked again. While a process is stuck inside the kernel each question may
# cost another one, so it is asked rarely, and at once when a stuck process ends.
RETRY_FIRST, RETRY_CAP = 1.0, 4.0
RETRY_FIRST_STUCK, RETRY_CAP_STUCK = 30.0, 600.0

Target = tuple[int, Group | None]
WHOLE: frozenset[Group] = frozenset(("open", "identify", "presence"))


@dataclass(slots=True)
class _Hold:
    retry_at: float
    wait: float


class Holds:
    """What is left out, and when it is asked again. A hold without a group is on the whole GPU."""

    def __init__(self) -> None:
        self._holds: dict[Target, _Hold] = {}

    def __bool__(self) -> bool:
        return bool(self._holds)

    def __contains__(self, target: object) -> bool:
        return target in self._holds

    def targets(self) -> list[Target]:
        """All of them, in a fixed order."""
        return sorted(self._holds, key=lambda target: (target[0], target[1] or ""))

    def add(self, slot: int, group: Group | None, now: float) -> Target:
        """Leave out what hung: the whole GPU when it does not even say that it is there."""
        whole = group is None or group in WHOLE
        if whole:
            for target in [target for target in self._holds if target[0] == slot]:
                del self._holds[target]
        target = (slot, None if whole else group)
        self._holds[target] = _Hold(now + RETRY_FIRST, RETRY_FIRST)
        return target

    def due(self, now: float) -> list[Target]:
        """What is to be asked again now."""
        return [target for target in self.targets() if now >= self._holds[target].retry_at]

    def next_at(self) -> float:
        """When the next question is due."""
        return min((hold.retry_at for hold in self._holds.values()), default=float("inf"))

    def asked(self, targets: Iterable[Target]) -> None:
        """A question is out: none is due until it is settled."""
        for target in targets:
            if target in self._holds:
                self._holds[target].retry_at = float("inf")

    def silent(self, targets: Iterable[Target], now: float, stuck: bool) -> None:
        """These did not answer: ask again, later than the last time."""
        for target in targets:
            hold = self._holds.get(target)
            if hold is None:
                continue
            if stuck:
                hold.wait = min(RETRY_CAP_STUCK, max(RETRY_FIRST_STUCK, hold.wait * 2))
            else:
                hold.wait = min(RETRY_CAP, hold.wait * 2)
            hold.retry_at = now + hold.wait

    def answered(self, target: Target) -> bool:
        """This one answered; whether it had been left out."""
        return self._holds.pop(target, None) is not None

    def hurry(self, now: float) -> None:
        """Ask all again now: something changed."""
        for hold in self._holds.values():
            hold.retry_at = min(hold.retry_at, now)

    def clear(self) -> None:
        """Leave nothing out."""
        self._holds.clear()

    def plan(self) -> dict[int, Skip]:
        """What is left out of which GPU."""
        return planned(self._holds)


def planned(targets: Iterable[Target]) -> dict[int, Skip]:
    """These targets by GPU."""
    plan: dict[int, Skip] = {}
    for slot, group in targets:
        groups = plan.get(slot, NOTHING)
        plan[slot] = None if group is None or groups is None else groups | {group}
    return plan
