"""What metrics say about the health of a GPU or node. Unknown is neither healthy nor sick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.kernel.labels import Target
from remediator.http import Sample

# Zero on a healthy GPU, and absent where a board or driver has no such thing to say.
WHERE_KNOWN = (
    "gpu_row_remap_pending", "gpu_row_remap_failure", "gpu_retired_pages_pending",
    "gpu_sram_ecc_threshold_exceeded",
)  # fmt: skip
SICK_FOR_SURE = 15.0


class Health(StrEnum):
    """What metrics say about a target."""

    HEALTHY = "healthy"
    SICK = "sick"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """A target's health by its metrics, and a sentence."""

    state: Health
    text: str


def judge_health(
    samples: dict[str, list[Sample]], target: Target, since: float, now: float,
    *, oldest: float, settle: float = SICK_FOR_SURE,
) -> HealthReport:  # fmt: skip
    """Healthy: every sample is newer than `since`, fresh, present and says so. Pure.

    One that says sick within `settle` seconds of a repair may have been on its way: it is unknown then.
    """
    wanted = {"gpu_lost": 0.0, "gpu_up": 1.0, "up": 1.0}
    for name, found in samples.items():
        if name in WHERE_KNOWN and not found:
            continue
        fresh = [one for one in found if one.at > since and now - one.at <= oldest]
        if not fresh:
            return HealthReport(
                Health.UNKNOWN, f"No {name} of {target} was sampled since the repair."
            )
        if wrong := [one for one in fresh if one.value != wanted.get(name, 0.0)]:
            settled = max(one.at for one in wrong) - since >= settle
            text = f"{name} of {target} is {wrong[0].value:g}."
            return HealthReport(Health.SICK if settled else Health.UNKNOWN, text)
    return HealthReport(Health.HEALTHY, f"Metrics of {target} since then say healthy.")
