"""What the shipped rules and the detectors declare in the labels of their alerts, for tests that name alerts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

RULES = Path(__file__).parents[3] / "rules" / "static"
_ALERT = re.compile(r"- alert: (\w+)$.*?\blabels: \{(.*?)\}$", re.MULTILINE | re.DOTALL)


@cache
def declarations() -> dict[str, dict[str, str]]:
    """The labels `instrument` and `reports` of each static alert, by the alert's name."""
    # Not parsed as YAML, because that takes longer than most tests.
    text = "".join(path.read_text() for path in sorted(RULES.glob("*.yml")))
    found = {
        name: dict(re.findall(r"(\w+): (\w+)", labels)) for name, labels in _ALERT.findall(text)
    }
    return {
        name: {key: labels[key] for key in ("instrument", "reports") if key in labels}
        for name, labels in found.items()
    } | _learned()


def _learned() -> dict[str, dict[str, str]]:
    from rules.detectors.registry import DETECTORS

    return {one.alert.name: {"instrument": str(one.alert.instrument)} for one in DETECTORS}


def instruments() -> dict[str, str]:
    """The label `instrument` of each alert, by the alert's name."""
    return {name: labels["instrument"] for name, labels in declarations().items()}


def as_declared(labels: dict[str, str]) -> dict[str, str]:
    """The labels of an alert with those that its rule declares; unchanged for other names."""
    return labels | declarations().get(labels.get("alertname", ""), {})
