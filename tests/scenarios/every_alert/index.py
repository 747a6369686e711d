"""All stories, and the alerts that none can raise."""

from __future__ import annotations

from every_alert.stories import gpu, job, node, remediator, watchers
from every_alert.story import Story
from rules.render import shipped
from rules.rulefile import Rule

STORIES: tuple[Story, ...] = (
    *gpu.STORIES, *node.STORIES, *job.STORIES, *watchers.STORIES, *remediator.STORIES,
)  # fmt: skip

# Alerts that no story raises, and why.
EXCEPTIONS: dict[str, str] = {
    "GpuDemandForecastExceedsCapacity": (
        "Nothing gives `forecast_gpu_demand_upper` and `gpu_pool_total` yet (producer `later` in the "
        "catalogue). A page of made-up numbers would only repeat the promtool tests."
    ),
    "RemediatorLaneFailing": (
        "Only an error in the remediator's own code raises it. What happens to a fleet is handled and is no "
        "such error; unit tests make a lane fail and count it."
    ),
}


def alerts() -> dict[str, Rule]:
    """The shipped alerts, in the order of their files."""
    return {rule.name: rule for file in shipped() for rule in file.rules() if rule.is_alert}


def factors(stories: tuple[Story, ...] = STORIES) -> dict[int, frozenset[str]]:
    """Each factor that these need, with the categories of the alerts that are judged at it."""
    known = alerts()
    found: dict[int, set[str]] = {}
    for story in stories:
        for name in story.raises:
            found.setdefault(story.factor, set()).add(known[name].labels["category"])
    return {factor: frozenset(found[factor]) for factor in sorted(found, reverse=True)}
