"""Detect storms: so much is reported unhealthy at the same time that a shared cause is likely. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fleetmedic.kernel.labels import Target, TargetKind

SHARE = 0.2
LEAST_NODES = 3
LEAST_GPUS = 8
LEAST_JOBS = 2
# How long (seconds, divided by timing.factor) a pool must stay below the limits before a storm ends.
CALM = 600.0


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A pool and the number of GPUs of each of its nodes, by node name."""

    name: str
    gpus: Mapping[str, int]


def storm_in(pool: PoolSize, reported: Collection[Target]) -> str | None:
    """Return a description if hardware alerts report too much of the pool as failed, otherwise None.

    Too much means more than 20 % of the nodes and at least three, or more than 20 % of the GPUs and
    at least eight on at least three nodes. Two reported GPUs of a node count as the node.
    """
    here = {one for one in reported if one.name in pool.gpus}
    gpus = {one for one in here if one.kind is TargetKind.GPU}
    by_node = Counter(one.name for one in gpus)
    nodes = {one.name for one in here if one.kind is TargetKind.NODE}
    nodes |= {name for name, count in by_node.items() if count >= 2}
    if len(nodes) >= LEAST_NODES and len(nodes) > SHARE * len(pool.gpus):
        what = f"{len(nodes)} of {len(pool.gpus)} nodes"
    elif (
        len(gpus) >= LEAST_GPUS
        and len(by_node) >= LEAST_NODES
        and len(gpus) > SHARE * sum(pool.gpus.values())
    ):
        what = f"{len(gpus)} of {sum(pool.gpus.values())} GPUs"
    else:
        return None
    return (
        f"Hardware alerts report {what} of pool {pool.name} as failed at once. No disruptive step starts there "
        "until the pool has stayed below the limit for ten minutes."
    )


def stalled_together(stalled: int, jobs: int) -> str:
    """Return a description if more than 20 % of the running jobs, and at least two, are stalled; otherwise empty."""
    if stalled < LEAST_JOBS or stalled <= SHARE * jobs:
        return ""
    return (
        f"{stalled} of {jobs} running training jobs complete no steps. A shared cause, such as storage or the "
        "network, is likely, and a restart does not help against it. No running job is restarted for this."
    )
