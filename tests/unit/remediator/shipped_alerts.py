"""The instruments of the alerts that the shipped rules and the detectors raise, for tests that name alerts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

RULES = Path(__file__).parents[3] / "rules" / "static"
LEARNED = {"GpuPeerOutlier": "peers", "GpuAnomalyScoreHigh": "peers"}


@cache
def instruments() -> dict[str, str]:
    """The label `instrument` of each alert, by the alert's name."""
    # Not parsed as YAML, because that takes longer than most tests.
    text = "".join(path.read_text() for path in sorted(RULES.glob("*.yml")))
    found = re.findall(r"- alert: (\w+)$.*?\binstrument: (\w+)", text, re.MULTILINE | re.DOTALL)
    return dict(found) | LEARNED


def with_instrument(labels: dict[str, str]) -> dict[str, str]:
    """The labels of an alert with the instrument that its rule declares; unchanged for other names."""
    instrument = instruments().get(labels.get("alertname", ""))
    return labels | ({"instrument": instrument} if instrument else {})
