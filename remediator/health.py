"""Judge the health of a GPU or node by its metrics.

UNKNOWN means neither healthy nor unhealthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.kernel.labels import Target
from remediator.prometheus import QuerySample

# Zero on a healthy GPU, and absent if the board or driver does not support the metric.
WHERE_KNOWN = (
    "gpu_row_remap_pending",
    "gpu_row_remap_failure",
    "gpu_retired_pages_pending",
    "gpu_sram_ecc_threshold_exceeded",
)
SICK_FOR_SURE = 15.0


class Health(StrEnum):
    """The health of a target according to its metrics."""

    HEALTHY = "healthy"
    SICK = "sick"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of a target with a description."""

    state: Health
    text: str


def judge_health(
    samples: dict[str, list[QuerySample]],
    target: Target,
    since: float,
    now: float,
    *,
    oldest: float,
    settle: float = SICK_FOR_SURE,
) -> HealthReport:
    """Judge the health of a GPU or node by its samples. Pure.

    The target is healthy if every metric has a healthy sample that is newer than `since` and at
    most `oldest` seconds old. An unhealthy sample within `settle` seconds after a repair (`since`)
    may still show the old state, so it means unknown.
    """
    wanted = {"gpu_lost": 0.0, "gpu_up": 1.0, "up": 1.0}
    for name, found in samples.items():
        if name in WHERE_KNOWN and not found:
            continue
        fresh = [one for one in found if one.at > since and now - one.at <= oldest]
        if not fresh:
            return HealthReport(
                Health.UNKNOWN, f"There is no fresh sample of {name} for {target} since the repair."
            )
        if wrong := [one for one in fresh if one.value != wanted.get(name, 0.0)]:
            settled = max(one.at for one in wrong) - since >= settle
            text = f"Metric {name} of {target} is {wrong[0].value:g}."
            return HealthReport(Health.SICK if settled else Health.UNKNOWN, text)
    return HealthReport(Health.HEALTHY, f"Recent metrics of {target} are healthy.")
