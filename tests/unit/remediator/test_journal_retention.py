"""The retention of the journal, from the settings and the playbooks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from remediator.core.guards import Limits
from remediator.core.retention import DAY, Retention
from remediator.journal_retention import covering, retention_of
from remediator.playbook_library import load_library
from remediator.settings import load_settings
from tests.unit.remediator.core.examples import JOB

RECURRENCE = 7 * DAY


def test_the_defaults_are_two_weeks_in_memory_and_ninety_days_in_the_journal(
    tmp_path: Path,
) -> None:
    assert _load(tmp_path, "") == Retention()
    assert covering(Retention(), load_library(()), 1.0) == Retention()


def _load(folder: Path, more: str) -> Retention:
    path = folder / "remediator.yml"
    path.write_text(f"webhook_token_file: token\nwithout_alertmanager: true\n{more}")
    return load_settings(path).retention


def test_both_times_are_settings_and_zero_keeps_all_events(tmp_path: Path) -> None:
    found = _load(tmp_path, "journal: {memory: 2d, events: 10d}")
    assert (found.memory, found.events) == (2 * DAY, 10 * DAY)
    assert _load(tmp_path, "journal: {events: 0s}").events == math.inf


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("{memory: 1h}", r"\$\.journal\.memory: expected at least 1d"),
        ("{memory: soon}", r"\$\.journal\.memory"),
        ("{events: 5d}", r"\$\.journal\.events: expected 0 .* at least journal\.memory \(14d\)"),
        ("{seconds: 5}", "seconds"),
    ],
)
def test_a_retention_that_is_too_short_is_refused(
    tmp_path: Path, settings: str, error: str
) -> None:
    with pytest.raises(UserError, match=error):
        _load(tmp_path, f"journal: {settings}")


def test_attempts_are_remembered_for_every_window_of_the_playbooks() -> None:
    assert JOB.jobs is not None
    month = replace(JOB, jobs=replace(JOB.jobs, window=30 * DAY))
    short = Retention(memory=DAY, events=2 * DAY)
    assert covering(short, [month], 1.0) == Retention(memory=30 * DAY, events=30 * DAY)
    assert covering(short, [], 1.0).memory == RECURRENCE
    assert covering(short, [], 7.0).memory == DAY
    assert covering(replace(short, events=math.inf), [month], 1.0).events == math.inf


def test_quarantines_are_remembered_for_the_window_of_their_budget() -> None:
    limits = Limits(max_new_window=3 * DAY)
    assert retention_of(14 * DAY, 0, limits, "x").quarantines == 3 * DAY
