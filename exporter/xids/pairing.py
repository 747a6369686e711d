"""Tells an event that two witnesses report from two events. Pure.

The driver and the kernel log both tell of an XID. Each report that finds an unmatched one of the
other witness within a few seconds is that same event; each that finds none is counted and waits for
its like. So identical repeats are counted exactly, however the two are interleaved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Witness = Literal["kernel", "nvml"]
WITNESSES: tuple[Witness, ...] = ("kernel", "nvml")
WINDOW_SECONDS = 5.0
_GRAIN = 0.1  # seconds: a storm waits as a few numbers, not as thousands of times
_KEPT = 2 * WINDOW_SECONDS

# Waiting reports of one kind of event: by witness, [time, how many], oldest first.
Waiting = dict[str, list[tuple[float, int]]]


@dataclass(slots=True)
class Pairs:
    """`open` holds the reports that wait for their like, by what they report; it may be stored."""

    open: dict[str, Waiting]

    def counts(self, what: str, witness: Witness, at: float) -> bool:
        """Whether this report, made at Unix time `at`, is an event that was not yet counted."""
        waiting = self.open.setdefault(what, {})
        other = waiting.get("nvml" if witness == "kernel" else "kernel", [])
        for number, (then, many) in enumerate(other):
            if abs(at - then) <= WINDOW_SECONDS:
                if many > 1:
                    other[number] = (then, many - 1)
                else:
                    del other[number]
                return False
        own = waiting.setdefault(witness, [])
        if own and abs(at - own[-1][0]) < _GRAIN:
            own[-1] = (own[-1][0], own[-1][1] + 1)
        else:
            own.append((round(at, 3), 1))
        return True

    def forget(self, now: float) -> None:
        """Let go of what can no longer be matched at Unix time `now`."""
        for what, waiting in list(self.open.items()):
            for witness, own in list(waiting.items()):
                own[:] = [each for each in own if each[0] >= now - _KEPT]
                if not own:
                    del waiting[witness]
            if not waiting:
                del self.open[what]
