"""Compute the desired number of replicas of a workload from its waiting requests. Pure functions.

Scale-out starts when more requests wait than `per_replica` allows. Scale-in starts only if the
remaining replicas would have at most half of what `per_replica` allows. The difference prevents
oscillation with a steady queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.wording.counts import counted

ROOM_AFTER_SCALE_IN = 0.5


class ScalingReason(StrEnum):
    """The reason why the number of replicas changes or stays."""

    UNKNOWN_DEMAND = "unknown_demand"
    OUT_OF_BOUNDS = "out_of_bounds"
    QUEUE_TOO_LONG = "queue_too_long"
    QUEUE_SHORT = "queue_short"
    FITS = "fits"
    AT_MAXIMUM = "at_maximum"
    AT_MINIMUM = "at_minimum"


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired number of replicas, with the reason as a code and as a sentence."""

    replicas: int
    why: ScalingReason
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
    """Return the desired number of replicas of a workload.

    `waiting` is the number of requests in the queue, `per_replica` the number allowed for each
    replica. At most `step` replicas are added or removed at once, except to return to the range
    `minimum` to `maximum`. An unknown queue (None, NaN, negative) changes nothing. Raises
    ValueError for an invalid range, step or per_replica.
    """
    if not (0 <= minimum <= maximum and step >= 1 and 0 < per_replica < math.inf):
        raise ValueError("expected 0 <= minimum <= maximum, step >= 1 and per_replica > 0")
    inside = min(max(now_replicas, minimum), maximum)
    if inside != now_replicas:
        return Desired(
            inside,
            ScalingReason.OUT_OF_BOUNDS,
            f"The size of {counted(now_replicas, 'replica')} is outside the bounds {minimum} to {maximum}.",
        )
    if waiting is None or not 0 <= waiting < math.inf:
        return Desired(
            inside, ScalingReason.UNKNOWN_DEMAND, "The queue length is unknown, so the size stays."
        )
    if waiting > inside * per_replica:
        return _out(inside, waiting, _needed(waiting, per_replica), maximum, step)
    least = _needed(waiting, per_replica * ROOM_AFTER_SCALE_IN)
    if least < inside:
        return _in(inside, waiting, least, minimum, step)
    return Desired(
        inside,
        ScalingReason.FITS,
        f"{_queue(waiting)} {_fit(waiting)} {counted(inside, 'replica')}.",
    )


def _out(now: int, waiting: float, needed: int, maximum: int, step: int) -> Desired:
    if now == maximum:
        text = f"{_queue(waiting)} {'needs' if waiting == 1 else 'need'} {counted(needed, 'replica')}, but the maximum is {maximum}."
        return Desired(now, ScalingReason.AT_MAXIMUM, text)
    wanted = min(needed, now + step, maximum)
    return Desired(
        wanted,
        ScalingReason.QUEUE_TOO_LONG,
        f"{_queue(waiting)} {'is' if waiting == 1 else 'are'} too many for {counted(now, 'replica')}.",
    )


def _in(now: int, waiting: float, least: int, minimum: int, step: int) -> Desired:
    if now == minimum:
        return Desired(
            now,
            ScalingReason.AT_MINIMUM,
            f"The workload has {counted(minimum, 'replica')}, the minimum.",
        )
    wanted = max(least, now - step, minimum)
    return Desired(
        wanted,
        ScalingReason.QUEUE_SHORT,
        f"{_queue(waiting)} {_fit(waiting)} {counted(wanted, 'replica')} with spare capacity.",
    )


def _needed(waiting: float, share: float) -> int:
    """Return the minimum number of replicas for the queue, at `share` requests per replica. The
    result is exact despite floating-point rounding."""
    count = math.ceil(waiting / share)
    return count if count * share >= waiting else count + 1


def _queue(waiting: float) -> str:
    return counted(float(waiting), "waiting request")


def _fit(waiting: float) -> str:
    return "fits" if waiting == 1 else "fit"
