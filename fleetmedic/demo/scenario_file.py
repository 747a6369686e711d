"""Read a scenario file: YAML that overrides parts of a seed's scenario."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fleetmedic.demo.scenario import Scenario, plan
from fleetmedic.kernel.settings import load

Seconds = Annotated[float, Meta(ge=0, le=60)]
Rank = Annotated[int, Meta(ge=0, le=3)]


class ScenarioFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a scenario file. The seed determines the keys that are not set."""

    seed: Annotated[int, Meta(ge=0)] = 0
    lost_at: Seconds | None = None
    lost_rank: Rank | None = None
    slow_at: Seconds | None = None
    slow_rank: Rank | None = None
    speed: Annotated[float, Meta(ge=0.3, le=0.85)] | None = None
    xid_at: Seconds | None = None
    xid_gpu: Annotated[int, Meta(ge=0, le=7)] | None = None
    xid_count: Annotated[int, Meta(ge=6, le=100)] | None = None
    load_at: Seconds | None = None
    load_rate: Annotated[float, Meta(ge=45, le=90)] | None = None


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises UserError with the path of an invalid key."""
    given = load(path, ScenarioFile)
    changes = {
        key: value
        for key, value in msgspec.structs.asdict(given).items()
        if value is not None and key != "seed"
    }
    return replace(plan(given.seed), **changes)
