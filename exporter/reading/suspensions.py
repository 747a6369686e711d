"""Suspensions: GPUs, and groups of readings, that are not read because a driver call for them hung."""

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
class _Suspension:
    retry_at: float
    wait: float


class Suspensions:
    """The current suspensions and their retry times. A suspension without a group is for the whole
    GPU."""

    def __init__(self) -> None:
        self._suspensions: dict[Target, _Suspension] = {}

    def __bool__(self) -> bool:
        return bool(self._suspensions)

    def __contains__(self, target: object) -> bool:
        return target in self._suspensions

    def targets(self) -> list[Target]:
        """Return all suspended GPUs and groups of readings, sorted."""
        return sorted(self._suspensions, key=lambda target: (target[0], target[1] or ""))

    def add(self, slot: int, group: Group | None, now: float) -> Target:
        """Suspend a group, or the whole GPU if a call for its presence or identity hung. Returns
        the target."""
        whole = group is None or group in WHOLE
        if whole:
            for target in [target for target in self._suspensions if target[0] == slot]:
                del self._suspensions[target]
        target = (slot, None if whole else group)
        self._suspensions[target] = _Suspension(now + RETRY_FIRST, RETRY_FIRST)
        return target

    def due(self, now: float) -> list[Target]:
        """Return the suspended GPUs and groups of readings that a probe should retry now."""
        return [target for target in self.targets() if now >= self._suspensions[target].retry_at]

    def next_at(self) -> float:
        """Return the monotonic time of the next retry; infinity if nothing is suspended or due."""
        return min(
            (suspension.retry_at for suspension in self._suspensions.values()), default=float("inf")
        )

    def mark_retrying(self, targets: Iterable[Target]) -> None:
        """Record that a retry of these targets has started. They are not due until it ends."""
        for target in targets:
            if target in self._suspensions:
                self._suspensions[target].retry_at = float("inf")

    def record_no_response(self, targets: Iterable[Target], now: float, stuck: bool) -> None:
        """Record that these targets did not respond to a retry, and schedule the next retry after a
        longer wait.

        If a process is `stuck` in the kernel, the wait is longer still.
        """
        for target in targets:
            suspension = self._suspensions.get(target)
            if suspension is None:
                continue
            if stuck:
                suspension.wait = min(RETRY_CAP_STUCK, max(RETRY_FIRST_STUCK, suspension.wait * 2))
            else:
                suspension.wait = min(RETRY_CAP, suspension.wait * 2)
            suspension.retry_at = now + suspension.wait

    def remove(self, target: Target) -> bool:
        """Remove the suspension of a target that responded. Returns whether it was suspended."""
        return self._suspensions.pop(target, None) is not None

    def retry_now(self, now: float) -> None:
        """Make suspended readings due now: the driver or PCI devices changed, or a stuck process exited."""
        for suspension in self._suspensions.values():
            suspension.retry_at = min(suspension.retry_at, now)

    def clear(self) -> None:
        """Remove all suspensions, so that all GPUs and groups are read again."""
        self._suspensions.clear()

    def plan(self) -> dict[int, Skip]:
        """Return the groups of readings that workers must skip, by GPU."""
        return skips_by_gpu(self._suspensions)


def skips_by_gpu(targets: Iterable[Target]) -> dict[int, Skip]:
    """Convert a list of targets to the skipped groups of each GPU."""
    plan: dict[int, Skip] = {}
    for slot, group in targets:
        groups = plan.get(slot, NOTHING)
        plan[slot] = None if group is None or groups is None else groups | {group}
    return plan
