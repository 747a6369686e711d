"""Holds: GPUs, and groups of readings, that are not read because a call for them hung."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.reading.protocol import NOTHING, Skip
from exporter.sources.base import Group

# Seconds until the next retry. While a process is stuck in the kernel, each retry may cost another
# process, so retries are rare; when a stuck process ends, the retry is immediate.
RETRY_FIRST, RETRY_CAP = 1.0, 4.0
RETRY_FIRST_STUCK, RETRY_CAP_STUCK = 30.0, 600.0

Target = tuple[int, Group | None]
WHOLE: frozenset[Group] = frozenset(("open", "identify", "presence"))


@dataclass(slots=True)
class _Hold:
    retry_at: float
    wait: float


class Holds:
    """The current holds and their retry times. A hold without a group covers the whole GPU."""

    def __init__(self) -> None:
        self._holds: dict[Target, _Hold] = {}

    def __bool__(self) -> bool:
        return bool(self._holds)

    def __contains__(self, target: object) -> bool:
        return target in self._holds

    def targets(self) -> list[Target]:
        """All holds, in a fixed order."""
        return sorted(self._holds, key=lambda target: (target[0], target[1] or ""))

    def add(self, slot: int, group: Group | None, now: float) -> Target:
        """Add a hold: on the whole GPU when a call for its presence or identity hung, else on the group."""
        whole = group is None or group in WHOLE
        if whole:
            for target in [target for target in self._holds if target[0] == slot]:
                del self._holds[target]
        target = (slot, None if whole else group)
        self._holds[target] = _Hold(now + RETRY_FIRST, RETRY_FIRST)
        return target

    def due(self, now: float) -> list[Target]:
        """The holds to retry now."""
        return [target for target in self.targets() if now >= self._holds[target].retry_at]

    def next_at(self) -> float:
        """The time of the next retry."""
        return min((hold.retry_at for hold in self._holds.values()), default=float("inf"))

    def asked(self, targets: Iterable[Target]) -> None:
        """A retry is in progress: these holds are not due until it ends."""
        for target in targets:
            if target in self._holds:
                self._holds[target].retry_at = float("inf")

    def silent(self, targets: Iterable[Target], now: float, stuck: bool) -> None:
        """The retry got no response: retry again after a longer wait."""
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
        """The target responded: remove its hold. Returns whether there was one."""
        return self._holds.pop(target, None) is not None

    def hurry(self, now: float) -> None:
        """Retry all holds now, because something changed."""
        for hold in self._holds.values():
            hold.retry_at = min(hold.retry_at, now)

    def clear(self) -> None:
        """Remove all holds."""
        self._holds.clear()

    def plan(self) -> dict[int, Skip]:
        """The groups to skip, by GPU."""
        return planned(self._holds)


def planned(targets: Iterable[Target]) -> dict[int, Skip]:
    """The targets as groups by GPU."""
    plan: dict[int, Skip] = {}
    for slot, group in targets:
        groups = plan.get(slot, NOTHING)
        plan[slot] = None if group is None or groups is None else groups | {group}
    return plan
