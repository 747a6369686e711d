"""Every shipped alert has a story that raises it, or is an exception with a reason."""

from __future__ import annotations

from collections import Counter

import pytest
from every_alert import page
from every_alert.index import EXCEPTIONS, STORIES, alerts, factors
from every_alert.story import Story

RAISED = [name for story in STORIES for name in story.raises]


def test_every_alert_is_in_one_story_or_is_an_exception() -> None:
    """A new alert needs a story in tests/scenarios/every_alert."""
    told = Counter([*RAISED, *EXCEPTIONS])
    assert set(alerts()) == set(told)
    assert [name for name, times in told.items() if times > 1] == []


def test_the_recorded_runs_raised_every_alert_that_has_a_story() -> None:
    """`make scenarios` records the runs."""
    runs = page.records()
    assert [run["prometheus"].partition(".")[0] for run in runs] == ["Prometheus 2", "Prometheus 3"]
    for run in runs:
        assert set(run["took"]) == set(RAISED), run["prometheus"]


def test_the_page_is_what_stories_and_record_say() -> None:
    assert page.PAGE.read_text() == page.markdown(page.records())


def test_nothing_fired_in_the_recorded_runs_while_the_fleet_was_well() -> None:
    for run in page.records():
        well = {state: names for state, names in run["well"].items() if "firing" in state}
        assert not any(well.values()), run["prometheus"]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: next(iter(story.raises)))
def test_a_story_waits_only_for_alerts_that_can_be_raised_before_it(story: Story) -> None:
    before, ahead = set(story.after), list(story.after)
    while ahead:
        name = ahead.pop()
        earlier = next(each for each in STORIES if name in each.raises)
        assert earlier is not story
        assert story.slow or not earlier.slow, "a run without slow stories would wait forever"
        ahead += earlier.after - before
        before |= earlier.after


def test_one_prometheus_sees_everything_and_one_can_be_broken() -> None:
    assert 60 in factors()
    assert sum(factor < 60 for factor in factors()) == 1
