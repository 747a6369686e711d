"""Times on the command line are in UTC, like the times in texts, notifications and pages."""

from __future__ import annotations

import time

import pytest

from fleetmedic.terminal.times import instant, moment


def test_a_time_is_in_utc_whatever_the_time_zone_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert moment(1_700_000_000.0) == "2023-11-14 22:13:20 UTC"
        assert instant(1_700_000_000.25) == "2023-11-14 22:13:20.250 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("at", [0.0, -5.0, 1e12])
def test_a_missing_or_impossible_time_is_a_dash(at: float) -> None:
    assert moment(at) == "-"
