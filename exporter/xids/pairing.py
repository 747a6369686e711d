"""Pairs the reports of two independent sources, so that each error is counted once. Pure.

The driver and the kernel log both report an XID. If the other source has an unpaired report within
a few seconds, both are the same error. Otherwise the report is counted and waits for its
counterpart. So repeated errors are counted exactly, regardless of the order of the reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Witness = Literal["kernel", "nvml"]
WITNESSES: tuple[Witness, ...] = ("kernel", "nvml")
WINDOW_SECONDS = 5.0
_GRAIN = 0.1  # seconds; waiting reports within this time are one entry, so that a burst needs little memory
_KEPT = 2 * WINDOW_SECONDS

# Waiting reports of one kind of event: by source, [time, count], oldest first.
Waiting = dict[str, list[tuple[float, int]]]


@dataclass(slots=True)
class Pairs:
    """Pairs the error reports of the driver and of the kernel log.

    `open` contains the reports that wait for their counterpart, by error. It can be stored.
    """

    open: dict[str, Waiting]

    def counts(self, what: str, witness: Witness, at: float) -> bool:
        """Record a source's report at Unix time `at`. Returns whether the report is a new error."""
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
        """Drop the reports that can no longer be paired at Unix time `now`."""
        for what, waiting in list(self.open.items()):
            for witness, own in list(waiting.items()):
                own[:] = [each for each in own if each[0] >= now - _KEPT]
                if not own:
                    del waiting[witness]
            if not waiting:
                del self.open[what]
