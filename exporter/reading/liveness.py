"""Decides whether a worker process is late, and which GPU causes this. Pure functions."""

from __future__ import annotations

from enum import StrEnum

from exporter.reading.heartbeat import Beat
from exporter.reading.protocol import GroupReadings, Present
from exporter.sources.base import Group

# Seconds until a call counts as hung. Without persistence mode, connecting to the driver can take long.
DEADLINES: dict[Group, float] = {"open": 15.0, "identify": 2.0}
DEADLINE = 0.8
PATIENCE = 5.0  # deadline for a GPU that is known to be slow
VISIT = 1.5  # maximum time for which a GPU may delay the others, even if its calls return
STARVED = 4.0  # factor on the deadlines of a process that waits for a CPU
SILENCE = 10.0
ROUND = 1.0
FAST_CALL, FAST_GROUP = 0.4, 0.8


class Liveness(StrEnum):
    """The result of a liveness check of a worker process."""

    FINE = "fine"
    OVERDUE = "overdue"  # a call for one GPU is late
    HOGGED = "hogged"  # calls for one GPU return, but delay the other GPUs
    UNCONNECTED = "unconnected"  # a call for all GPUs is late
    SILENT = "silent"  # no heartbeat, although the process is not in a call


def deadline_of(group: Group, patient: bool) -> float:
    """Return the deadline of a call for this group, in seconds. `patient` is for GPUs known to be
    slow."""
    deadline = DEADLINES.get(group, DEADLINE)
    return max(deadline, PATIENCE) if patient else deadline


def check_liveness(beat: Beat, now: float, state: str, *, patient: bool) -> Liveness:
    """Check a worker process by its heartbeat and its kernel state.

    `state` is the state letter in /proc (R: running or waiting for a CPU; T: stopped by a signal).
    """
    waited = now - beat.at
    if beat.group is None or state in ("T", "t"):
        return Liveness.SILENT if waited > SILENCE else Liveness.FINE
    more = STARVED if state == "R" else 1.0
    if waited > deadline_of(beat.group, patient) * more:
        return Liveness.UNCONNECTED if beat.slot is None else Liveness.OVERDUE
    if patient or beat.slot is None or beat.group in DEADLINES:
        return Liveness.FINE
    return Liveness.HOGGED if now - beat.since > VISIT * more else Liveness.FINE


def next_check_at(beat: Beat, *, patient: bool) -> float:
    """Return the earliest monotonic time at which `check_liveness` can find a problem."""
    if beat.group is None:
        return beat.at + ROUND + DEADLINE
    late = beat.at + deadline_of(beat.group, patient)
    if patient or beat.slot is None or beat.group in DEADLINES:
        return late
    return min(late, beat.since + VISIT)


def is_fast(message: Present | GroupReadings) -> bool:
    """Return whether a slow GPU responded fast enough this time to count as healthy again."""
    took = message.took if isinstance(message, GroupReadings) else 0.0
    return message.slowest < FAST_CALL and took < FAST_GROUP
