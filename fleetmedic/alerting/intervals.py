"""Validate and evaluate Alertmanager's time intervals, as used in notifications.yml.

The rules are those of Alertmanager 0.25 to 0.33. A time interval that can never be active (month
13, February 30) is rejected too, although Alertmanager accepts it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from fleetmedic.kernel.errors import UserError

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
# Days of each month, January first; February has both lengths.
_LENGTHS = ((31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
Range = tuple[int, int]


class TimeRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time range within a day, as HH:MM. `end_time` is excluded."""

    start_time: str
    end_time: str


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time interval of Alertmanager. All fields must match; an empty field always matches."""

    times: tuple[TimeRange, ...] = ()
    weekdays: tuple[str, ...] = ()
    days_of_month: tuple[str, ...] = ()
    months: tuple[str, ...] = ()
    location: str = "UTC"


@dataclass(frozen=True, slots=True)
class Interval:
    """A parsed time interval.

    `times` are minutes of the day without the end; the other ranges include both ends. Sunday is
    day 0 of the week. A negative day counts from the end of the month; -1 is the last day.
    """

    times: tuple[Range, ...]
    weekdays: tuple[Range, ...]
    days: tuple[Range, ...]
    months: tuple[Range, ...]
    zone: tzinfo

    def contains(self, now: float) -> bool:
        """Return whether the time interval is active at `now` (Unix seconds)."""
        at = datetime.fromtimestamp(now, self.zone)
        minute, weekday = at.hour * 60 + at.minute, at.isoweekday() % 7
        return (
            (not self.times or any(start <= minute < end for start, end in self.times))
            and _within(self.weekdays, weekday)
            and _within(self.months, at.month)
            and (not self.days or _within_month(self.days, at.day, _month_length(at)))
        )


@lru_cache(maxsize=4096)
def interval(window: Window, place: str = "window") -> Interval:
    """Parse a time interval. Raises UserError with `place`, the field, and the fix."""
    found = Interval(
        times=tuple(_times(window, place)),
        weekdays=tuple(_ranges(window.weekdays, f"{place}.weekdays", _weekday)),
        days=tuple(_ranges(window.days_of_month, f"{place}.days_of_month", _day)),
        months=tuple(_ranges(window.months, f"{place}.months", _month)),
        zone=_zone(window.location, f"{place}.location"),
    )
    if found.days and not _has_days(found):
        raise UserError(
            f"{place}.days_of_month: none of the months has these days, so the window never opens. "
            "Correct the days or the months."
        )
    return found


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    return not ranges or any(first <= value <= last for first, last in ranges)


def _within_month(ranges: tuple[Range, ...], day: int, length: int) -> bool:
    for first, last in ranges:
        begin = first if first > 0 else length + first + 1
        end = last if last > 0 else length + last + 1
        if begin <= day <= end:
            return True
    return False


def _month_length(at: datetime) -> int:
    leap = at.year % 4 == 0 and (at.year % 100 != 0 or at.year % 400 == 0)
    return _LENGTHS[at.month - 1][-1 if leap else 0]


def _has_days(found: Interval) -> bool:
    return any(
        _within(found.months, month) and _within_month(found.days, day, length)
        for month, lengths in enumerate(_LENGTHS, start=1)
        for length in lengths
        for day in range(1, length + 1)
    )


def _times(window: Window, place: str) -> Iterator[Range]:
    for number, each in enumerate(window.times):
        at = f"{place}.times[{number}]"
        start, end = (
            _minutes(text, f"{at}.{field}")
            for field, text in (("start_time", each.start_time), ("end_time", each.end_time))
        )
        if start >= end:
            halves = ((each.start_time, "24:00"), ("00:00", each.end_time))
            cure = " and ".join(f"{a}-{b}" for a, b in halves if a != b)
            entries = "two entries" if " and " in cure else "one entry"
            raise UserError(
                f"{at}: start_time {each.start_time} is not before end_time {each.end_time}. A range "
                f"cannot cross midnight: use {entries}, {cure or '00:00-24:00'}."
            )
        yield start, end


def _minutes(text: str, place: str) -> int:
    if not _CLOCK.fullmatch(text):
        raise UserError(
            f"{place}: {text[:40]!r} is not a time; expected HH:MM from 00:00 to 24:00, such as 09:30."
        )
    return int(text[:2]) * 60 + int(text[3:])


def _ranges(
    texts: tuple[str, ...], place: str, parse: Callable[[str, str], Range]
) -> Iterator[Range]:
    for number, text in enumerate(texts):
        yield parse(text, f"{place}[{number}]")


def _ends(text: str, member: Callable[[str], int | None]) -> Range | None:
    """Parse a range `a` or `a:b`. Returns both ends, or None if one end is invalid."""
    parts = text.lower().split(":")
    found = [each for each in map(member, parts) if each is not None]
    return (found[0], found[-1]) if len(found) == len(parts) <= 2 else None


def _weekday(text: str, place: str) -> Range:
    found = _ends(text, lambda name: WEEKDAYS.index(name) if name in WEEKDAYS else None)
    if found is None:
        raise UserError(
            f"{place}: {text[:40]!r} is not a weekday; expected a name such as monday, or a range such "
            "as monday:friday."
        )
    return _forward(found, text, place, "saturday", "sunday")


def _month(text: str, place: str) -> Range:
    def member(name: str) -> int | None:
        number = MONTHS.index(name) + 1 if name in MONTHS else _number(name)
        return number if number is not None and 1 <= number <= 12 else None

    found = _ends(text, member)
    if found is None:
        raise UserError(
            f"{place}: {text[:40]!r} is not a month; expected a name such as may, a number from 1 to 12, "
            "or a range such as may:august."
        )
    return _forward(found, text, place, "december", "january")


def _day(text: str, place: str) -> Range:
    def member(name: str) -> int | None:
        number = _number(name)
        return number if number is not None and 1 <= abs(number) <= 31 else None

    found = _ends(text, member)
    if found is None:
        raise UserError(
            f"{place}: {text[:40]!r} is not a day of the month; expected 1 to 31, -1 to -31 counted from "
            "the end of the month, or a range such as 1:5 or -3:-1."
        )
    first, last = found
    if first < 0 < last:
        raise UserError(
            f"{place}: {text!r} starts with a negative day; the end must be negative too."
        )
    if first < 0 or last > 0:
        return _forward(found, text, place, "31", "1")
    # Alertmanager validates for a month of 28 days, in which day -1 is 27
    if first > 28 + last:
        raise UserError(
            f"{place}: Alertmanager rejects {text!r}, because the end can be before the start in a short "
            f"month. Use positive days, such as {first}:31."
        )
    return found


def _forward(found: Range, text: str, place: str, last: str, first: str) -> Range:
    """Check a range. Raises UserError if its end is before its start.

    `last` and `first` are the last and the first value of the unit, for the fix in the error.
    """
    if found[1] >= found[0]:
        return found
    start, end = text.lower().split(":")
    two = f"use two entries, {start}:{last} and {first}:{end}"
    cure = f"use {end}:{start}" if found[0] < 0 else two
    raise UserError(f"{place}: {text!r} ends before it starts; {cure}.")


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _zone(name: str, place: str) -> tzinfo:
    if name in ("", "UTC"):
        return UTC  # works without a time zone database
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UserError(
            f"{place}: the time zone {name[:60]!r} is unknown on this machine; expected a name of the "
            "time zone database, such as Europe/Berlin."
        ) from None
