"""Choose the location and time of a demo's faults. Pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

APPLICATION_XIDS = (13, 31, 43)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The faults of one demo. Times are seconds after the jobs have written their first checkpoint.

    `lost_rank` and `slow_rank` select a GPU of a job. `speed` is the slow GPU's clock as a fraction
    of normal. `xid_gpu` is on a node without jobs. `load_rate` is in requests per second.
    """

    seed: int
    lost_at: float
    lost_rank: int
    slow_at: float
    slow_rank: int
    speed: float
    xid_at: float
    xid_gpu: int
    xid: int
    xid_count: int
    load_at: float
    load_rate: float
    load_seconds: float
    training_seed: int


def plan(seed: int, *, gpus_per_job: int = 4, gpus_per_node: int = 8) -> Scenario:
    """Return the scenario of a seed. The same seed gives the same scenario."""
    draw = random.Random(seed)  # noqa: S311 - not a secret
    return Scenario(
        seed=seed,
        lost_at=round(draw.uniform(1.0, 5.0), 2),
        lost_rank=draw.randrange(gpus_per_job),
        slow_at=round(draw.uniform(8.0, 14.0), 2),
        slow_rank=draw.randrange(gpus_per_job),
        speed=round(draw.uniform(0.70, 0.82), 2),
        xid_at=round(draw.uniform(2.0, 6.0), 2),
        xid_gpu=draw.randrange(gpus_per_node),
        xid=draw.choice(APPLICATION_XIDS),
        xid_count=draw.randint(7, 12),
        load_at=round(draw.uniform(3.0, 8.0), 2),
        load_rate=float(draw.randint(55, 70)),
        load_seconds=60.0,
        training_seed=draw.randrange(1_000_000),
    )
