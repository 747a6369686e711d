"""Exports the current time, the clock offset, and the clock synchronisation (NTP/PTP)."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Hashable, Iterator
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import read_if_there

_TIME_ERROR = 5
_STA_NANO = 0x2000
_PPM = 1e6 * 65_536  # the kernel's unit of frequency: a millionth, scaled by 2^16


class _TimexStruct(ctypes.Structure):
    """The C struct timex of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *(
            (name, ctypes.c_long)
            for name in ("constant", "precision", "tolerance", "seconds", "fraction", "tick")
        ),
        ("rest", ctypes.c_long * 8),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


class Time:
    """Exports the time at which the metrics page is rendered."""

    name = "time"
    inline = True
    interval = 1.0

    def token(self, now: float) -> Hashable:
        return round(now, 1)

    def collect(self, now: float) -> Iterator[Sample]:
        yield Sample("node_time_seconds", (), round(now, 3))


class Timex:
    """Reads the clock state with adjtimex(2), and the clock source from `sysfs`. Does not adjust
    the clock.

    Exports nothing if the call is forbidden, as in some containers.
    """

    name = "timex"
    inline = False
    interval = 15.0

    def __init__(self, sysfs: Path) -> None:
        self._source = sysfs / "devices/system/clocksource/clocksource0/current_clocksource"
        self._adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex

    def collect(self, now: float) -> Iterator[Sample]:
        if source := read_if_there(self._source):
            yield Sample("node_time_clocksource_current_info", ("0", source), 1)
        found = _TimexStruct()
        state = self._adjtimex(ctypes.byref(found))
        if state < 0:
            failed = ctypes.get_errno()
            if failed in (errno.EPERM, errno.ENOSYS):
                return
            raise CollectorError(f"adjtimex failed: {errno.errorcode.get(failed, failed)}")
        fraction = 1e9 if found.status & _STA_NANO else 1e6
        for name, value in (
            ("sync_status", int(state != _TIME_ERROR)),
            ("offset_seconds", found.offset / fraction),
            ("frequency_adjustment_ratio", 1 + found.freq / _PPM),
            ("maxerror_seconds", found.maxerror / 1e6),
            ("estimated_error_seconds", found.esterror / 1e6),
            ("status", found.status),
            ("loop_time_constant", found.constant),
            ("tick_seconds", found.tick / 1e6),
            ("tai_offset_seconds", found.tai),
        ):
            yield Sample(f"node_timex_{name}", (), value)
