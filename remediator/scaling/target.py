"""How many replicas a workload should have, from the requests that wait for it. Pure.

Scaling out and scaling in have different thresholds, so that a steady queue never moves the size
back and forth: out as soon as more wait than the replicas may have, in only when fewer replicas
would have at most half of what they may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

ROOM_AFTER_SCALE_IN = 0.5


class Why(StrEnum):
    """Why the size changes, or stays."""

    UNKNOWN_DEMAND = "unknown_demand"
    OUT_OF_BOUNDS = "out_of_bounds"
    QUEUE_TOO_LONG = "queue_too_long"
    QUEUE_SHORT = "queue_short"
    FITS = "fits"
    AT_MAXIMUM = "at_maximum"
    AT_MINIMUM = "at_minimum"


@dataclass(frozen=True, slots=True)
class Desired:
    """The replicas to ask for, and why in a word and in a sentence."""

    replicas: int
    why: Why
    text: str


def desired(
    now_replicas: int,
    waiting: float | None,
    *,
    per_replica: float,
    minimum: int,
    maximum: int,
    step: int,
) -> Desired:
    """The size that a workload should have next.

    `waiting` is the number of requests in the queue and `per_replica` how many of them one replica
    may have. At most `step` replicas are added or taken at once, except into the bounds. A queue
    that is not known (None, not a number, negative) changes nothing: unknown is not empty.
    Raises ValueError for bounds, a step or a share that make no sense.
    """
    if not (0 <= minimum <= maximum and step >= 1 and 0 < per_replica < math.inf):
        raise ValueError("give 0 <= minimum <= maximum, a step from 1 and a positive per_replica")
    inside = min(max(now_replicas, minimum), maximum)
    if inside != now_replicas:
        return Desired(
            inside,
            Why.OUT_OF_BOUNDS,
            f"{now_replicas} replicas are outside {minimum} to {maximum}.",
        )
    if waiting is None or not 0 <= waiting < math.inf:
        return Desired(inside, Why.UNKNOWN_DEMAND, "The queue is not known, so the size stays.")
    if waiting > inside * per_replica:
        return _out(inside, waiting, _needed(waiting, per_replica), maximum, step)
    least = _needed(waiting, per_replica * ROOM_AFTER_SCALE_IN)
    if least < inside:
        return _in(inside, waiting, least, minimum, step)
    return Desired(inside, Why.FITS, f"{waiting:g} waiting fits {inside} replicas.")


def _out(now: int, waiting: float, needed: int, maximum: int, step: int) -> Desired:
    if now == maximum:
        text = f"{waiting:g} waiting needs {needed} replicas; {maximum} is the maximum."
        return Desired(now, Why.AT_MAXIMUM, text)
    wanted = min(needed, now + step, maximum)
    return Desired(
        wanted, Why.QUEUE_TOO_LONG, f"{waiting:g} waiting is too much for {now} replicas."
    )


def _in(now: int, waiting: float, least: int, minimum: int, step: int) -> Desired:
    if now == minimum:
        return Desired(now, Why.AT_MINIMUM, f"{minimum} replicas is the minimum.")
    wanted = max(least, now - step, minimum)
    return Desired(
        wanted, Why.QUEUE_SHORT, f"{waiting:g} waiting fits {wanted} replicas with room."
    )


def _needed(waiting: float, share: float) -> int:
    """The fewest replicas whose shares hold the queue. Steps past a rounding of the division."""
    count = math.ceil(waiting / share)
    return count if count * share >= waiting else count + 1
