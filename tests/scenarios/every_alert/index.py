"""All stories, and the alerts without a story."""

from __future__ import annotations

from every_alert.stories import gpu, job, node, remediator, watchers
from every_alert.story import Story
from rules.render import shipped
from rules.rulefile import Rule

STORIES: tuple[Story, ...] = (
    *gpu.STORIES, *node.STORIES, *job.STORIES, *watchers.STORIES, *remediator.STORIES,
)  # fmt: skip

# Alerts without a story, with the reason.
EXCEPTIONS: dict[str, str] = {
    "GpuDemandForecastExceedsCapacity": (
        "No component exports `forecast_gpu_demand_upper` and `gpu_pool_total` yet (producer `later` in the "
        "catalogue). A page with fake values would only repeat the promtool tests."
    ),
    "RemediatorLaneFailing": (
        "Only an internal error of the remediator raises this alert, not a fault in the fleet. Unit tests cause such an error and "
        "check the counter."
    ),
}


def alerts() -> dict[str, Rule]:
    """The shipped alerts, in the order of their files."""
    return {rule.name: rule for file in shipped() for rule in file.rules() if rule.is_alert}


def factors(stories: tuple[Story, ...] = STORIES) -> dict[int, frozenset[str]]:
    """The factors of these stories, with the categories of the alerts evaluated with each factor."""
    known = alerts()
    found: dict[int, set[str]] = {}
    for story in stories:
        for name in story.raises:
            found.setdefault(story.factor, set()).add(known[name].labels["category"])
    return {factor: frozenset(found[factor]) for factor in sorted(found, reverse=True)}
