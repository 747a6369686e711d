"""Is a process that reads GPUs late, and who is to blame? Pure: the looks and the time are given."""

from __future__ import annotations

from enum import StrEnum

from exporter.reading.heartbeat import Beat
from exporter.reading.protocol import Present, Values
from exporter.sources.base import Group

# Seconds until a call counts as hung. Connecting to a driver can take long without persistence mode.
DEADLINES: dict[Group, float] = {"open": 15.0, "identify": 2.0}
DEADLINE = 0.8
PATIENCE = 5.0  # for a GPU that is known to be slow
VISIT = 1.5  # a GPU may hold up the others for so long, however many calls come back
STARVED = 4.0  # a process that waits for a processor gets this much more time
SILENCE = 10.0
ROUND = 1.0
FAST_CALL, FAST_GROUP = 0.4, 0.8


class Finding(StrEnum):
    """What a look at a process finds."""

    FINE = "fine"
    OVERDUE = "overdue"  # a call about one GPU
    HOGGED = "hogged"  # calls about one GPU come back, but they take the others' time
    UNCONNECTED = "unconnected"  # a call about all GPUs
    SILENT = "silent"  # it neither asks nor rests


def limit(group: Group, patient: bool) -> float:
    """Seconds that a call of this group may take."""
    deadline = DEADLINES.get(group, DEADLINE)
    return max(deadline, PATIENCE) if patient else deadline


def judge(beat: Beat, now: float, state: str, *, patient: bool) -> Finding:
    """What to think of a process with this heartbeat, in the state that the kernel says (R: it runs or
    waits for a processor; T: somebody stopped it)."""
    waited = now - beat.at
    if beat.group is None or state in ("T", "t"):
        return Finding.SILENT if waited > SILENCE else Finding.FINE
    more = STARVED if state == "R" else 1.0
    if waited > limit(beat.group, patient) * more:
        return Finding.UNCONNECTED if beat.slot is None else Finding.OVERDUE
    if patient or beat.slot is None or beat.group in DEADLINES:
        return Finding.FINE
    return Finding.HOGGED if now - beat.since > VISIT * more else Finding.FINE


def look_at(beat: Beat, *, patient: bool) -> float:
    """The earliest time at which `judge` may find something."""
    if beat.group is None:
        return beat.at + ROUND + DEADLINE
    late = beat.at + limit(beat.group, patient)
    if patient or beat.slot is None or beat.group in DEADLINES:
        return late
    return min(late, beat.since + VISIT)


def fast(message: Present | Values) -> bool:
    """Whether a slow GPU was fast this time: well below what makes one slow."""
    took = message.took if isinstance(message, Values) else 0.0
    return message.slowest < FAST_CALL and took < FAST_GROUP
