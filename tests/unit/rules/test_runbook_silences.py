"""Runbooks of alerts with a playbook explain the effect of a silence on the remediator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.core.model import Playbook
from remediator.playbook_library import load_library

PAGES = Path(__file__).resolve().parents[3] / "docs" / "runbooks"
HEADING = "### What a silence does"
TREATED = {
    alert: playbook
    for playbook in load_library(())
    if not playbook.notify_only
    for alert in playbook.alertnames
}
# Arguments of `fleetmedic why` and `release`, by kind of target.
WHY = {"gpu": "NODE/GPU", "node": "node/NODE", "job": "job/JOB", "workload": "workload/SERVICE"}
RELEASE = {"gpu": "NODE/GPU", "node": "NODE"}


def _section(alert: str) -> str:
    """The subsection "What a silence does", in one line."""
    silence = (PAGES / f"{alert}.md").read_text().partition("\n## Silence\n")[2]
    return " ".join(silence.partition(f"\n{HEADING}\n")[2].split())


def test_exactly_the_alerts_that_a_playbook_treats_have_the_section() -> None:
    assert {"GpuLost", "NodeDown", "TrainingStalled", "InferenceOverProvisioned"} <= set(TREATED)
    have = {page.stem for page in PAGES.glob("*.md") if HEADING in page.read_text().splitlines()}
    assert have == set(TREATED)


@pytest.mark.parametrize(("alert", "playbook"), TREATED.items(), ids=TREATED)
def test_the_section_says_what_is_blocked_who_is_notified_and_how_it_ends(
    alert: str, playbook: Playbook
) -> None:
    text, kind = _section(alert), str(playbook.target)
    for fact in (
        "A silence suppresses this alert.",
        "An inhibition rule or a maintenance window has the same effect.",
        "opens no incident (its record of a fault) for a suppressed alert",
        "the reason names the author and the comment of the silence",
        "until the silence ends",
        "never treated as resolved",
        "After two minutes on hold, the remediator sends a notification.",
        f"`fleetmedic why {WHY[kind]}`",
    ):
        assert fact in text, fact
    release = re.search(r"`fleetmedic release (\S+) --reason ", text)
    assert (release[1] if release else None) == RELEASE.get(kind)
