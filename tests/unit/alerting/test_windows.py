"""Maintenance windows: open as Alertmanager's time intervals are, and refused where they cannot be."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.intervals import MONTHS, WEEKDAYS, TimeRange, Window, interval
from fleetmedic.alerting.settings import Maintenance, Notifications
from fleetmedic.alerting.windows import is_open, open_maintenance
from fleetmedic.kernel.errors import UserError

ALWAYS = Window()
NEVER_NOW = Window(months=("june",))
NOW = datetime(2026, 2, 24, 10, 30, 59, tzinfo=UTC).timestamp()  # a Tuesday


def _at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def _times(start: str, end: str) -> Window:
    return Window(times=(TimeRange(start, end),))


@pytest.mark.parametrize(
    ("window", "open_", "closed"),
    [
        (_times("10:00", "10:31"), "2026-02-24T10:30:59", "2026-02-24T10:31:00"),
        (_times("10:00", "11:00"), "2026-02-24T10:00:00", "2026-02-24T09:59:59"),
        (_times("22:00", "24:00"), "2026-02-24T23:59:59", "2026-02-25T00:00:00"),
        (_times("00:00", "06:00"), "2026-02-24T00:00:00", "2026-02-24T06:00:00"),
        (Window(weekdays=("tuesday",)), "2026-02-24T00:00:00", "2026-02-25T00:00:00"),
        (Window(weekdays=("Monday:Friday",)), "2026-02-27T12:00:00", "2026-02-28T12:00:00"),
        (Window(weekdays=("sunday",)), "2026-02-22T12:00:00", "2026-02-23T12:00:00"),
        (Window(weekdays=("friday:saturday", "sunday")), "2026-02-22T12:00:00", "2026-02-26T00:00:00"),
        (Window(days_of_month=("1:5",)), "2026-02-05T23:00:00", "2026-02-06T00:00:00"),
        (Window(days_of_month=("-1",)), "2026-02-28T12:00:00", "2026-02-27T12:00:00"),
        (Window(days_of_month=("-1",)), "2028-02-29T12:00:00", "2028-02-28T12:00:00"),
        (Window(days_of_month=("-3:-1",)), "2026-04-28T12:00:00", "2026-04-27T12:00:00"),
        (Window(days_of_month=("20:-2",)), "2026-04-29T12:00:00", "2026-04-30T12:00:00"),
        # ranges are clamped to the month; one that begins after its end is not moved into it
        (Window(days_of_month=("29:31",)), "2026-04-30T12:00:00", "2026-02-28T12:00:00"),
        (Window(days_of_month=("31",)), "2026-03-31T12:00:00", "2026-04-30T12:00:00"),
        (Window(days_of_month=("-31:-30",)), "2026-04-01T12:00:00", "2026-02-01T12:00:00"),
        (Window(months=("february",)), "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        (Window(months=("2",)), "2026-02-01T00:00:00", "2026-01-31T23:59:59"),
        (Window(months=("may:8",)), "2026-08-31T12:00:00", "2026-09-01T00:00:00"),
        (Window(weekdays=("tuesday",), months=("2",)), "2026-02-24T12:00:00", "2026-03-03T12:00:00"),
        (Window(weekdays=("tuesday",), days_of_month=("24",)), "2026-02-24T12:00:00", "2026-04-24T12:00:00"),
    ],
)  # fmt: skip
def test_a_window_is_open_and_closed_as_its_fields_say(
    window: Window, open_: str, closed: str
) -> None:
    assert is_open(window, _at(open_))
    assert not is_open(window, _at(closed))


def test_the_location_decides_what_time_it_is() -> None:
    window = Window(times=(TimeRange("22:00", "24:00"),), location="Asia/Kolkata")
    assert is_open(window, _at("2026-02-24T22:00:00", "Asia/Kolkata"))
    assert not is_open(window, _at("2026-02-24T22:00:00"))


def test_a_window_follows_daylight_saving_time() -> None:
    window = Window(times=(TimeRange("10:00", "11:00"),), location="Europe/Berlin")
    assert is_open(window, _at("2026-01-15T09:30:00"))
    assert is_open(window, _at("2026-07-15T08:30:00"))
    assert not is_open(window, _at("2026-07-15T09:30:00"))


def test_a_window_without_fields_is_always_open() -> None:
    assert is_open(Window(), NOW)
    assert is_open(Window(location=""), NOW)


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (Window(weekdays=("funday",)), "weekdays[0]: 'funday' is not a weekday"),
        (Window(weekdays=("monday", "mon")), "weekdays[1]: 'mon' is not a weekday"),
        (Window(weekdays=("1",)), "'1' is not a weekday"),
        (Window(weekdays=(" monday",)), "' monday' is not a weekday"),
        (Window(weekdays=("monday:tuesday:friday",)), "is not a weekday"),
        (
            Window(weekdays=("friday:monday",)),
            "use two entries, friday:saturday and sunday:monday.",
        ),
        (Window(days_of_month=("32",)), "days_of_month[0]: '32' is not a day of the month"),
        (Window(days_of_month=("0",)), "'0' is not a day of the month"),
        (Window(days_of_month=("-32:-1",)), "'-32:-1' is not a day of the month"),
        (Window(days_of_month=(" 5",)), "is not a day of the month"),
        (Window(days_of_month=("1_0",)), "is not a day of the month"),
        (Window(days_of_month=("5:1",)), "use two entries, 5:31 and 1:1."),
        (Window(days_of_month=("-1:-3",)), "'-1:-3' ends before it starts; use -3:-1."),
        (Window(days_of_month=("-1:1",)), "the end must be negative too"),
        (Window(days_of_month=("29:-1",)), "Use positive days, such as 29:31"),
        (Window(days_of_month=("30",), months=("february",)), "the window never opens"),
        (Window(days_of_month=("31",), months=("april", "6")), "the window never opens"),
        (Window(months=("13",)), "months[0]: '13' is not a month"),
        (Window(months=("0:5",)), "'0:5' is not a month"),
        (Window(months=("jan",)), "'jan' is not a month"),
        (
            Window(months=("december:february",)),
            "use two entries, december:december and january:february.",
        ),
        (_times("25:00", "26:00"), "times[0].start_time: '25:00' is not a time"),
        (_times("9:00", "10:00"), "'9:00' is not a time"),
        (_times("09:00", "24:01"), "times[0].end_time: '24:01' is not a time"),
        (_times("09:00", "10:00\n"), "is not a time"),
        (_times("22:00", "06:00"), "use two entries, 22:00-24:00 and 00:00-06:00."),
        (_times("22:00", "00:00"), "use one entry, 22:00-24:00."),
        (_times("06:00", "06:00"), "start_time 06:00 is not before end_time 06:00"),
        (Window(location="Mars/Base"), "location: the time zone 'Mars/Base' is unknown"),
        (Window(location="europe/"), "location: the time zone"),
        (Window(location="../UTC"), "location: the time zone"),
        (Window(location="Europe"), "location: the time zone"),
        (Window(location="Local"), "location: the time zone"),
        (Window(location="a\0b"), "location: the time zone"),
        (Window(location="x" * 5000), "location: the time zone"),
    ],
)
def test_what_alertmanager_refuses_or_never_opens_is_one_sentence_with_its_place(
    window: Window, text: str
) -> None:
    with pytest.raises(UserError) as error:
        interval(window, "f.yml: at $.quiet[3]")
    said = str(error.value)
    assert said.startswith("f.yml: at $.quiet[3].")
    assert text in said, said
    assert "\n" not in said


@given(st.text(alphabet="-+:0159 amondyfritu_\n٣", max_size=14))
def test_any_text_is_a_range_or_a_sentence(text: str) -> None:
    for window in (
        Window(weekdays=(text,)),
        Window(days_of_month=(text,)),
        Window(months=(text,)),
        _times(text, "24:00"),
    ):
        with contextlib.suppress(UserError):
            is_open(window, NOW)


@given(st.integers(0, 6), st.integers(0, 6), st.floats(0, 4e9))
def test_a_range_of_weekdays_and_the_days_outside_it_share_no_moment(
    first: int, last: int, now: float
) -> None:
    first, last = sorted((first, last))
    inside = Window(weekdays=(f"{WEEKDAYS[first]}:{WEEKDAYS[last]}",))
    others = tuple(name for day, name in enumerate(WEEKDAYS) if not first <= day <= last)
    assert is_open(inside, now) != bool(others and is_open(Window(weekdays=others), now))


@given(st.integers(1, 31), st.floats(0, 4e9))
def test_a_negative_day_is_the_same_day_counted_from_the_end(day: int, now: float) -> None:
    at = datetime.fromtimestamp(now, UTC)
    following = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    length = (following - datetime(at.year, at.month, 1, tzinfo=UTC)).days
    assert is_open(Window(days_of_month=(str(-day),)), now) == (at.day == length - day + 1)
    assert is_open(Window(months=(MONTHS[at.month - 1],)), now)


def _given(*maintenance: tuple[str, dict[str, str], tuple[Window, ...]]) -> Notifications:
    return Notifications(maintenance=tuple(Maintenance(*each) for each in maintenance))


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"node": "gpu-12-.*"}, True),
        ({"node": "gpu-12"}, False),
        ({"node": "12-3"}, False),
        ({"node": "gpu-11-3|gpu-12-3"}, True),
        ({"node": "gpu-12-.*", "severity": "critical"}, False),
        ({"pool": ".*"}, True),
        ({"pool": ".+"}, False),
        ({"pool": "|a"}, True),
    ],
)
def test_every_expression_matches_the_whole_label_and_a_missing_one_is_empty(
    match: dict[str, str], fits: bool
) -> None:
    found = open_maintenance(_given(("m", match, (ALWAYS,))), {"node": "gpu-12-3"}, NOW)
    assert (found is not None) == fits


def test_the_first_maintenance_with_an_open_window_is_found() -> None:
    given = _given(
        ("closed", {"node": ".*"}, (NEVER_NOW,)),
        ("other", {"node": "b"}, (ALWAYS,)),
        ("second", {"node": "a"}, (NEVER_NOW, ALWAYS)),
        ("third", {"node": "a"}, (ALWAYS,)),
    )
    found = open_maintenance(given, {"node": "a"}, NOW)
    assert found is not None
    assert found.name == "second"
    assert open_maintenance(given, {"node": "c"}, NOW) is None


def test_no_window_mutes_the_watchdog() -> None:
    given = _given(("all", {"cluster": ".*"}, (ALWAYS,)))
    assert open_maintenance(given, {"alertname": "Watchdog", "cluster": "a"}, NOW) is None
    assert open_maintenance(given, {"alertname": "GpuLost", "cluster": "a"}, NOW) is not None


def test_ten_thousand_alerts_are_judged_within_a_second() -> None:
    given = _given(
        *(
            (f"m{n}", {"node": f"rack-{n}-.*", "pool": "a|b"}, (NEVER_NOW, ALWAYS))
            for n in range(10)
        )
    )
    began = time.perf_counter()
    found = [
        open_maintenance(given, {"node": f"rack-{n % 12}-{n}", "pool": "a"}, NOW)
        for n in range(10_000)
    ]
    assert sum(one is not None for one in found) == sum(n % 12 < 10 for n in range(10_000))
    assert time.perf_counter() - began < 1.0
